/** The method's options: their names, defaults and ranges, checked in one place. */
import { nearest } from "../nearest.ts";
import {
  type Absorb,
  ABSORBS,
  type Anchor,
  ANCHORS,
  FEATURE_GROUPS,
  type FeatureGroup,
  FUSION_RULES,
  type FusionRule,
  THRESHOLD_POLICIES,
  type ThresholdPolicy,
} from "./layer.ts";

/** How the asked ratio is spread over the filtered layers. */
export const SCHEDULES = ["uniform", "ramp", "explicit"] as const;
/** A schedule's name. */
export type Schedule = (typeof SCHEDULES)[number];

/** Which keys the filter looks at: after rotary embedding, or before it. */
export const KEY_STATES = ["post-rope", "pre-rope"] as const;
/** Which keys the filter looks at. */
export type KeyState = (typeof KEY_STATES)[number];

/** Named sets of options. `paper` = the rule `variance` with no recent window. */
export const PRESETS = { paper: { fusion: "variance", recent: 0 } } as const satisfies {
  readonly [name: string]: TokenFilterOptions;
};
/** A preset's name. */
export type Preset = keyof typeof PRESETS;

/** Options of Token Filtering; all may be left out. Those without effect under the chosen rule are accepted. */
export interface TokenFilterOptions {
  /** Options to start from; any given beside it win. */
  readonly preset?: Preset;
  /** How similarities become a score. Default `variance`. */
  readonly fusion?: FusionRule;
  /** Negate the score: skip the least redundant tokens (a control). Default false. */
  readonly invert?: boolean;
  /** `variance`: sharpness of the weights, in [0, 64]; 0 = plain mean. Default 1. */
  readonly tau?: number;
  /** `variance`: how much disagreement of heads lowers the score, in [0, 64]. Default 0. */
  readonly lambda?: number;
  /** `variance`: added to variances before weighing, in (0, 1]. Default 1e-6. */
  readonly eps?: number;
  /** `static`: weight of the keys, in [0, 1]. Default 0.5. */
  readonly alpha?: number;
  /** How anchors follow the past. Default `ema`. */
  readonly anchor?: Anchor;
  /** Decay of the `ema` anchor, in [0, 1). Default 0.9. */
  readonly gamma?: number;
  /** Which tokens move the anchors. Default `all`. */
  readonly absorb?: Absorb;
  /** Share of all (layer, token) attention computations to skip after warm-up, in [0, 1). Default 0.5. */
  readonly pruneRatio?: number;
  /** Share of the layers that is filtered, the last ones, in (0, 1]. Default 0.75. */
  readonly tail?: number;
  /** How the ratio is spread over filtered layers. Default `uniform`, or `explicit` where `skipRatios` is given. */
  readonly schedule?: Schedule;
  /** `ramp`: relative rise from the mean to the last filtered layer, in [0, 1]. Default 0.5. */
  readonly slope?: number;
  /** `explicit`: one skip ratio in [0, 1] for every layer of the model; 0 = not filtered. */
  readonly skipRatios?: readonly number[];
  /** Tokens kept at the start of a sequence, 0 to 1,000,000. Default 32. */
  readonly warmup?: number;
  /** How the threshold comes about. Default `budget`. */
  readonly threshold?: ThresholdPolicy;
  /** `budget`, `window`: scores to look back on, 1 to 65,536. Default 256. */
  readonly window?: number;
  /** `fixed`: the threshold. Default 0. */
  readonly theta?: number;
  /** `robbins-monro`: step size, in (0, 10]. Default 0.1. */
  readonly eta?: number;
  /** Which keys the filter looks at. Default `post-rope`. */
  readonly keyState?: KeyState;
  /** Skipped tokens enter the KV cache all the same (an ablation). Default false. */
  readonly cacheSkipped?: boolean;
  /** For how many tokens a skipped token's key and value stay visible, 0 to 65,536. Default 16. */
  readonly recent?: number;
  /** `learned`: tokens per block, 1 to 65,536. Default 32. */
  readonly block?: number;
  /** `learned`: ridge of the regression, in (0, 1e12]. Default 1. */
  readonly ridge?: number;
  /** `learned`: number of random projections, 0 to 256. Default 16. */
  readonly projections?: number;
  /** `learned`: groups of features. Default all but `query`. */
  readonly features?: readonly FeatureGroup[];
  /** Seed of `random` and of the `learned` rule's projections: an integer in [0, 2^64). Default 0. */
  readonly seed?: number | bigint;
}

/** Options with every default filled in. */
export type ResolvedOptions = Readonly<
  & Required<Omit<TokenFilterOptions, "preset" | "skipRatios" | "seed">>
  & { skipRatios: readonly number[] | undefined; seed: bigint }
>;

/** One option: its default, what it must be in words, and the checks for type and range. */
interface Rule {
  readonly fallback: unknown;
  readonly expected: string;
  hasType(value: unknown): boolean;
  inRange(value: never): boolean;
}

function oneOf(names: readonly string[], fallback: string | undefined): Rule {
  return {
    fallback,
    expected: `one of ${names.join(", ")}`,
    hasType: (value) => typeof value === "string",
    inRange: (value) => names.includes(value),
  };
}

function flag(): Rule {
  return {
    fallback: false,
    expected: "true or false",
    hasType: (value) => typeof value === "boolean",
    inRange: () => true,
  };
}

/** `range` in interval notation, such as "[0, 1)". */
function real(fallback: number, range?: string): Rule {
  const [low, high] = range === undefined
    ? [-Infinity, Infinity]
    : range.slice(1, -1).split(", ").map(Number);
  return {
    fallback,
    expected: range === undefined ? "a finite number" : `a number in ${range}`,
    hasType: (value) => typeof value === "number",
    inRange: (value) =>
      Number.isFinite(value) && (range?.startsWith("(") ? value > low! : value >= low!) &&
      (range?.endsWith(")") ? value < high! : value <= high!),
  };
}

function integer(fallback: number, low: number, high: number): Rule {
  return {
    fallback,
    expected: `an integer from ${low} to ${high}`,
    hasType: (value) => typeof value === "number",
    inRange: (value) => Number.isInteger(value) && value >= low && value <= high,
  };
}

/** Longest warm-up: the `learned` rule holds that many tokens' features, others nothing. */
const MAX_WARMUP = 1_000_000;
/** Largest window, block or recent window: each is memory per layer and sequence. */
const MAX_SPAN = 65_536;
/** The projections' hash has 8 bits for their number. */
const MAX_PROJECTIONS = 256;

const RULES: { readonly [K in keyof Required<TokenFilterOptions>]: Rule } = {
  preset: oneOf(Object.keys(PRESETS), undefined),
  fusion: oneOf(FUSION_RULES, "variance"),
  invert: flag(),
  tau: real(1, "[0, 64]"),
  lambda: real(0, "[0, 64]"),
  eps: real(1e-6, "(0, 1]"),
  alpha: real(0.5, "[0, 1]"),
  anchor: oneOf(ANCHORS, "ema"),
  gamma: real(0.9, "[0, 1)"),
  absorb: oneOf(ABSORBS, "all"),
  pruneRatio: real(0.5, "[0, 1)"),
  tail: real(0.75, "(0, 1]"),
  schedule: oneOf(SCHEDULES, undefined),
  slope: real(0.5, "[0, 1]"),
  skipRatios: {
    fallback: undefined,
    expected: "a list of numbers in [0, 1], one a layer",
    hasType: (value) => Array.isArray(value) && value.every((x) => typeof x === "number"),
    inRange: () => true, // expectDefined() names the layer
  },
  warmup: integer(32, 0, MAX_WARMUP),
  threshold: oneOf(THRESHOLD_POLICIES, "budget"),
  window: integer(256, 1, MAX_SPAN),
  theta: real(0),
  eta: real(0.1, "(0, 10]"),
  keyState: oneOf(KEY_STATES, "post-rope"),
  cacheSkipped: flag(),
  recent: integer(16, 0, MAX_SPAN),
  block: integer(32, 1, MAX_SPAN),
  ridge: real(1, "(0, 1e12]"),
  projections: integer(16, 0, MAX_PROJECTIONS),
  features: {
    fallback: ["similarity", "norm", "projection"],
    expected: `a list of some of ${FEATURE_GROUPS.join(", ")}, each once`,
    hasType: (value) => Array.isArray(value) && value.every((x) => typeof x === "string"),
    inRange: (value: readonly FeatureGroup[]) =>
      value.length > 0 && new Set(value).size === value.length &&
      value.every((x) => FEATURE_GROUPS.includes(x)),
  },
  seed: {
    fallback: 0n,
    expected: "an integer in [0, 2^64)",
    hasType: (value) => typeof value === "number" || typeof value === "bigint",
    inRange: (value: number | bigint) =>
      typeof value === "bigint"
        ? value >= 0n && value < 1n << 64n
        : Number.isSafeInteger(value) && value >= 0,
  },
};

/** Names of all options. */
export const OPTION_NAMES: readonly (keyof TokenFilterOptions)[] = Object.keys(
  RULES,
) as (keyof TokenFilterOptions)[];

function shown(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(shown).join(", ")}]`;
  return typeof value === "object" && value !== null ? "an object" : String(value);
}

/**
 * Fills in defaults and checks everything that can be checked without a model.
 *
 * @throws {TypeError} If an option is unknown or of the wrong type.
 * @throws {RangeError} If a value is out of range, or the method does not define the combination.
 *
 * @example
 * ```ts
 * import { resolveOptions } from "@tokenfilter/tokenfilter";
 * const options = resolveOptions({ fusion: "learned", pruneRatio: 0.3 });
 * console.assert(options.recent === 16 && options.warmup === 32);
 * ```
 */
export function resolveOptions(options: TokenFilterOptions = {}): ResolvedOptions {
  if (typeof options !== "object" || options === null || Array.isArray(options)) {
    throw new TypeError(`Cannot use options: found ${shown(options)}, expected an object`);
  }
  const given = Object.entries(options).filter(([, value]) => value !== undefined);
  for (const [name, value] of given) {
    if (!Object.hasOwn(RULES, name)) {
      throw new TypeError(
        `Cannot use option "${name}": no such option, the nearest is "${nearest(name, OPTION_NAMES)}"`,
      );
    }
    const { expected, hasType, inRange } = RULES[name as keyof TokenFilterOptions];
    const message = `Cannot use option "${name}": found ${shown(value)}, expected ${expected}`;
    if (!hasType(value)) throw new TypeError(message);
    if (!inRange(value as never)) throw new RangeError(message);
  }
  const { preset, ...chosen } = Object.fromEntries(given) as TokenFilterOptions;
  const defaults = Object.fromEntries(OPTION_NAMES.map((name) => [name, RULES[name].fallback]));
  const merged = { ...defaults, ...(preset && PRESETS[preset]), ...chosen } as
    & Omit<ResolvedOptions, "seed" | "schedule">
    & { preset?: Preset; seed: number | bigint; schedule?: Schedule };
  delete merged.preset;
  const schedule = merged.schedule ?? (merged.skipRatios === undefined ? "uniform" : "explicit");
  const resolved: ResolvedOptions = { ...merged, schedule, seed: BigInt(merged.seed) };
  expectDefined(resolved);
  return resolved;
}

/** Refuses the combinations that the method does not define. */
function expectDefined({ fusion, warmup, threshold, absorb, schedule, skipRatios }: ResolvedOptions): void {
  const refuse = (option: string, found: unknown, expected: string) => {
    throw new RangeError(`Cannot use option "${option}": found ${shown(found)}, expected ${expected}`);
  };
  if (schedule === "explicit" && skipRatios === undefined) {
    refuse("skipRatios", undefined, "one number a layer, since the schedule is explicit");
  }
  const layer = skipRatios?.findIndex((ratio) => !(ratio >= 0 && ratio <= 1)) ?? -1;
  if (layer >= 0) {
    throw new RangeError(
      `Cannot use option "skipRatios": found ${
        skipRatios![layer]
      } for layer ${layer}, expected a number in [0, 1]`,
    );
  }
  if (fusion !== "learned") return;
  const why = `since the rule is "learned"`;
  if (warmup < 8 || warmup > MAX_SPAN) refuse("warmup", warmup, `an integer from 8 to ${MAX_SPAN} ${why}`);
  if (threshold !== "budget" && threshold !== "window") {
    refuse("threshold", threshold, `budget or window ${why}`);
  }
  if (absorb !== "all") refuse("absorb", absorb, `all ${why}`);
}
