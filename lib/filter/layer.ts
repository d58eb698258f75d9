/**
 * One filtered layer of one sequence: its specification ({@linkcode LayerSpec}) and its whole state
 * ({@linkcode LayerState}). Both are plain typed arrays that the TypeScript reference and the native kernels read and
 * write alike. Nothing here grows with the sequence.
 */
import { FILTER_OPTIONS } from "./options.ts";
import { firstOutcome } from "./outcome.ts";
import type { LayerSpec, LayerState, TokenIds } from "./rule.ts";
import { NUM_SLOTS } from "./slots.ts";
import { policyOf } from "./threshold.ts";

export type { FilterObserve, FilterShape, LayerSpec, LayerState, TokenIds } from "./rule.ts";
export { NUM_SLOTS, SLOT } from "./slots.ts";

/** A property of a spec as a number: flags as 0 and 1, names by their place among the option's. */
export function codeOf(spec: LayerSpec, name: string): number {
  const value = (spec as unknown as { readonly [name: string]: unknown })[name];
  if (typeof value !== "string") return Number(value);
  const { names } = FILTER_OPTIONS[name as "anchor"];
  return (names as readonly string[]).indexOf(value);
}

/** Seed and number of the random projections of the rule; none where it remembers nothing. */
export function projectionsOf(spec: LayerSpec): { readonly seed: bigint; readonly count: number } {
  const { seed, projections } = spec as LayerSpec & { readonly seed: bigint; readonly projections: number };
  return { seed, count: spec.rule.memory === undefined ? 0 : projections };
}

/** The first token whose outcome a rule that learns takes in; 0 where the rule remembers nothing. */
export function firstOutcomeOf(spec: LayerSpec): number {
  return spec.rule.memory === undefined ? 0 : firstOutcome(spec);
}

export function stateSizes(spec: LayerSpec): { readonly [Part in keyof LayerState]: number } {
  const size = spec.numKvHeads * spec.headDim;
  return {
    anchorK: size,
    anchorV: size,
    numbers: NUM_SLOTS,
    scores: policyOf(spec).capacity(spec),
    learned: spec.rule.memory?.size(spec) ?? 0,
  };
}

export function createLayerState(spec: LayerSpec): LayerState {
  const { anchorK, anchorV, numbers, scores, learned } = stateSizes(spec);
  return {
    anchorK: new Float32Array(anchorK),
    anchorV: new Float32Array(anchorV),
    numbers: new Float64Array(numbers),
    scores: new Float64Array(scores),
    learned: new Float64Array(learned),
  };
}

export function cloneLayerState(state: LayerState): LayerState {
  const copies = Object.entries(state).map(([part, numbers]) => [part, numbers.slice()]);
  return Object.fromEntries(copies) as unknown as LayerState;
}

/**
 * The tokens that a scan takes in: T of them, one row each. `keys` and `values` are [T, H, d] of f32, f16 or bf16, both
 * alike.
 */
export interface ScanInput<T> {
  readonly keys: T;
  readonly values: T;
  /** Where the rule reads it: residual stream before the attention block, x, [T, hiddenSize] f32. */
  readonly residual?: T;
  /** Where the rule reads it: the attention's input after its RMSNorm (weight applied), h, [T, hiddenSize] f32. */
  readonly normed?: T;
  /** Where the rule reads it: queries, [T, numHeads * d] f32. */
  readonly queries?: T;
  /** Ids of the tokens, for a rule that runs in TypeScript. */
  readonly tokens?: TokenIds | undefined;
}

/** @internal Results of a scan for each token it took; undefined numbers are NaN. */
export interface ScanOutput {
  /** Fused score S: high = similar to earlier tokens. Kept in float64. */
  readonly redundancy: Float64Array<ArrayBuffer>;
  /** 1 = compute this token's attention, 0 = skip it. */
  readonly keep: Uint8Array<ArrayBuffer>;
  /**
   * theta before this token; NaN where the policy had none. It has none before the first score, with a ratio of 0 to
   * aim at, before the start of `robbins-monro`, while a rule that learns has not been fitted, and always with `topk`.
   * The warm-up is kept at any threshold.
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
  /** Weight of the key side, where the rule has one. */
  readonly wK: Float64Array<ArrayBuffer>;
}

/** The columns of a {@linkcode ScanOutput} that hold numbers, in the order of the C ABI. */
export const SCAN_COLUMNS = ["redundancy", "threshold", "muK", "varK", "muV", "varV", "wK"] as const;

export function createScanOutput(count: number): ScanOutput {
  const columns = SCAN_COLUMNS.map((name) => [name, new Float64Array(count).fill(NaN)]);
  return { keep: new Uint8Array(count).fill(1), ...Object.fromEntries(columns) };
}

/**
 * @internal Decides tokens: the recurrence over `count` rows from row `start` of the input on; writes rows [start, start + taken)
 * of the output and updates the state. A rule that learns stops at the end of its block; every other one takes all rows.
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
