/** Measurements of every token in one layer of the dense stream, as columns; filled sequence by sequence. */
import type { Backend } from "../backend.ts";
import { createLayerState, createScanOutput, type LayerSpec, type LayerState } from "../filter/layer.ts";
import { type Anchor, FILTER_OPTIONS, type KeyState } from "../filter/options.ts";
import { outcomeOf } from "../filter/outcome.ts";
import { RowToken, type RuleToken } from "../filter/rule.ts";
import { type FilterBackend, filterOps } from "../filter/sequence.ts";
import { absorb, cosines, decayOf, variance } from "../filter/similarity.ts";
import { mean } from "../math/mean.ts";
import { learned, learnedLayout } from "../methods/rules/learned.ts";
import { f32Data, type Tensor } from "../tensor.ts";
import type { ProbedRows } from "./probe.ts";

const ANCHORS = FILTER_OPTIONS.anchor.names, KEY_STATES = FILTER_OPTIONS.keyState.names;

interface ViewKey {
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
type Column = Float64Array<ArrayBuffer> | Uint8Array<ArrayBuffer>;

/** Statistics of one side (keys in one state, or values) with one kind of anchor. */
class SideColumns {
  /** Mean over heads of the cosines, [N]; NaN for the first token of a sequence. */
  readonly mu: Float64Array<ArrayBuffer>;
  /** Population variance over heads of the same, [N]. */
  readonly variance: Float64Array<ArrayBuffer>;
  /** Cosines, [N, H]; NaN for the first token of a sequence. */
  readonly cosines: Float64Array<ArrayBuffer>;
  #anchor = new Float32Array(0);
  #absorbed = 0;
  private readonly spec: LayerSpec;

  constructor(spec: LayerSpec, tokens: number) {
    this.spec = spec;
    this.mu = new Float64Array(tokens).fill(NaN);
    this.variance = new Float64Array(tokens).fill(NaN);
    this.cosines = new Float64Array(tokens * spec.numKvHeads).fill(NaN);
  }

  get columns(): readonly Column[] {
    return [this.mu, this.variance, this.cosines];
  }

  head(head: number): Float64Array<ArrayBuffer> {
    const { numKvHeads } = this.spec;
    return Float64Array.from(this.mu, (_, token) => this.cosines[token * numKvHeads + head]!);
  }

  restart(): void {
    this.#anchor = new Float32Array(this.spec.numKvHeads * this.spec.headDim);
    this.#absorbed = 0;
  }

  /** Takes in the next `count` tokens of the sequence, which are tokens [at, at + count) of all. */
  take(x: Float32Array, count: number, at: number): void {
    const size = this.#anchor.length, own = new Float64Array(this.spec.numKvHeads);
    for (let row = 0; row < count; row++) {
      if (this.#absorbed > 0) {
        cosines(x, row * size, this.#anchor, own);
        const mu = mean(own);
        this.mu[at + row] = mu;
        this.variance[at + row] = variance(own, mu);
        this.cosines.set(own, (at + row) * own.length);
      }
      absorb(this.#anchor, x, row * size, decayOf(this.spec, this.#absorbed++));
    }
  }
}

/** A rule's recurrence over the dense stream: it decides, and observes outcomes, but nothing is skipped. */
class ShadowFilter {
  readonly redundancy: Float64Array<ArrayBuffer>;
  readonly threshold: Float64Array<ArrayBuffer>;
  readonly wK: Float64Array<ArrayBuffer>;
  readonly keep: Uint8Array<ArrayBuffer>;
  #chunk = 0;
  #state: LayerState | undefined;
  /** Weights of the `learned` rule at the ends of sequences, [chunks, F]; empty for another rule. */
  readonly #weights: Float64Array<ArrayBuffer>;
  private readonly spec: LayerSpec;
  readonly keyState: KeyState;

  constructor(spec: LayerSpec, keyState: KeyState, chunks: number, tokens: number) {
    this.spec = spec;
    this.keyState = keyState;
    this.redundancy = new Float64Array(tokens).fill(NaN);
    this.threshold = new Float64Array(tokens).fill(NaN);
    this.wK = new Float64Array(tokens).fill(NaN);
    this.keep = new Uint8Array(tokens).fill(1);
    this.#weights = new Float64Array(isLearned(spec) ? chunks * learnedLayout(spec).F : 0);
  }

  get columns(): readonly Column[] {
    return [this.redundancy, this.threshold, this.wK, this.keep, this.#weights];
  }

  /** Weights of the `learned` rule at the ends of sequences, their mean; empty for another rule. */
  get learnedWeights(): number[] {
    if (this.#weights.length === 0) return [];
    const { F } = learnedLayout(this.spec), sums = new Float64Array(F);
    this.#weights.forEach((weight, i) => sums[i % F]! += weight);
    const fits = this.#weights.length / F;
    return Array.from(sums, (sum) => sum / fits);
  }

  restart(chunk: number): void {
    this.#chunk = chunk;
    this.#state = createLayerState(this.spec);
  }

  take(backend: FilterBackend, rows: ProbedRows, at: number): void {
    const { count, values, residual, normed, queries, tokens, outputNorms, residualNorms } = rows;
    const { rule, reads } = this.spec, { scan, observe } = filterOps(rule, backend);
    // The random draws of the `learned` rule are cached by specification; other rules may read the chunk.
    const spec = isLearned(this.spec) ? this.spec : { ...this.spec, chunk: this.#chunk };
    const state = this.#state!, output = createScanOutput(count);
    const asked = { ...(queries && { queries }), ...(rule.native === undefined && { tokens }) };
    const input = { keys: rows.keys[this.keyState], values, residual, normed, ...asked };
    for (let start = 0; start < count;) {
      const end = start + scan(spec, state, input, start, count - start, output);
      if (reads.includes("outputs")) {
        const y: number[] = [];
        for (let row = start; row < end; row++) {
          if (output.keep[row]) y.push(outcomeOf(this.spec, outputNorms[row]!, residualNorms[row]!));
        }
        observe(spec, state, Float64Array.from(y));
      }
      start = end;
    }
    this.redundancy.set(output.redundancy, at);
    this.threshold.set(output.threshold, at);
    this.wK.set(output.wK, at);
    this.keep.set(output.keep, at);
  }

  end(): void {
    if (!isLearned(this.spec)) return;
    const { w, F } = learnedLayout(this.spec), { learned } = this.#state!;
    this.#weights.set(learned.subarray(w, w + F), this.#chunk * F);
  }
}

const isLearned = ({ rule }: LayerSpec) => rule.name === learned.name;

interface LayerPlan {
  readonly method: LayerSpec;
  readonly view: ViewKey;
  /** By rule: those that are no functions of the moments, in each view, in the order of `listViews(view)`. */
  readonly shadows: ReadonlyMap<string, readonly LayerSpec[]>;
}

export class LayerColumns {
  readonly r: Float64Array<ArrayBuffer>;
  readonly method: ShadowFilter;
  readonly shadows: ReadonlyMap<string, readonly ShadowFilter[]>;
  readonly #sides: ReadonlyMap<string, SideColumns>;
  readonly #filters: readonly ShadowFilter[];
  readonly plan: LayerPlan;

  constructor(plan: LayerPlan, chunks: number, tokens: number) {
    this.plan = plan;
    this.r = new Float64Array(tokens);
    this.method = new ShadowFilter(plan.method, plan.view.keyState, chunks, tokens);
    const views = listViews(plan.view);
    const shadow = (spec: LayerSpec, i: number) => new ShadowFilter(spec, views[i]!.keyState, chunks, tokens);
    this.shadows = new Map([...plan.shadows].map(([rule, specs]) => [rule, specs.map(shadow)]));
    this.#filters = [this.method, ...[...this.shadows.values()].flat()];
    const side = (source: KeyState | "values", anchor: Anchor) =>
      [`${source} ${anchor}`, new SideColumns({ ...plan.method, anchor }, tokens)] as const;
    this.#sides = new Map(
      ([...KEY_STATES, "values"] as const).flatMap((source) => ANCHORS.map((anchor) => side(source, anchor))),
    );
  }

  /** All that is measured, in an order that depends on only the plan. */
  get columns(): readonly Column[] {
    return [this.r, ...[...this.#filters, ...this.#sides.values()].flatMap(({ columns }) => columns)];
  }

  keys({ keyState, anchor }: ViewKey): SideColumns {
    return this.#sides.get(`${keyState} ${anchor}`)!;
  }

  values({ anchor }: ViewKey): SideColumns {
    return this.#sides.get(`values ${anchor}`)!;
  }

  /** The rule's view of each token, [N], without its rows. @param context Tokens per sequence. */
  tokens(view: ViewKey, context: number): RuleToken[] {
    const keys = this.keys(view), values = this.values(view), { layer } = this.plan.method;
    return Array.from(keys.mu, (muK, at) => {
      const token = new RowToken({ layer, chunk: Math.floor(at / context) }, at % context);
      return Object.assign(token, {
        muK,
        varK: keys.variance[at]!,
        muV: values.mu[at]!,
        varV: values.variance[at]!,
      });
    });
  }

  restart(chunk: number): void {
    this.#sides.forEach((side) => side.restart());
    this.#filters.forEach((filter) => filter.restart(chunk));
  }

  /** Takes in the next rows, tokens from `at` on. @throws {RangeError} If the redundancy of one is undefined. */
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
    for (const filter of this.#filters) filter.take(backend, rows, at);
  }

  end(): void {
    this.#filters.forEach((filter) => filter.end());
  }
}

/** Calls with the chunk's part of every column of every layer, as views of their bytes, and where it lies in a pack; its size. */
function eachPiece(
  layers: readonly LayerColumns[],
  chunk: number,
  chunks: number,
  visit: (piece: Uint8Array, at: number) => void = () => {},
): number {
  let at = 0;
  for (const column of layers.flatMap(({ columns }) => columns)) {
    const size = column.byteLength / chunks;
    visit(new Uint8Array(column.buffer, column.byteOffset + chunk * size, size), at);
    at += size;
  }
  return at;
}

/** The measurements of one chunk as bytes, so that they outlive the process. */
export function packChunk(
  layers: readonly LayerColumns[],
  chunk: number,
  chunks: number,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(eachPiece(layers, chunk, chunks));
  eachPiece(layers, chunk, chunks, (piece, at) => bytes.set(piece, at));
  return bytes;
}

/** Fills the columns with bytes of {@linkcode packChunk}. @throws {RangeError} If the columns have another size. */
export function unpackChunk(
  layers: readonly LayerColumns[],
  chunk: number,
  chunks: number,
  bytes: Uint8Array,
): void {
  const expected = eachPiece(layers, chunk, chunks);
  if (bytes.length !== expected) {
    throw new RangeError(
      `Cannot go on with chunk ${chunk}: found ${bytes.length} bytes, expected ${expected}`,
    );
  }
  eachPiece(layers, chunk, chunks, (piece, at) => piece.set(bytes.subarray(at, at + piece.length)));
}
