/** The options of one trial: Token Filtering's own, and the `oracle` control beside its rules. */
import {
  type FeatureGroup,
  type FilterShape,
  FUSION_RULES,
  type FusionRule,
  type ResolvedOptions,
  resolveOptions,
  type TokenFilterOptions,
} from "../filter/mod.ts";
import { nearest } from "../nearest.ts";
import { createPruner, type Pruner, type PrunerContext } from "../methods/mod.ts";

/** Fusion rules that a command takes: those of the filter, and `oracle`, which looks ahead. */
export const FUSION_CHOICES = [...FUSION_RULES, "oracle"] as const;
/** A fusion rule, or `oracle`. */
export type FusionChoice = FusionRule | "oracle";

/** Options of a trial; all may be left out. */
export interface TrialOptions extends Omit<TokenFilterOptions, "fusion"> {
  /** The rule; default `variance`. */
  readonly fusion?: FusionChoice;
}

/** Options of a trial with every default filled in. */
export type ResolvedTrialOptions = Omit<ResolvedOptions, "fusion"> & { readonly fusion: FusionChoice };

/** A trial's options as they stand in a record: plain JSON. */
export interface TrialOptionsRecord extends Omit<ResolvedTrialOptions, "seed" | "skipRatios" | "features"> {
  /** As a number where it is safe, else as a decimal string. */
  readonly seed: number | string;
  /** One number a layer, or null where the schedule is not `explicit`. */
  readonly skipRatios: readonly number[] | null;
  /** Groups of features of `learned`. */
  readonly features: readonly FeatureGroup[];
}

/**
 * Fills in defaults and checks a trial's options; `oracle` takes the same ones as the other rules.
 *
 * @throws {TypeError} If an option is unknown or of the wrong type.
 * @throws {RangeError} If a value is out of range, or the method does not define the combination.
 */
export function resolveTrialOptions(options: TrialOptions = {}): ResolvedTrialOptions {
  const { fusion, ...rest } = options;
  if (typeof fusion === "string" && !FUSION_CHOICES.includes(fusion)) {
    throw new RangeError(
      `Cannot use option "fusion": found ${JSON.stringify(fusion)}, expected one of ${
        FUSION_CHOICES.join(", ")
      }: the nearest is "${nearest(fusion, FUSION_CHOICES)}"`,
    );
  }
  if (fusion !== "oracle") return resolveOptions(fusion === undefined ? rest : { ...rest, fusion });
  return { ...resolveOptions({ ...rest, fusion: "variance" }), fusion };
}

/**
 * Binds a trial's options to a model's shape.
 *
 * @throws {RangeError} If the schedule is unreachable.
 */
export function createTrialPruner(
  shape: FilterShape,
  options: ResolvedTrialOptions,
  context: PrunerContext = {},
): Pruner {
  const { fusion, threshold, ...rest } = options;
  if (fusion === "oracle") return createPruner("oracle", shape, rest, context);
  return createPruner("token-filtering", shape, { ...rest, fusion, threshold }, context);
}

/** Whether a method needs the whole sequence before its first decision. */
export function looksAhead(method: ResolvedTrialOptions): boolean {
  return method.fusion === "oracle" || method.threshold === "topk";
}

/**
 * A trial's options as plain JSON. The ratio asked for by an `explicit` schedule is the mean of its list, since
 * `pruneRatio` itself has no effect there.
 */
export function recordTrialOptions(method: ResolvedTrialOptions): TrialOptionsRecord {
  const { seed, skipRatios, ...rest } = method;
  const explicit = method.schedule === "explicit" ? skipRatios! : undefined;
  return {
    ...rest,
    ...(explicit && { pruneRatio: explicit.reduce((sum, ratio) => sum + ratio, 0) / explicit.length }),
    seed: seed <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(seed) : String(seed),
    skipRatios: skipRatios ?? null,
  };
}

/** The options that decide something under a method's rule and policies; all others change nothing. */
export function effectiveOptions(method: ResolvedTrialOptions): Partial<TrialOptionsRecord> {
  const { fusion, features } = method;
  const all = recordTrialOptions(method);
  const learned = fusion === "learned", oracle = fusion === "oracle";
  const similarity = learned ? features.includes("similarity") : !oracle && fusion !== "random";
  const projection = learned && features.includes("projection");
  const explicit = method.schedule === "explicit";
  const threshold = oracle ? undefined : method.threshold;
  const has: { readonly [K in keyof TrialOptionsRecord]: boolean } = {
    fusion: true,
    invert: true,
    tau: fusion === "variance",
    lambda: fusion === "variance",
    eps: fusion === "variance",
    alpha: fusion === "static",
    anchor: similarity,
    gamma: similarity && method.anchor === "ema",
    absorb: similarity,
    keyState: similarity,
    pruneRatio: !explicit && threshold !== "fixed",
    tail: !explicit,
    schedule: explicit || threshold !== "fixed",
    slope: method.schedule === "ramp" && threshold !== "fixed",
    skipRatios: explicit,
    warmup: true,
    threshold: !oracle,
    window: threshold === "budget" || threshold === "window",
    theta: threshold === "fixed",
    eta: threshold === "robbins-monro",
    cacheSkipped: true,
    recent: !method.cacheSkipped,
    block: learned,
    ridge: learned,
    projections: projection,
    features: learned,
    seed: fusion === "random" || projection,
  };
  const kept = Object.entries(all).filter(([name]) => has[name as keyof TrialOptionsRecord]);
  return Object.fromEntries(kept) as Partial<TrialOptionsRecord>;
}

/** A key by which methods that share it decide alike. */
export function effectiveKey(method: ResolvedTrialOptions): string {
  const entries = Object.entries(effectiveOptions(method));
  return JSON.stringify(entries.sort(([a], [b]) => a < b ? -1 : 1));
}
