/**
 * One filtered layer of one sequence: what it was asked to do ({@linkcode LayerSpec}) and everything it
 * remembers ({@linkcode LayerState}), as plain typed arrays that the TypeScript reference and the native
 * kernels read and write alike. Nothing here grows with the sequence.
 */

/** Fusion rules. All but `learned` need keys and values alone. The index is the rule's number in the C ABI. */
export const FUSION_RULES = [
  "variance",
  "mean",
  "static",
  "key",
  "value",
  "min",
  "max",
  "product",
  "random",
  "learned",
] as const;
/** How per-head similarities become one score. `oracle` looks ahead and lives in `lib/methods/oracle.ts`. */
export type FusionRule = (typeof FUSION_RULES)[number];

/** Threshold policies. The index is the policy's number in the C ABI. */
export const THRESHOLD_POLICIES = ["budget", "window", "robbins-monro", "fixed", "topk"] as const;
/** How the threshold of a token comes about. */
export type ThresholdPolicy = (typeof THRESHOLD_POLICIES)[number];

/** Anchors: exponential moving average, or true running mean. The index is the number in the C ABI. */
export const ANCHORS = ["ema", "mean"] as const;
/** How an anchor follows the past. */
export type Anchor = (typeof ANCHORS)[number];

/** Which tokens move the anchors. The index is the number in the C ABI. */
export const ABSORBS = ["all", "kept"] as const;
/** Which tokens move the anchors. */
export type Absorb = (typeof ABSORBS)[number];

/** Feature groups of the `learned` rule, in their order; group i is bit i of `LayerSpec.features`. */
export const FEATURE_GROUPS = ["similarity", "norm", "projection", "query"] as const;
/** A feature group of the `learned` rule. */
export type FeatureGroup = (typeof FEATURE_GROUPS)[number];

/** Everything that decides one layer, resolved to numbers. Defaults and validation: `options.ts`. */
export interface LayerSpec {
  /** 0-based index of the layer in the model. */
  readonly layer: number;
  /** KV heads, H. */
  readonly numKvHeads: number;
  /** Head dimension, d. */
  readonly headDim: number;
  /** Width of the residual stream (`learned` alone reads it). */
  readonly hiddenSize: number;
  /** Asked share of this layer's tokens to skip after warm-up, rho in [0, 1]. */
  readonly skipRatio: number;
  /** How similarities become a score. */
  readonly fusion: FusionRule;
  /** Negate the score. */
  readonly invert: boolean;
  /** `variance`: sharpness of the weights, in [0, 64]. */
  readonly tau: number;
  /** `variance`: standard deviations across heads that are taken off the mean, at least 0. */
  readonly lambda: number;
  /** `variance`: added to variances before weighing, above 0. */
  readonly eps: number;
  /** `static`: weight of the keys, in [0, 1]. */
  readonly alpha: number;
  /** How the anchors follow the past. */
  readonly anchor: Anchor;
  /** Decay of the `ema` anchor, in [0, 1). */
  readonly gamma: number;
  /** Which tokens move the anchors; `topk` absorbs all. */
  readonly absorb: Absorb;
  /** Tokens kept at the start. */
  readonly warmup: number;
  /** How the threshold comes about. */
  readonly threshold: ThresholdPolicy;
  /** Scores that `budget` and `window` look back on. */
  readonly window: number;
  /** The threshold of `fixed`. */
  readonly theta: number;
  /** Step of `robbins-monro`. */
  readonly eta: number;
  /** Seed of `random` and of the `learned` rule's projections; a 64-bit unsigned integer. */
  readonly seed: bigint;
  /** 0-based index of the sequence in a text scored in chunks (`random` reads it). */
  readonly chunk: number;
  /** `learned`: tokens per block. */
  readonly block: number;
  /** `learned`: ridge of the regression. */
  readonly ridge: number;
  /** `learned`: number of random projections, n. */
  readonly projections: number;
  /** `learned`: bit set of {@linkcode FEATURE_GROUPS}. */
  readonly features: number;
}

/** Slots of {@linkcode LayerState.numbers}; the native kernels use the same (`TKF_SLOT_…`). */
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
  /** `learned`: rows in the pending block. */
  pending: 7,
  /** `learned`: pending rows whose outcome is known (skipped, or kept and observed). */
  settled: 8,
  /** `learned`: 1 once the warm-up has been fitted. */
  fitted: 9,
} as const;
/** Length of {@linkcode LayerState.numbers}. */
export const NUM_SLOTS = 16;

/** What one filtered layer remembers of one sequence. */
export interface LayerState {
  /** Running averages of the keys, [H, d]; zeros before the first absorbed token. */
  readonly anchorK: Float32Array<ArrayBuffer>;
  /** Running averages of the values, [H, d]. */
  readonly anchorV: Float32Array<ArrayBuffer>;
  /** Counters, see {@linkcode SLOT}. */
  readonly numbers: Float64Array<ArrayBuffer>;
  /** Ring of recent scores: score number i lies at i % length. See {@linkcode scoreCapacity}. */
  readonly scores: Float64Array<ArrayBuffer>;
  /** Regression of the `learned` rule, packed as {@linkcode learnedLayout} says; else empty. */
  readonly learned: Float64Array<ArrayBuffer>;
}

/** Whether the `learned` rule is asked for a group of features. */
export function hasFeature(spec: LayerSpec, group: FeatureGroup): boolean {
  return ((spec.features >> FEATURE_GROUPS.indexOf(group)) & 1) === 1;
}

/** Number of features of the `learned` rule, the bias included. */
export function numFeatures(spec: LayerSpec): number {
  const size = (group: FeatureGroup, count: number) => hasFeature(spec, group) ? count : 0;
  return size("similarity", 4) + size("norm", 3) + size("projection", spec.projections) + size("query", 1) +
    1;
}

/**
 * Where the parts of {@linkcode LayerState.learned} begin, in this order: `mean` [F], `sd` [F] (of the raw
 * features; bias: 0 and 1 with no standardising), `A` [F, F] = ridge*I + sum z z', `b` [F] = sum z*y, `w` [F],
 * then the pending block of at most P = max(warmup, block) tokens: raw features `f` [P, F], `y` [P]
 * (ln-ratio of an observed kept token) and `outcome` [P] (0 = skipped, 1 = kept and not yet observed,
 * 2 = kept and observed).
 */
export function learnedLayout(spec: LayerSpec): {
  F: number;
  P: number;
  mean: number;
  sd: number;
  A: number;
  b: number;
  w: number;
  f: number;
  y: number;
  outcome: number;
  length: number;
} {
  const F = numFeatures(spec);
  const P = Math.max(spec.warmup, spec.block);
  const mean = 0, sd = F, A = 2 * F, b = A + F * F, w = b + F, f = w + F, y = f + P * F, outcome = y + P;
  return { F, P, mean, sd, A, b, w, f, y, outcome, length: outcome + P };
}

/** Scores that the policy has to look back on: the ring's length. */
export function scoreCapacity(spec: LayerSpec): number {
  switch (spec.threshold) {
    case "budget":
    case "window":
      return spec.window;
    case "robbins-monro":
      return Math.max(spec.warmup, 2);
    default:
      return 0;
  }
}

/** The state of a layer before its first token. */
export function createLayerState(spec: LayerSpec): LayerState {
  const size = spec.numKvHeads * spec.headDim;
  return {
    anchorK: new Float32Array(size),
    anchorV: new Float32Array(size),
    numbers: new Float64Array(NUM_SLOTS),
    scores: new Float64Array(scoreCapacity(spec)),
    learned: new Float64Array(spec.fusion === "learned" ? learnedLayout(spec).length : 0),
  };
}

/** An independent copy. */
export function cloneLayerState(state: LayerState): LayerState {
  return {
    anchorK: state.anchorK.slice(),
    anchorV: state.anchorV.slice(),
    numbers: state.numbers.slice(),
    scores: state.scores.slice(),
    learned: state.learned.slice(),
  };
}

/**
 * The tokens that a scan takes in: T of them, one row each.
 * `keys` and `values` are f32, f16 or bf16, both alike.
 */
export interface ScanInput<T> {
  /** Keys, [T, H, d]. */
  readonly keys: T;
  /** Values, [T, H, d], in the type of `keys`. */
  readonly values: T;
  /** `learned`: residual stream before the attention block, x, [T, hiddenSize] f32. */
  readonly residual?: T;
  /** `learned`: the attention's input after its RMSNorm (weight applied), h, [T, hiddenSize] f32. */
  readonly normed?: T;
  /** `learned` with the `query` feature: queries, [T, numHeads * d] f32. */
  readonly queries?: T;
}

/** What a scan says of each token it took; rows that are undefined (see method.md) hold NaN. */
export interface ScanOutput {
  /** Fused score S: high = like what was already seen. Kept in float64. */
  readonly redundancy: Float64Array<ArrayBuffer>;
  /** 1 = compute this token's attention, 0 = skip it. */
  readonly keep: Uint8Array<ArrayBuffer>;
  /**
   * theta before this token; NaN where the policy had none: no score yet, a ratio of 0 to aim at, before the start
   * of `robbins-monro`, in the warm-up of `learned`, and always for `topk`. The warm-up is kept whatever it says.
   */
  readonly threshold: Float64Array<ArrayBuffer>;
  /** Mean over heads of the keys' cosines with their anchors; NaN for the first token of a sequence. */
  readonly muK: Float64Array<ArrayBuffer>;
  /** Population variance over heads of the same. */
  readonly varK: Float64Array<ArrayBuffer>;
  /** Like `muK`, of the values. */
  readonly muV: Float64Array<ArrayBuffer>;
  /** Like `varK`, of the values. */
  readonly varV: Float64Array<ArrayBuffer>;
  /**
   * Weight of the key side: what `variance` computed (NaN for the first token of a sequence), the constant of `mean`,
   * `static`, `key` and `value`, NaN for the other rules.
   */
  readonly wK: Float64Array<ArrayBuffer>;
}

/** The columns of a {@linkcode ScanOutput} that hold numbers, in the order of the C ABI. */
export const SCAN_COLUMNS = ["redundancy", "threshold", "muK", "varK", "muV", "varV", "wK"] as const;

/** Room for the output of `count` tokens. */
export function createScanOutput(count: number): ScanOutput {
  const column = () => new Float64Array(count).fill(NaN);
  return {
    redundancy: column(),
    keep: new Uint8Array(count).fill(1),
    threshold: column(),
    muK: column(),
    varK: column(),
    muV: column(),
    varV: column(),
    wK: column(),
  };
}

/**
 * Decides tokens: the recurrence of method.md over `count` rows from row `start` of the input on; writes rows
 * [start, start + taken) of the output and updates the state.
 * `learned` stops at the end of its block; every other rule takes all rows.
 *
 * @returns The number of tokens taken, at least 1.
 */
export type FilterScan<T> = (
  spec: LayerSpec,
  state: LayerState,
  input: ScanInput<T>,
  start: number,
  count: number,
  output: ScanOutput,
) => number;

/**
 * `learned`: takes in the outcome y = ln((norm(o)+1e-6)/(norm(x)+1e-6)) of the pending block's kept tokens that
 * were not yet observed, in order; when the block is complete it enters the fit.
 */
export type FilterObserve = (spec: LayerSpec, state: LayerState, y: Float64Array<ArrayBuffer>) => void;
