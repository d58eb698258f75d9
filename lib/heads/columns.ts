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
import { f32Data, type Tensor } from "../tensor.ts";
import type { ProbedRows } from "./probe.ts";

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

/** Numbers of the same kind, chunk after chunk: as many for each. */
export type Column = Float64Array<ArrayBuffer> | Uint8Array<ArrayBuffer>;

/** What one side (keys in one state, or values) comes to with one kind of anchor. */
export class SideColumns {
  /** Mean over heads of the cosines, [N]; NaN for the first token of a sequence. */
  readonly mu: Float64Array<ArrayBuffer>;
  /** Population variance over heads of the same, [N]. */
  readonly variance: Float64Array<ArrayBuffer>;
  /** Cosines, [N, H]; NaN for the first token of a sequence. */
  readonly cosines: Float64Array<ArrayBuffer>;
  readonly #spec: LayerSpec;
  #anchor = new Float32Array(0);
  #absorbed = 0;

  constructor(spec: LayerSpec, tokens: number) {
    this.#spec = spec;
    this.mu = new Float64Array(tokens).fill(NaN);
    this.variance = new Float64Array(tokens).fill(NaN);
    this.cosines = new Float64Array(tokens * spec.numKvHeads).fill(NaN);
  }

  /** All that is measured. */
  get columns(): readonly Column[] {
    return [this.mu, this.variance, this.cosines];
  }

  /** Cosines of one head, [N]. */
  head(head: number): Float64Array<ArrayBuffer> {
    const { numKvHeads } = this.#spec;
    return Float64Array.from(this.mu, (_, token) => this.cosines[token * numKvHeads + head]!);
  }

  /** Begins a sequence. */
  restart(): void {
    this.#anchor = new Float32Array(this.#spec.numKvHeads * this.#spec.headDim);
    this.#absorbed = 0;
  }

  /** Takes in the next `count` tokens of the sequence, which are tokens [at, at + count) of all. */
  take(x: Float32Array, count: number, at: number): void {
    const size = this.#anchor.length, own = new Float64Array(this.#spec.numKvHeads);
    for (let row = 0; row < count; row++) {
      if (this.#absorbed > 0) {
        cosines(x, row * size, this.#anchor, own);
        const mu = mean(own);
        this.mu[at + row] = mu;
        this.variance[at + row] = variance(own, mu);
        this.cosines.set(own, (at + row) * own.length);
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
  /** Weights of the `learned` rule at the ends of sequences, [chunks, F]; empty for another rule. */
  readonly #weights: Float64Array<ArrayBuffer>;

  constructor(spec: LayerSpec, keyState: KeyState, chunks: number, tokens: number) {
    this.#spec = spec;
    this.keyState = keyState;
    this.redundancy = new Float64Array(tokens).fill(NaN);
    this.threshold = new Float64Array(tokens).fill(NaN);
    this.wK = new Float64Array(tokens).fill(NaN);
    this.keep = new Uint8Array(tokens).fill(1);
    this.#weights = new Float64Array(spec.fusion === "learned" ? chunks * learnedLayout(spec).F : 0);
  }

  /** All that is measured. */
  get columns(): readonly Column[] {
    return [this.redundancy, this.threshold, this.wK, this.keep, this.#weights];
  }

  /** Weights of the `learned` rule at the ends of sequences, their mean; empty for another rule. */
  get learnedWeights(): number[] {
    if (this.#weights.length === 0) return [];
    const { F } = learnedLayout(this.#spec), sums = new Float64Array(F);
    this.#weights.forEach((weight, i) => sums[i % F]! += weight);
    const fits = this.#weights.length / F;
    return Array.from(sums, (sum) => sum / fits);
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
    this.#weights.set(learned.subarray(w, w + F), this.#chunk * F);
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

  constructor(plan: LayerPlan, chunks: number, tokens: number) {
    this.plan = plan;
    this.r = new Float64Array(tokens);
    this.method = new ShadowFilter(plan.method, plan.view.keyState, chunks, tokens);
    const views = listViews(plan.view);
    this.learned = plan.learned.map((spec, i) => new ShadowFilter(spec, views[i]!.keyState, chunks, tokens));
    const side = (source: KeyState | "values", anchor: Anchor) =>
      [`${source} ${anchor}`, new SideColumns({ ...plan.method, anchor }, tokens)] as const;
    this.#sides = new Map(
      ([...KEY_STATES, "values"] as const).flatMap((source) => ANCHORS.map((anchor) => side(source, anchor))),
    );
  }

  /** All that is measured, in an order that depends on the plan alone. */
  get columns(): readonly Column[] {
    return [
      this.r,
      ...[this.method, ...this.learned, ...this.#sides.values()].flatMap(({ columns }) => columns),
    ];
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
