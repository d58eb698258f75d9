/**
 * The regression of the `learned` rule: a ridge regression on standardised features, in the numbers of a layer's state.
 * Tokens wait in a pending block until all their outcomes are known, then enter the fit together.
 */
import { solveCholesky } from "../cholesky.ts";
import type { LayerSpec, LayerState } from "../filter/layer.ts";
import { SLOT } from "../filter/slots.ts";
import { policyOf } from "../filter/threshold.ts";

/** Added to a feature's standard deviation before dividing by it. */
const SD_EPS = 1e-3;

/** What became of a pending token. */
const OUTCOME = { skipped: 0, kept: 1, observed: 2 } as const;

/** What the regression must know of its options. */
export interface FitSpec extends LayerSpec {
  /** Tokens per block. */
  readonly block: number;
  /** Ridge of the regression. */
  readonly ridge: number;
}

/**
 * Where the parts of `LayerState.learned` begin, in this order: `mean` [F], `sd` [F] (of the raw features; bias: 0 and
 * 1 with no standardising), `A` [F, F] = ridge*I + sum z z', `b` [F] = sum z*y, `w` [F], then the pending block of at
 * most P = max(warmup, block) tokens: raw features `f` [P, F], `y` [P] (ln-ratio of an observed kept token) and
 * `outcome` [P] (0 = skipped, 1 = kept and not yet observed, 2 = kept and observed).
 */
export interface FitLayout {
  readonly F: number;
  readonly P: number;
  readonly mean: number;
  readonly sd: number;
  readonly A: number;
  readonly b: number;
  readonly w: number;
  readonly f: number;
  readonly y: number;
  readonly outcome: number;
  readonly length: number;
}

/** Lays out a regression on F features, the bias included as the last one. */
export function layOut(F: number, { warmup, block }: Pick<FitSpec, "warmup" | "block">): FitLayout {
  const P = Math.max(warmup, block);
  const mean = 0, sd = F, A = 2 * F, b = A + F * F, w = b + F, f = w + F, y = f + P * F, outcome = y + P;
  return { F, P, mean, sd, A, b, w, f, y, outcome, length: outcome + P };
}

/**
 * Tokens from the first of a block to the first of the next. Blocks begin at 0, at `warmup`, and at every multiple
 * of `block` above it.
 */
export function blockLength(
  { warmup, block }: Pick<FitSpec, "warmup" | "block">,
  first: number,
): number {
  return first < warmup ? warmup - first : block - first % block;
}

/** The regression of one layer of one sequence. */
export class Fit {
  readonly #spec: FitSpec;
  readonly #numbers: Float64Array;
  readonly #learned: Float64Array;
  readonly #layout: FitLayout;
  readonly #state: LayerState;

  constructor(spec: FitSpec, state: LayerState, layout: FitLayout) {
    this.#spec = spec;
    this.#state = state;
    this.#numbers = state.numbers;
    this.#learned = state.learned;
    this.#layout = layout;
  }

  /** Length of the block that is pending, or about to begin. */
  get #pendingLength(): number {
    return blockLength(this.#spec, this.#numbers[SLOT.seen]! - this.#numbers[SLOT.pending]!);
  }

  /**
   * Tokens that may still be decided before the next fit.
   *
   * @throws {RangeError} If none, because kept tokens of the last block were not yet observed.
   */
  get room(): number {
    const room = this.#pendingLength - this.#numbers[SLOT.pending]!;
    if (room > 0) return room;
    const open = this.#numbers[SLOT.pending]! - this.#numbers[SLOT.settled]!;
    throw new RangeError(
      `Cannot scan layer ${this.#spec.layer}: found ${open} kept tokens of the last block not yet observed, expected ` +
        `their outcomes first`,
    );
  }

  /** Where the raw features of the next token go, [F]. */
  get next(): Float64Array {
    const { f, F } = this.#layout, at = f + this.#numbers[SLOT.pending]! * F;
    return this.#learned.subarray(at, at + F);
  }

  /** Prediction for the token whose features stand in {@linkcode next}; NaN before the first fit. */
  predictNext(): number {
    return this.#numbers[SLOT.fitted] ? this.#predict(this.#numbers[SLOT.pending]!) : NaN;
  }

  /** Notes the decision on that token; the one after it is then the next. */
  settle(skip: boolean): void {
    this.#learned[this.#layout.outcome + this.#numbers[SLOT.pending]!] = skip
      ? OUTCOME.skipped
      : OUTCOME.kept;
    this.#numbers[SLOT.pending]! += 1;
    if (skip) this.#numbers[SLOT.settled]! += 1;
  }

  /**
   * Takes in outcomes y of the pending block's kept tokens, in order.
   *
   * @throws {RangeError} If there are more outcomes than kept tokens, or one is not finite.
   */
  observe(y: Float64Array): void {
    const refuse = (found: string, expected: string) => {
      throw new RangeError(`Cannot observe layer ${this.#spec.layer}: found ${found}, expected ${expected}`);
    };
    const open = this.#numbers[SLOT.pending]! - this.#numbers[SLOT.settled]!;
    if (y.length > open) refuse(`${y.length} outcomes`, `at most ${open}`);
    if (!y.every(Number.isFinite)) refuse("an outcome that is not finite", "finite numbers");
    const { outcome, y: known } = this.#layout;
    for (let row = 0, taken = 0; taken < y.length; row++) {
      if (this.#learned[outcome + row] !== OUTCOME.kept) continue;
      this.#learned[known + row] = y[taken++]!;
      this.#learned[outcome + row] = OUTCOME.observed;
    }
    this.#numbers[SLOT.settled]! += y.length;
    this.fitIfComplete();
  }

  /** Where the pending block is complete and all its outcomes are known: fits anew and empties it. */
  fitIfComplete(): void {
    const numbers = this.#numbers, learned = this.#learned, { F, A, b, w, f, y, outcome } = this.#layout;
    const pending = numbers[SLOT.pending]!;
    if (numbers[SLOT.settled] !== pending || pending !== this.#pendingLength) return;
    const isFirst = !numbers[SLOT.fitted];
    if (isFirst) this.#start(pending);
    const z = new Float64Array(F);
    for (let row = 0; row < pending; row++) {
      if (learned[outcome + row] !== OUTCOME.observed) continue;
      for (let i = 0; i < F; i++) z[i] = this.#standardise(f + row * F, i);
      for (let i = 0; i < F; i++) {
        for (let j = 0; j < F; j++) learned[A + i * F + j]! += z[i]! * z[j]!;
        learned[b + i]! += z[i]! * learned[y + row]!;
      }
    }
    solveCholesky(learned.subarray(A, A + F * F), learned.subarray(b, b + F), learned.subarray(w, w + F));
    numbers[SLOT.fitted] = 1;
    if (isFirst) { // The threshold looks back on what the warm-up's tokens would have scored.
      const threshold = policyOf(this.#spec).open(this.#spec, this.#state), sign = this.#spec.invert ? 1 : -1;
      for (let row = 0; row < pending; row++) threshold.push(sign * this.#predict(row));
    }
    numbers[SLOT.pending] = 0;
    numbers[SLOT.settled] = 0;
  }

  /** Standardised feature i of the row of raw features at `f`: (f - mean) / (sd + 1e-3), and 1 for the bias. */
  #standardise(f: number, i: number): number {
    const { F, mean, sd } = this.#layout, learned = this.#learned;
    return i === F - 1 ? 1 : (learned[f + i]! - learned[mean + i]!) / (learned[sd + i]! + SD_EPS);
  }

  /** z . w for a row of the pending block. */
  #predict(row: number): number {
    const { F, f, w } = this.#layout;
    let sum = 0;
    for (let i = 0; i < F; i++) sum += this.#standardise(f + row * F, i) * this.#learned[w + i]!;
    return sum;
  }

  /** Mean and population standard deviation of each feature over the warm-up, and an empty fit: A = ridge*I. */
  #start(count: number): void {
    const { F, A, f, mean, sd } = this.#layout, learned = this.#learned;
    for (let i = 0; i < F; i++) {
      const of = (row: number) => learned[f + row * F + i]!;
      let sum = 0, squares = 0;
      for (let row = 0; row < count; row++) sum += of(row);
      for (let row = 0; row < count; row++) squares += (of(row) - sum / count) ** 2;
      learned[mean + i] = i === F - 1 ? 0 : sum / count;
      learned[sd + i] = i === F - 1 ? 1 : Math.sqrt(squares / count);
      learned[A + i * F + i] = this.#spec.ridge;
    }
  }
}
