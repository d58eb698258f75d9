/**
 * The regression of the `learned` rule: a ridge regression on standardised features, in the numbers of a layer's state.
 * Tokens wait in a pending block until all their outcomes are known, then enter the fit together.
 */
import { solveCholesky } from "../../math/cholesky.ts";
import { blockLength, type Blocks } from "../../filter/blocks.ts";
import type { LayerSpec, LayerState } from "../../filter/layer.ts";
import { firstOutcome } from "../../filter/outcome.ts";
import { SLOT } from "../../filter/slots.ts";
import { policyOf } from "../../filter/threshold.ts";

/** Added to a feature's standard deviation before dividing by it. */
const SD_EPS = 1e-3;

const OUTCOME = { skipped: 0, kept: 1, observed: 2 } as const;

interface FitSpec extends LayerSpec {
  readonly ridge: number;
}

/**
 * Offsets of the parts of `LayerState.learned`, in this order. First come `mean` [F] and `sd` [F] of the raw features
 * (bias: 0 and 1 with no standardising), then `A` [F, F] = ridge*I + sum z z', `b` [F] = sum z*y, and `w` [F]. The
 * pending block of at most P = max(warmup, block) tokens comes last: raw features `f` [P, F], `y` [P] (ln-ratio of an
 * observed kept token) and `outcome` [P]. An outcome is 0 = skipped, 1 = kept, not yet observed, or 2 = observed.
 *
 * @param F Features, the bias included as the last one.
 */
export function layOut(F: number, { warmup, block }: Blocks): FitLayout {
  const P = Math.max(warmup, block);
  const mean = 0, sd = F, A = 2 * F, b = A + F * F, w = b + F, f = w + F, y = f + P * F, outcome = y + P;
  return { F, P, mean, sd, A, b, w, f, y, outcome, length: outcome + P };
}

/** Sizes F and P, where each part begins, and the length of all. */
export type FitLayout = Readonly<
  Record<"F" | "P" | "mean" | "sd" | "A" | "b" | "w" | "f" | "y" | "outcome" | "length", number>
>;

/**
 * The fit of a learned rule in a state.
 *
 * @throws {RangeError} From its functions, where outcomes are missing, too many or not finite.
 */
export function openFit(spec: FitSpec, state: LayerState, layout: FitLayout) {
  const { numbers, learned } = state, { F, mean, sd, A, b, w, f, y: known, outcome } = layout;
  const pending = () => numbers[SLOT.pending]!;
  const open = () => pending() - numbers[SLOT.settled]!;
  /** Length of the block that is pending, or about to begin. */
  const pendingLength = () => blockLength(spec, numbers[SLOT.seen]! - pending());
  /** Standardised feature i of a row of the pending block: (f - mean) / (sd + 1e-3), and 1 for the bias. */
  const standardised = (row: number, i: number) =>
    i === F - 1 ? 1 : (learned[f + row * F + i]! - learned[mean + i]!) / (learned[sd + i]! + SD_EPS);
  const predict = (row: number) => {
    let sum = 0;
    for (let i = 0; i < F; i++) sum += standardised(row, i) * learned[w + i]!;
    return sum;
  };

  /** Mean and population standard deviation of each feature over the warm-up, and an empty fit: A = ridge*I. */
  function start(count: number): void {
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

  /** Where the pending block is complete and all its outcomes are known: fits anew and empties it. */
  function fitIfComplete(): void {
    const count = pending();
    if (open() !== 0 || count !== pendingLength()) return;
    const isFirst = !numbers[SLOT.fitted];
    if (isFirst) start(count);
    const z = new Float64Array(F), uncounted = firstOutcome(spec) - (numbers[SLOT.seen]! - count);
    for (let row = Math.max(0, uncounted); row < count; row++) {
      if (learned[outcome + row] !== OUTCOME.observed) continue;
      for (let i = 0; i < F; i++) z[i] = standardised(row, i);
      for (let i = 0; i < F; i++) {
        for (let j = 0; j < F; j++) learned[A + i * F + j]! += z[i]! * z[j]!;
        learned[b + i]! += z[i]! * learned[known + row]!;
      }
    }
    solveCholesky(learned.subarray(A, A + F * F), learned.subarray(b, b + F), learned.subarray(w, w + F));
    numbers[SLOT.fitted] = 1;
    if (isFirst) { // The threshold's history gets the scores that the warm-up's tokens would have had.
      const threshold = policyOf(spec).open(spec, state), sign = spec.invert ? 1 : -1;
      for (let row = 0; row < count; row++) threshold.push(sign * predict(row));
    }
    numbers[SLOT.pending] = 0;
    numbers[SLOT.settled] = 0;
  }

  return {
    /** Tokens that may still be decided before the next fit. @throws {RangeError} If none: outcomes are still to be observed. */
    room(): number {
      const room = pendingLength() - pending();
      if (room > 0) return room;
      throw new RangeError(
        `Cannot scan layer ${spec.layer}: found ${open()} kept tokens of the last block not yet observed, expected ` +
          `their outcomes first`,
      );
    },
    /** Place for the raw features of the next token, [F]. */
    next: () => learned.subarray(f + pending() * F, f + (pending() + 1) * F),
    /** Prediction for the token whose features stand there; NaN before the first fit. */
    predictNext: () => numbers[SLOT.fitted] ? predict(pending()) : NaN,
    /** Notes the decision on that token; the one after it is then the next. */
    settle(skip: boolean): void {
      learned[outcome + pending()] = skip ? OUTCOME.skipped : OUTCOME.kept;
      numbers[SLOT.pending]! += 1;
      if (skip) numbers[SLOT.settled]! += 1;
    },
    /**
     * Takes in outcomes y of the pending block's kept tokens, in order.
     *
     * @throws {RangeError} If there are more outcomes than kept tokens, or one is not finite.
     */
    observe(y: Float64Array): void {
      const refuse = (found: string, expected: string) => {
        throw new RangeError(`Cannot observe layer ${spec.layer}: found ${found}, expected ${expected}`);
      };
      if (y.length > open()) refuse(`${y.length} outcomes`, `at most ${open()}`);
      if (!y.every(Number.isFinite)) refuse("an outcome that is not finite", "finite numbers");
      for (let row = 0, taken = 0; taken < y.length; row++) {
        if (learned[outcome + row] !== OUTCOME.kept) continue;
        learned[known + row] = y[taken++]!;
        learned[outcome + row] = OUTCOME.observed;
      }
      numbers[SLOT.settled]! += y.length;
      fitIfComplete();
    },
    fitIfComplete,
  };
}
