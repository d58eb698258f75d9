/** Where the counters of a layer's state stand. */

/** Slots of `LayerState.numbers`; the native kernels use the same (`TKF_SLOT_…`). */
export const SLOT = {
  /** n: tokens seen so far. */
  seen: 0,
  /** m: tokens absorbed into the anchors so far. */
  absorbed: 1,
  /** Scores recorded so far; the ring `scores` holds the last `scores.length` of them. */
  scored: 2,
  /** c: tokens so far with n >= max(warmup, 1). */
  decided: 3,
  /** Tokens skipped so far. */
  skipped: 4,
  /** `robbins-monro`: theta. */
  theta: 5,
  /** `robbins-monro`: sdW; 0 = not yet started. */
  sdW: 6,
  /** A rule that learns: rows in the pending block. */
  pending: 7,
  /** The same: pending rows whose outcome is known (skipped, or kept and observed). */
  settled: 8,
  /** The same: 1 once the warm-up has been fitted. */
  fitted: 9,
} as const;
/** Slots of `LayerState.numbers` that no kernel touches. */
export const HOST_SLOT = {
  /** For the schedule `allocated`: outcomes of the warm-up's tokens taken in so far. */
  outcomes: 10,
  /** The same: those of them that count. */
  counted: 11,
  /** The same: their mean. */
  outcomeMean: 12,
  /** The same: the sum of their squared distances from it. */
  outcomeSquares: 13,
} as const;
/** Length of `LayerState.numbers`. */
export const NUM_SLOTS = 16;
