/** What is measured of every token in one layer of the dense stream, as columns; filled sequence by sequence. */
import type { Backend } from "../backend.ts";
import { absorb, decayOf } from "../filter/anchor.ts";
import {
  type Anchor,
  ANCHORS,
  createLayerState,
  createScanOutput,
  type LayerSpec,
  type LayerState,
  learnedLayout,
} from "../filter/layer.ts";
import { outcomeOf } from "../filter/learned.ts";
import { KEY_STATES, type KeyState } from "../filter/options.ts";
import { cosines, mean, type Moments, variance } from "../filter/similarity.ts";
import { DistributionBuilder } from "../stats/distribution.ts";
import { f32Data, type Tensor } from "../tensor.ts";
import type { ProbedRows } from "./heads_probe.ts";

/** Which keys, and which anchors. */
export interface ViewKey {
  readonly keyState: KeyState;
  readonly anchor: Anchor;
}

/** All views; the given one first. */
export function listViews(own: ViewKey): ViewKey[] {
  const all = KEY_STATES.flatMap((keyState) => ANCHORS.map((anchor) => ({ keyState, anchor })));
  const isOwn = (view: ViewKey) => view.keyState === own.keyState && view.anchor === own.anchor;
  return [...all.filter(isOwn), ...all.filter((view) => !isOwn(view))];
}

/** What one side (keys in one state, or values) comes to with one kind of anchor. */
export class SideColumns {
  /** Mean over heads of the cosines, [N]; NaN for the first token of a sequence. */
  readonly mu: Float64Array<ArrayBuffer>;
  /** Population variance over heads of the same, [N]. */
  readonly variance: Float64Array<ArrayBuffer>;
  /** Cosines of each head over all tokens. */
  readonly heads: readonly DistributionBuilder[];
  /** Cosines, [N, H]; only where they are to be kept. */
  readonly cosines: Float32Array<ArrayBuffer> | undefined;
  readonly #spec: LayerSpec;
  #anchor = new Float32Array(0);
  #absorbed = 0;

  constructor(spec: LayerSpec, tokens: number, keepsCosines: boolean) {
    this.#spec = spec;
    this.mu = new Float64Array(tokens).fill(NaN);
    this.variance = new Float64Array(tokens).fill(NaN);
    this.heads = Array.from({ length: spec.numKvHeads }, () => new DistributionBuilder());
    this.cosines = keepsCosines ? new Float32Array(tokens * spec.numKvHeads).fill(NaN) : undefined;
  }

  /** Begins a sequence. */
  restart(): void {
    this.#anchor = new Float32Array(this.#spec.numKvHeads * this.#spec.headDim);
    this.#absorbed = 0;
  }

  /** Takes in the next `count` tokens of the sequence, which are tokens [at, at + count) of all. */
  take(x: Float32Array, count: number, at: number): void {
    const size = this.#anchor.length, own = new Float64Array(this.heads.length);
    for (let row = 0; row < count; row++) {
      if (this.#absorbed > 0) {
        cosines(x, row * size, this.#anchor, own);
        const mu = mean(own);
        this.mu[at + row] = mu;
        this.variance[at + row] = variance(own, mu);
        for (let head = 0; head < own.length; head++) this.heads[head]!.add(own[head]!);
        this.cosines?.set(own, (at + row) * own.length);
      }
      absorb(this.#anchor, x, row * size, decayOf(this.#spec, this.#absorbed++));
    }
  }
}

/** A rule's recurrence over the dense stream: it decides, and hears outcomes of what it would keep, but nothing is skipped. */
class ShadowFilter {
  readonly redundancy: Float64Array<ArrayBuffer>;
  readonly threshold: Float64Array<ArrayBuffer>;
  readonly wK: Float64Array<ArrayBuffer>;
  readonly keep: Uint8Array<ArrayBuffer>;
  readonly keyState: KeyState;
  readonly #spec: LayerSpec;
  #chunk = 0;
  #state: LayerState | undefined;
  #weights: Float64Array | undefined;
  #fits = 0;

  constructor(spec: LayerSpec, keyState: KeyState, tokens: number) {
    this.#spec = spec;
    this.keyState = keyState;
    this.redundancy = new Float64Array(tokens).fill(NaN);
    this.threshold = new Float64Array(tokens).fill(NaN);
    this.wK = new Float64Array(tokens).fill(NaN);
    this.keep = new Uint8Array(tokens).fill(1);
  }

  /** Weights of the `learned` rule at the ends of sequences, their mean; empty for another rule. */
  get learnedWeights(): number[] {
    return [...this.#weights ?? []].map((sum) => sum / this.#fits);
  }

  restart(chunk: number): void {
    this.#chunk = chunk;
    this.#state = createLayerState(this.#spec);
  }

  take(backend: Backend, rows: ProbedRows, at: number): void {
    const { count, values, residual, normed, queries, outputNorms, residualNorms } = rows;
    // The signs of `learned` are cached by specification; only `random` reads the chunk.
    const spec = this.#spec.fusion === "random" ? { ...this.#spec, chunk: this.#chunk } : this.#spec;
    const state = this.#state!, output = createScanOutput(count);
    const input = { keys: rows.keys[this.keyState], values, residual, normed, ...(queries && { queries }) };
    for (let start = 0; start < count;) {
      const end = start + backend.kvFilterScan(spec, state, input, start, count - start, output);
      if (spec.fusion === "learned") {
        const y: number[] = [];
        for (let row = start; row < end; row++) {
          if (output.keep[row]) y.push(outcomeOf(outputNorms[row]!, residualNorms[row]!));
        }
        backend.kvFilterObserve(spec, state, Float64Array.from(y));
      }
      start = end;
    }
    this.redundancy.set(output.redundancy, at);
    this.threshold.set(output.threshold, at);
    this.wK.set(output.wK, at);
    this.keep.set(output.keep, at);
  }

  /** Ends a sequence. */
  end(): void {
    if (this.#spec.fusion !== "learned") return;
    const { w, F } = learnedLayout(this.#spec), { learned } = this.#state!;
    this.#weights ??= new Float64Array(F);
    for (let i = 0; i < F; i++) this.#weights[i]! += learned[w + i]!;
    this.#fits++;
  }
}

/** How one layer is to be measured. */
export interface LayerPlan {
  /** The method whose decisions are shown. */
  readonly method: LayerSpec;
  /** The method's own view. */
  readonly view: ViewKey;
  /** The `learned` rule in each view, in the order of `listViews(view)`. */
  readonly learned: readonly LayerSpec[];
}

/** All columns of one layer. */
export class LayerColumns {
  readonly plan: LayerPlan;
  /** True redundancy, [N]. */
  readonly r: Float64Array<ArrayBuffer>;
  /** The method's own decisions. */
  readonly method: ShadowFilter;
  /** The `learned` rule, in the order of `listViews`. */
  readonly learned: readonly ShadowFilter[];
  readonly #sides: ReadonlyMap<string, SideColumns>;

  constructor(plan: LayerPlan, tokens: number) {
    this.plan = plan;
    this.r = new Float64Array(tokens);
    this.method = new ShadowFilter(plan.method, plan.view.keyState, tokens);
    const views = listViews(plan.view);
    this.learned = plan.learned.map((spec, i) => new ShadowFilter(spec, views[i]!.keyState, tokens));
    const side = (source: KeyState | "values", anchor: Anchor) => {
      const own = anchor === plan.view.anchor && (source === "values" || source === plan.view.keyState);
      return [`${source} ${anchor}`, new SideColumns({ ...plan.method, anchor }, tokens, own)] as const;
    };
    this.#sides = new Map(
      ([...KEY_STATES, "values"] as const).flatMap((source) => ANCHORS.map((anchor) => side(source, anchor))),
    );
  }

  /** Keys in a view. */
  keys({ keyState, anchor }: ViewKey): SideColumns {
    return this.#sides.get(`${keyState} ${anchor}`)!;
  }

  /** Values in a view. */
  values({ anchor }: ViewKey): SideColumns {
    return this.#sides.get(`values ${anchor}`)!;
  }

  /** Moments of each token in a view, [N]; undefined for the first of a sequence. */
  moments(view: ViewKey): (Moments | undefined)[] {
    const keys = this.keys(view), values = this.values(view);
    return Array.from(keys.mu, (muK, token) =>
      Number.isNaN(muK) ? undefined : {
        muK,
        varK: keys.variance[token]!,
        muV: values.mu[token]!,
        varV: values.variance[token]!,
      });
  }

  /** Begins a sequence, the chunk of that index. */
  restart(chunk: number): void {
    this.#sides.forEach((side) => side.restart());
    [this.method, ...this.learned].forEach((filter) => filter.restart(chunk));
  }

  /**
   * Takes in the next rows of the sequence, which are tokens from `at` on.
   *
   * @throws {RangeError} If the redundancy of a token is undefined.
   */
  take(backend: Backend, rows: ProbedRows, at: number): void {
    rows.outputNorms.forEach((norm, row) => {
      const r = norm / rows.residualNorms[row]!;
      if (!Number.isFinite(r)) {
        throw new RangeError(
          `Cannot measure layer ${rows.layer}: found ${r} for token ${at + row}, expected norm(o) / norm(x)`,
        );
      }
      this.r[at + row] = r;
    });
    const numbers = (tensor: Tensor) => f32Data(backend.read(tensor));
    for (const source of [...KEY_STATES, "values"] as const) {
      const x = numbers(source === "values" ? rows.values : rows.keys[source]);
      for (const anchor of ANCHORS) this.#sides.get(`${source} ${anchor}`)!.take(x, rows.count, at);
    }
    for (const filter of [this.method, ...this.learned]) filter.take(backend, rows, at);
  }

  /** Ends the sequence. */
  end(): void {
    [this.method, ...this.learned].forEach((filter) => filter.end());
  }
}
