/** Thresholds: from which score on a token is skipped. A policy is one row of {@linkcode POLICIES}. */
import { mean } from "../math/mean.ts";
import { quantile } from "../math/quantile.ts";
import { variance } from "./similarity.ts";
import { SLOT } from "./slots.ts";

/** Tokens by which `budget` is paid back: a surplus of one skip moves the aimed ratio by 1/16. */
const BUDGET_HORIZON = 16;
/** Smallest step size of `robbins-monro`, so that a start on equal scores does not freeze it. */
const MIN_DEVIATION = 1e-3;

interface PolicySpec {
  readonly threshold: ThresholdPolicy;
  readonly skipRatio: number;
  readonly warmup: number;
  readonly window: number;
  readonly theta: number;
  readonly eta: number;
}

/** State of a policy: counters ({@linkcode SLOT}), and a ring of recent scores. */
interface PolicyState {
  readonly numbers: Float64Array<ArrayBuffer>;
  readonly scores: Float64Array<ArrayBuffer>;
}

/** First index of `sorted` (its first `size` numbers, ascending) whose number is not below `value`. */
function lowerBound(sorted: Float64Array, size: number, value: number): number {
  let low = 0, high = size;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle]! < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * The scores that a layer looks back on: its state's ring, and the same numbers in order.
 * Sorted once when made; each further score then costs one shift within the window.
 */
export class ScoreWindow {
  readonly #sorted: Float64Array;
  #size: number;
  private readonly state: PolicyState;

  /** Goes on with the scores that a state holds, and keeps them there. */
  constructor(state: PolicyState) {
    this.state = state;
    const { numbers, scores } = state;
    this.#size = Math.min(numbers[SLOT.scored]!, scores.length);
    this.#sorted = scores.slice();
    this.#sorted.subarray(0, this.#size).sort();
  }

  get size(): number {
    return this.#size;
  }

  /** The scores held, ascending; a view. */
  get sorted(): Float64Array {
    return this.#sorted.subarray(0, this.#size);
  }

  quantile(q: number): number {
    return quantile(this.#sorted, q, this.#size);
  }

  /** Takes a score in; the oldest one leaves a full window. */
  push(score: number): void {
    const { numbers, scores } = this.state, slot = numbers[SLOT.scored]! % scores.length;
    if (this.#size === scores.length) {
      const oldest = lowerBound(this.#sorted, this.#size, scores[slot]!);
      this.#sorted.copyWithin(oldest, oldest + 1, this.#size);
      this.#size -= 1;
    }
    const at = lowerBound(this.#sorted, this.#size, score);
    this.#sorted.copyWithin(at + 1, at, this.#size);
    this.#sorted[at] = score;
    this.#size += 1;
    scores[slot] = score;
    numbers[SLOT.scored]! += 1;
  }
}

export interface Threshold {
  /** theta before the token that comes next; NaN where there is none, so that the token is kept. */
  next(): number;
  /** Takes in a score, which then counts for later tokens. */
  push(score: number): void;
}

export interface Policy {
  readonly aims: boolean;
  /** Whether it is non-causal: it decides a whole sequence at once, and its anchors absorb all tokens. */
  readonly whole?: true;
  /** Scores that it looks back on: the length of the state's ring. */
  capacity(spec: PolicySpec): number;
  /** Puts it to work on a state, for one run of tokens. */
  open(spec: PolicySpec, state: PolicyState): Threshold;
}

/** The (1 - ratio) quantile of a window; none where the ratio is 0 or no score is there yet. */
function upperQuantile(window: ScoreWindow, ratio: number): number {
  return ratio === 0 || window.size === 0 ? NaN : window.quantile(1 - ratio);
}

function windowed(ratio: (spec: PolicySpec, numbers: Float64Array) => number): Policy {
  return {
    aims: true,
    capacity: ({ window }) => window,
    open(spec, state) {
      const window = new ScoreWindow(state);
      return {
        next: () => upperQuantile(window, ratio(spec, state.numbers)),
        push: (score) => window.push(score),
      };
    },
  };
}

const budget: Policy = windowed(({ skipRatio }, numbers) => {
  const owed = skipRatio * numbers[SLOT.decided]! - numbers[SLOT.skipped]!;
  return Math.min(1, Math.max(0, skipRatio + owed / BUDGET_HORIZON));
});

const window: Policy = windowed(({ skipRatio }) => skipRatio);

const robbinsMonro: Policy = {
  aims: true,
  capacity: ({ warmup }) => Math.max(warmup, 2),
  open(spec, state) {
    const { numbers } = state;
    const window = new ScoreWindow(state);
    const first = Math.max(spec.warmup, 2);
    const started = () => numbers[SLOT.sdW]! > 0;
    return {
      next() {
        if (spec.skipRatio === 0) return NaN;
        if (!started() && numbers[SLOT.seen]! >= first) {
          numbers[SLOT.theta] = upperQuantile(window, spec.skipRatio);
          numbers[SLOT.sdW] = Math.max(
            MIN_DEVIATION,
            Math.sqrt(variance(window.sorted, mean(window.sorted))),
          );
        }
        return started() ? numbers[SLOT.theta]! : NaN;
      },
      push(score) {
        if (started()) {
          const over = score > numbers[SLOT.theta]! ? 1 : 0;
          numbers[SLOT.theta]! += spec.eta * numbers[SLOT.sdW]! * (over - spec.skipRatio);
        } else {
          window.push(score);
        }
      },
    };
  },
};

const fixed: Policy = {
  aims: false,
  capacity: () => 0,
  open: ({ theta }) => ({ next: () => theta, push: () => {} }),
};

/** No threshold: {@linkcode chooseHighest} decides when all scores are known. */
const topk: Policy = {
  aims: true,
  whole: true,
  capacity: () => 0,
  open: () => ({ next: () => NaN, push: () => {} }),
};

/** The policies. A policy's place is its number in the C ABI. */
export const POLICIES = { budget, window, "robbins-monro": robbinsMonro, fixed, topk } as const;

export type ThresholdPolicy = keyof typeof POLICIES;

export const THRESHOLD_POLICIES: readonly ThresholdPolicy[] = Object.keys(POLICIES) as ThresholdPolicy[];

export function policyOf({ threshold }: { readonly threshold: ThresholdPolicy }): Policy {
  return POLICIES[threshold];
}

/** Thresholds at work on scores, one token after the other. */
export interface Decisions {
  /** Tokens decided or kept for the warm-up so far. */
  readonly seen: number;
  /** Decides the next token by its score (NaN = none) and moves on. */
  decide(score: number): { readonly skip: boolean; readonly theta: number };
}

/** Puts a spec's policy to work on a state: a token is skipped past the warm-up where its score is above theta. */
export function openDecisions(spec: PolicySpec, state: PolicyState): Decisions {
  const { numbers } = state, threshold = policyOf(spec).open(spec, state);
  return {
    get seen() {
      return numbers[SLOT.seen]!;
    },
    decide(score) {
      const theta = threshold.next(), t = numbers[SLOT.seen]!;
      const decided = t >= firstDecided(spec.warmup), skip = decided && score > theta;
      numbers[SLOT.seen] = t + 1;
      if (decided) numbers[SLOT.decided]! += 1;
      if (skip) numbers[SLOT.skipped]! += 1;
      if (!Number.isNaN(score)) threshold.push(score);
      return { skip, theta };
    },
  };
}

/** Index of the first token that may be skipped: the warm-up is kept, and a first token has no score. */
export function firstDecided(warmup: number): number {
  return Math.max(warmup, 1);
}

/**
 * The choice of `topk` and of the oracle over a whole sequence. With E tokens past the warm-up, it skips the min(E,
 * floor(skipRatio * max(T - warmup, 0) + 0.5)) of highest score. Ties are decided for the earlier token.
 *
 * @param scores [T]; those of the warm-up and of the first token are not read. NaN = no score: the token is kept.
 * @returns keep, [T]: 1 = compute, 0 = skip.
 */
export function chooseHighest(
  scores: Float64Array,
  skipRatio: number,
  warmup: number,
): Uint8Array<ArrayBuffer> {
  const count = scores.length, first = firstDecided(warmup);
  const keep = new Uint8Array(count).fill(1);
  const able = Array.from({ length: Math.max(count - first, 0) }, (_, i) => first + i)
    .filter((t) => !Number.isNaN(scores[t]!));
  able.sort((a, b) => scores[b]! - scores[a]! || a - b);
  const skipped = Math.min(able.length, Math.floor(skipRatio * Math.max(count - warmup, 0) + 0.5));
  for (const t of able.slice(0, skipped)) keep[t] = 0;
  return keep;
}
