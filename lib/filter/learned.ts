/**
 * The `learned` rule: per filtered layer and sequence, a ridge regression that predicts from what is known before
 * the attention how much the attention will add, y = ln((norm(o)+1e-6)/(norm(x)+1e-6)), and learns it from the
 * tokens that were kept. Tokens go in blocks; a block is decided with the fit on all earlier blocks.
 */
import { projectionSigns } from "../random.ts";
import {
  type FilterObserve,
  hasFeature,
  type LayerSpec,
  type LayerState,
  learnedLayout,
  SLOT,
} from "./layer.ts";
import { type Moments, norm } from "./similarity.ts";
import { openThreshold } from "./threshold.ts";

/** Added to norms before their logarithm. */
const NORM_EPS = 1e-6;
/** Added to a feature's standard deviation before dividing by it. */
const SD_EPS = 1e-3;

/** What the regression learns of a kept token: ln((norm(o)+1e-6)/(norm(x)+1e-6)). */
export function outcomeOf(outputNorm: number, residualNorm: number): number {
  return Math.log((outputNorm + NORM_EPS) / (residualNorm + NORM_EPS));
}

/** What became of a pending token. */
const OUTCOME = { skipped: 0, kept: 1, observed: 2 } as const;

/** The rows of one scan that features are made of; see {@linkcode ScanInput} for their shapes. */
export interface LearnedRows {
  readonly keys: Float32Array;
  readonly values: Float32Array;
  readonly residual: Float32Array;
  readonly normed: Float32Array;
  /** Only where the `query` feature is asked for. */
  readonly queries?: Float32Array;
  /** Width of a row of `queries`, numHeads * headDim. */
  readonly queriesSize: number;
}

/**
 * Tokens from the first of a block to the first of the next. Blocks begin at 0, at `warmup`, and at every multiple
 * of `block` above it.
 */
export function blockLength(spec: LayerSpec, first: number): number {
  return first < spec.warmup ? spec.warmup - first : spec.block - first % spec.block;
}

/** Length of the block that is pending, or about to begin. */
function pendingLength(spec: LayerSpec, { numbers }: LayerState): number {
  return blockLength(spec, numbers[SLOT.seen]! - numbers[SLOT.pending]!);
}

/**
 * Tokens that may still be decided before the next fit.
 *
 * @throws {RangeError} If none, because kept tokens of the last block were not yet observed.
 */
export function roomInBlock(spec: LayerSpec, state: LayerState): number {
  const room = pendingLength(spec, state) - state.numbers[SLOT.pending]!;
  if (room === 0) {
    const open = state.numbers[SLOT.pending]! - state.numbers[SLOT.settled]!;
    throw new RangeError(
      `Cannot scan layer ${spec.layer}: found ${open} kept tokens of the last block not yet observed, expected ` +
        `their outcomes first`,
    );
  }
  return room;
}

/** Random signs by spec: they cost a hash an entry, and every sequence uses the same. */
const signsOf = new WeakMap<LayerSpec, Int8Array<ArrayBuffer>>();

/** The regression at work on one layer of one sequence, for one run of tokens. */
export class Learner {
  readonly #spec: LayerSpec;
  readonly #state: LayerState;
  readonly #rows: LearnedRows;
  readonly #layout: ReturnType<typeof learnedLayout>;
  readonly #signs: Int8Array<ArrayBuffer> | undefined;

  constructor(spec: LayerSpec, state: LayerState, rows: LearnedRows) {
    this.#spec = spec;
    this.#state = state;
    this.#rows = rows;
    this.#layout = learnedLayout(spec);
    if (hasFeature(spec, "projection")) {
      this.#signs = signsOf.get(spec) ??
        projectionSigns(spec.seed, spec.layer, spec.hiddenSize, spec.projections);
      signsOf.set(spec, this.#signs);
    }
  }

  /**
   * Takes in the features of a token and predicts.
   *
   * @param row The token's row in the input.
   * @param moments Its moments; zeros for the first token of a sequence.
   * @returns The score before `invert`, -(z . w); NaN in the warm-up, before the first fit.
   * @throws {RangeError} If an input is not finite.
   */
  score(row: number, moments: Moments): number {
    const { F } = this.#layout;
    const { learned, numbers } = this.#state;
    const f = this.#layout.f + numbers[SLOT.pending]! * F;
    const features = learned.subarray(f, f + F);
    this.#fill(features, row, moments);
    if (!features.every(Number.isFinite)) {
      throw new RangeError(
        `Cannot scan layer ${this.#spec.layer}: found a number that is not finite at token ${
          numbers[SLOT.seen]
        }, expected finite inputs`,
      );
    }
    return numbers[SLOT.fitted] ? -predict(this.#layout, learned, f) : NaN;
  }

  /** Notes the decision on the token scored last. */
  settle(skip: boolean): void {
    const { learned, numbers } = this.#state;
    learned[this.#layout.outcome + numbers[SLOT.pending]!] = skip ? OUTCOME.skipped : OUTCOME.kept;
    numbers[SLOT.pending]! += 1;
    if (skip) numbers[SLOT.settled]! += 1;
  }

  #fill(out: Float64Array, row: number, m: Moments): void {
    const spec = this.#spec, rows = this.#rows;
    const kvSize = spec.numKvHeads * spec.headDim, { hiddenSize, projections } = spec;
    const logNorm = (x: Float32Array, size: number) => Math.log(norm(x, row * size, size) + NORM_EPS);
    let at = 0;
    if (hasFeature(spec, "similarity")) {
      out[at++] = m.muK;
      out[at++] = m.muV;
      out[at++] = Math.sqrt(m.varK);
      out[at++] = Math.sqrt(m.varV);
    }
    if (hasFeature(spec, "norm")) {
      out[at++] = logNorm(rows.keys, kvSize);
      out[at++] = logNorm(rows.values, kvSize);
      out[at++] = logNorm(rows.residual, hiddenSize);
    }
    if (this.#signs !== undefined) {
      const projected = out.subarray(at, at + projections).fill(0);
      for (let a = 0; a < hiddenSize; a++) {
        const h = rows.normed[row * hiddenSize + a]!;
        for (let j = 0; j < projections; j++) projected[j]! += h * this.#signs[a * projections + j]!;
      }
      for (let j = 0; j < projections; j++) projected[j]! /= Math.sqrt(hiddenSize);
      at += projections;
    }
    if (rows.queries !== undefined) out[at++] = logNorm(rows.queries, rows.queriesSize);
    out[at] = 1;
  }
}

/** Standardised feature i of the row of raw features at `f`: (f - mean) / (sd + 1e-3), and 1 for the bias. */
function standardised(
  { F, mean, sd }: { F: number; mean: number; sd: number },
  learned: Float64Array,
  f: number,
  i: number,
): number {
  return i === F - 1 ? 1 : (learned[f + i]! - learned[mean + i]!) / (learned[sd + i]! + SD_EPS);
}

/** z . w for the row of raw features at `f`. */
function predict(layout: ReturnType<typeof learnedLayout>, learned: Float64Array, f: number): number {
  let sum = 0;
  for (let i = 0; i < layout.F; i++) sum += standardised(layout, learned, f, i) * learned[layout.w + i]!;
  return sum;
}

/**
 * Takes in outcomes y of the pending block's kept tokens, in order; see {@linkcode FilterObserve}.
 *
 * @throws {RangeError} If there are more outcomes than kept tokens, or one is not finite.
 */
export const observeLayer: FilterObserve = (spec, state, y) => {
  const { numbers, learned } = state;
  if (spec.fusion !== "learned") {
    throw new RangeError(
      `Cannot observe layer ${spec.layer}: found the rule "${spec.fusion}", expected "learned"`,
    );
  }
  const layout = learnedLayout(spec), pending = numbers[SLOT.pending]!;
  const open = pending - numbers[SLOT.settled]!;
  if (y.length > open) {
    throw new RangeError(
      `Cannot observe layer ${spec.layer}: found ${y.length} outcomes, expected at most ${open}`,
    );
  }
  if (!y.every(Number.isFinite)) {
    throw new RangeError(
      `Cannot observe layer ${spec.layer}: found an outcome that is not finite, expected finite numbers`,
    );
  }
  for (let row = 0, taken = 0; taken < y.length; row++) {
    if (learned[layout.outcome + row] !== OUTCOME.kept) continue;
    learned[layout.y + row] = y[taken++]!;
    learned[layout.outcome + row] = OUTCOME.observed;
  }
  numbers[SLOT.settled]! += y.length;
  fitIfComplete(spec, state);
};

/** Where the pending block is complete and all its outcomes are known: fits anew and empties it. */
export function fitIfComplete(spec: LayerSpec, state: LayerState): void {
  const { numbers, learned } = state;
  const pending = numbers[SLOT.pending]!;
  if (numbers[SLOT.settled] !== pending || pending !== pendingLength(spec, state)) return;
  const layout = learnedLayout(spec), first = !numbers[SLOT.fitted];
  if (first) startFit(spec, state, pending);
  const z = new Float64Array(layout.F);
  for (let row = 0; row < pending; row++) {
    if (learned[layout.outcome + row] !== OUTCOME.observed) continue;
    for (let i = 0; i < layout.F; i++) z[i] = standardised(layout, learned, layout.f + row * layout.F, i);
    for (let i = 0; i < layout.F; i++) {
      for (let j = 0; j < layout.F; j++) learned[layout.A + i * layout.F + j]! += z[i]! * z[j]!;
      learned[layout.b + i]! += z[i]! * learned[layout.y + row]!;
    }
  }
  const { A, b, w, f, F } = layout;
  solveCholesky(learned.subarray(A, A + F * F), learned.subarray(b, b + F), learned.subarray(w, w + F));
  numbers[SLOT.fitted] = 1;
  if (first) { // The threshold looks back on what the warm-up's tokens would have scored.
    const threshold = openThreshold(spec, state), sign = spec.invert ? 1 : -1;
    for (let row = 0; row < pending; row++) threshold.push(sign * predict(layout, learned, f + row * F));
  }
  numbers[SLOT.pending] = 0;
  numbers[SLOT.settled] = 0;
}

/** Mean and population standard deviation of each feature over the warm-up, and an empty fit: A = ridge*I. */
function startFit(spec: LayerSpec, { learned }: LayerState, count: number): void {
  const { F, A, f, mean, sd } = learnedLayout(spec);
  for (let i = 0; i < F; i++) {
    const of = (row: number) => learned[f + row * F + i]!;
    let sum = 0, squares = 0;
    for (let row = 0; row < count; row++) sum += of(row);
    for (let row = 0; row < count; row++) squares += (of(row) - sum / count) ** 2;
    learned[mean + i] = i === F - 1 ? 0 : sum / count;
    learned[sd + i] = i === F - 1 ? 1 : Math.sqrt(squares / count);
    learned[A + i * F + i] = spec.ridge;
  }
}

/**
 * Solves A x = b for a symmetric positive definite A by Cholesky's decomposition A = L L'.
 *
 * @param A [n, n], left as it is.
 * @param b [n], left as it is.
 * @param x [n], the result.
 * @throws {RangeError} If A is not positive definite.
 */
export function solveCholesky(A: Float64Array, b: Float64Array, x: Float64Array): void {
  const n = b.length;
  const L = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = A[i * n + j]!;
      for (let k = 0; k < j; k++) sum -= L[i * n + k]! * L[j * n + k]!;
      if (i === j && !(sum > 0)) {
        throw new RangeError(
          "Cannot solve: found a matrix that is not positive definite, expected one that is",
        );
      }
      L[i * n + j] = i === j ? Math.sqrt(sum) : sum / L[j * n + j]!;
    }
  }
  for (let i = 0; i < n; i++) { // L y = b
    let sum = b[i]!;
    for (let k = 0; k < i; k++) sum -= L[i * n + k]! * x[k]!;
    x[i] = sum / L[i * n + i]!;
  }
  for (let i = n - 1; i >= 0; i--) { // L' x = y
    let sum = x[i]!;
    for (let k = i + 1; k < n; k++) sum -= L[k * n + i]! * x[k]!;
    x[i] = sum / L[i * n + i]!;
  }
}
