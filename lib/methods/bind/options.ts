/** Options as a method takes them: checked, filled in, recorded, and without those that have no effect. */
import {
  checkNarrower,
  checkOption,
  type Option,
  type OptionTable,
  type Recorded,
  type Resolved,
  showValue,
  wrongOption,
} from "../../filter/option.ts";
import type { Reads } from "../../filter/rule.ts";
import { checkRatios, type SideName } from "../../filter/schedule.ts";
import { POLICIES, policyOf, THRESHOLD_POLICIES } from "../../filter/threshold.ts";
import { expectOptions } from "../../errors.ts";
import {
  FUSION_NAMES,
  KEY_RULE_NAMES,
  keyMethodOf,
  type MethodName,
  methodOf,
  type RuleName,
} from "../list.ts";
import { type AnyRule, isEviction, isOffline, isRule, type Method } from "../protocol/method.ts";
import type { MethodOptions } from "./method_options.ts";
import { OPTIONS, type Options, PRESETS } from "./option_table.ts";
import { SIGNALS } from "../protocol/signals.ts";
import {
  decidingMethods,
  filtersQueries,
  KEY_OPTIONS,
  keyRuleOf,
  keySideOptions,
  settleSides,
  SIDE_CHOICES,
} from "./sides.ts";
import { checkSubstitute } from "./substitute.ts";

export type { MethodOptions } from "./method_options.ts";

/** Options of Token Filtering; `fusion` is one of the rules. */
export type TokenFilterOptions = Omit<MethodOptions, "fusion"> & {
  /** How similarities become a score: a rule; default `variance`. */
  readonly fusion?: RuleName;
};
/** @internal Options with every default filled in. */
export type ResolvedOptions = Resolved<Omit<Options, "preset" | "side" | "cacheSkipped">>;
/** @internal Options as they stand in a record: plain JSON. */
export type OptionsRecord = Recorded<Omit<Options, "preset" | "side" | "cacheSkipped">>;

const SHORT: readonly string[] = ["preset", ...Object.keys(SIDE_CHOICES)];
type Row = readonly [name: string, option: Option];
const ROWS: readonly Row[] = Object.entries(OPTIONS).filter(([name]) => !SHORT.includes(name));
const DEFAULTS = Object.fromEntries(
  ROWS.map(([name, option]) => [name, "default" in option ? option.default : undefined]),
) as { readonly [name: string]: unknown } & {
  readonly fusion: MethodName;
  readonly pruneRatio: number;
  readonly schedule: ResolvedOptions["schedule"];
  readonly features: ResolvedOptions["features"];
};

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
export function resolveOptions(options: MethodOptions = {}): ResolvedOptions {
  expectOptions(options, OPTIONS);
  const given = Object.entries(onKeySide(options)).filter(([, value]) => value !== undefined);
  for (const [name, value] of given) checkOption(name, OPTIONS[name]!, value);
  const { preset, ...chosen } = Object.fromEntries(given) as MethodOptions;
  const asked = settleSides({ ...startOf(preset, chosen), ...chosen }, DEFAULTS);
  const schedule = asked.schedule ?? (asked.skipRatios === undefined ? DEFAULTS.schedule : "explicit");
  // With a local substitute, the features that it makes known come with the others, unless those were chosen.
  const addsLocal = asked.substitute === "local" && asked.features === undefined;
  const features = addsLocal ? [...DEFAULTS.features, "local"] : asked.features ?? DEFAULTS.features;
  const merged = Object.entries({ ...DEFAULTS, ...asked, schedule, features }).map(([name, value]) =>
    [name, OPTIONS[name]!.type === "seed" ? BigInt(value as bigint) : value] as const
  );
  const resolved = Object.fromEntries(merged) as unknown as ResolvedOptions, keyRule = keyRuleOf(resolved);
  checkRatios(resolved);
  const rule = keyRule && keyMethodOf(keyRule);
  const why = rule === undefined
    ? "keys and values have no rule of their own (side key or a kvFusion gives one: --side key, --kv-method)"
    : isEviction(rule) && rule.heads !== undefined && `"${rule.name}" finds its own KV heads`;
  if (resolved.whole !== "none" && why) {
    throw wrongOption("whole", showValue(resolved.whole), `"none" since ${why}`);
  }
  if (filtersQueries(resolved)) {
    const method = methodOf(resolved.fusion);
    if (isOffline(method)) checkAlone(resolved, keyRule);
    checkNarrows(method, resolved, isRule(method) ? method.narrows : {});
    checkSubstitute(method, resolved);
  }
  if (rule !== undefined && isRule(rule)) {
    const reads = readsOf(rule, resolved);
    // Which tokens it keeps is not known when the next one's similarity is.
    const absorb = reads.includes("similarity") && { absorb: { names: ["all"] } };
    // It receives signals of tokens when they are decided: none can wait for the whole sequence.
    const threshold = SIGNALS.some((name) => reads.includes(name)) && {
      threshold: { names: THRESHOLD_POLICIES.filter((policy) => !POLICIES[policy].whole) },
    };
    checkNarrows(rule, resolved, { ...rule.narrows, ...absorb, ...threshold }, "of keys and values ");
  }
  return resolved;
}

/** Options of a preset. A method that is named replaces the preset's rule of keys and values, where no query is skipped. */
function startOf(preset: MethodOptions["preset"], { fusion }: MethodOptions): MethodOptions {
  const { kvFusion, ...others }: MethodOptions = preset === undefined ? {} : PRESETS[preset];
  const isReplaced = kvFusion === undefined || fusion !== undefined && others.side === "key";
  return isReplaced ? others : { ...others, kvFusion };
}

/** Options in which a rule of only keys and values stands as such: where the side is key, `fusion` may name it too. */
function onKeySide(options: MethodOptions): MethodOptions {
  const { fusion, ...others } = options, names: readonly string[] = FUSION_NAMES;
  const rule = KEY_RULE_NAMES.find((name) => name === fusion);
  if (rule === undefined || names.includes(rule)) return options;
  const preset: MethodOptions = others.preset === undefined ? {} : PRESETS[others.preset] ?? {};
  const isAlone = (others.side ?? preset.side) === "key";
  if (isAlone && others.kvFusion === undefined) return { ...others, kvFusion: rule };
  const expected = "one that skips queries, since this one is of keys and values: side key, or kvFusion";
  throw wrongOption("fusion", `"${fusion}"`, expected);
}

/** Refuses options that cannot be combined with a method that alters the model. */
function checkAlone({ fusion, shuffle }: ResolvedOptions, keyRule: string | undefined): void {
  if (shuffle) throw wrongOption("shuffle", "true", `false since "${fusion}" decides no token`);
  if (keyRule === undefined) return;
  throw wrongOption("kvFusion", `"${keyRule}"`, `same since "${fusion}" alters the model`);
}

/** Refuses the combinations that a method does not define. */
function checkNarrows(
  { name: rule }: Method,
  options: ResolvedOptions,
  narrows: AnyRule["narrows"] = {},
  of = "",
): void {
  for (const [name, narrower] of Object.entries(narrows)) {
    const why = `since the rule ${of}is "${rule}"`;
    checkNarrower(name, OPTIONS[name]!, narrower, options[name as keyof ResolvedOptions], why);
  }
}

export function readsOf(rule: AnyRule, options: ResolvedOptions): readonly Reads[] {
  return rule.reads?.(options as never) ?? ["similarity"];
}

/** Whether a method needs the whole sequence before its first decision. */
export function nonCausal(options: ResolvedOptions): boolean {
  if (options.shuffle) return true;
  const isWhole = policyOf(options).whole === true;
  return decidingMethods(options).some((method) =>
    isRule(method) ? isWhole : "nonCausal" in method && method.nonCausal === true
  );
}

/** Seeds and lists that may be missing come last in a record. */
const RECORDED: readonly Row[] = ["", "seed", "ratios"].flatMap((last) =>
  ROWS.filter(([, { type }]) => (type === "seed" || type === "ratios" ? type : "") === last)
);

/**
 * Options as plain JSON. The ratio asked for by an `explicit` schedule is the mean of its list, since `pruneRatio`
 * and `kvRatio` themselves have no effect there.
 */
export function recordOptions(options: ResolvedOptions): OptionsRecord {
  const { schedule, skipRatios } = options;
  const mean = schedule === "explicit" &&
    skipRatios!.reduce((sum, ratio) => sum + ratio, 0) / skipRatios!.length;
  const isPlanned = (name: string) =>
    name === "pruneRatio" ? filtersQueries(options) : name === "kvRatio" && keyRuleOf(options) !== undefined;
  const plain = (name: string, { type }: Option, value: unknown) => {
    if (type === "seed") return (value as bigint) <= MAX_SAFE ? Number(value) : String(value);
    if (type === "ratios") return value ?? null;
    return isPlanned(name) && mean !== false ? mean : value;
  };
  return Object.fromEntries(
    RECORDED.map(([name, option]) => [name, plain(name, option, options[name as keyof ResolvedOptions])]),
  ) as unknown as OptionsRecord;
}

const MAX_SAFE = BigInt(Number.MAX_SAFE_INTEGER);

/** How far from the asked ratio a run may come out and still count as one at that ratio: two points. */
const RATIO_TOLERANCE = 0.02 + 1e-9;

/** Fraction of attention that options ask to skip, after the warm-up and over all layers; null where a threshold decides. */
export function requestedRatio(options: ResolvedOptions): number | null {
  const method = methodOf(options.fusion);
  if (filtersQueries(options) && isOffline(method)) return null;
  return isRule(method) && !policyOf(options).aims ? null : recordOptions(options).pruneRatio;
}

/**
 * Whether a run skipped more than two points more or less than requested: its loss is then no result for that ratio.
 *
 * @param achieved The achieved ratio; null = nothing could be decided, so nothing was skipped.
 */
export function missesRatio(options: ResolvedOptions, achieved: number | null): boolean {
  return ratioMiss(options, achieved) > 0;
}

/** By how much a run skipped more or less than two points off the requested ratio; 0 where it did not. */
export function ratioMiss(options: ResolvedOptions, achieved: number | null): number {
  const asked = requestedRatio(options);
  return asked === null ? 0 : Math.max(0, Math.abs((achieved ?? 0) - asked) - RATIO_TOLERANCE);
}

/** The options that decide something under a method and its policies; all others change nothing. */
export function effectiveOptions(options: ResolvedOptions): Partial<OptionsRecord> {
  const record = recordOptions(options);
  return Object.fromEntries(Object.entries(record).filter(([name]) => hasEffect(name, options))) as Partial<
    OptionsRecord
  >;
}

function hasEffect(name: string, options: ResolvedOptions): boolean {
  if (name === "kvFusion") return true;
  if (name === "shuffle" || name === "seed" && options.shuffle) return options.shuffle;
  const method = methodOf(options.fusion), keyRule = keyRuleOf(options);
  if (filtersQueries(options) && isOffline(method)) {
    return [
      "fusion",
      "pruneRatio",
      ...(method.offline === "prompt" ? ["warmup"] : []),
      ...Object.keys(method.options ?? {}),
    ].includes(name);
  }
  const ofKeys = Object.hasOwn(KEY_OPTIONS, name);
  const ofQueries = ["fusion", "pruneRatio", "tail", "substitute"].includes(name);
  return filtersQueries(options) && !ofKeys && hasEffectOn("queries", name, method, options) ||
    keyRule !== undefined && !ofQueries &&
      hasEffectOn("keys", name, keyMethodOf(keyRule), keySideOptions(options));
}

function hasEffectOn(side: SideName, name: string, method: Method, options: ResolvedOptions): boolean {
  const { of = {}, uses, matters }: Option = (method.options as OptionTable)?.[name] ?? OPTIONS[name]!;
  if (uses === "window") {
    return side === "keys" || options.kvFusion === "same" || options.substitute === "local";
  }
  if (uses === "blocks") {
    return side === "keys" || options.substitute === "mean" || isRule(method) && method.memory !== undefined;
  }
  if (uses === "similarity" && !(isRule(method) && readsOf(method, options).includes("similarity"))) {
    return false;
  }
  if (uses === "threshold" && !isRule(method)) return false;
  const threshold = isRule(method) ? options.threshold : undefined;
  const others = { ...options, fusion: method.name, threshold };
  return Object.entries(of).every(([option, values]) =>
    values.includes(String(others[option as "fusion"]))
  ) && (matters?.(others) ?? true);
}

export function readRecord(record: OptionsRecord): ResolvedOptions {
  return Object.fromEntries(ROWS.map(([name, { type }]) => {
    const value = record[name as keyof OptionsRecord];
    return [name, type === "seed" ? BigInt(value as string) : value ?? undefined];
  })) as unknown as ResolvedOptions;
}

/** The fault of an option in a record: `found "x", expected …`; undefined where there is none. */
export function findWrongOption(name: string, value: unknown): string | undefined {
  const option = Object.hasOwn(OPTIONS, name) ? OPTIONS[name]! : undefined;
  if (option === undefined || option.type === "ratios" && value === null) return undefined;
  try {
    const isLong = option.type === "seed" && typeof value === "string" && /^\d+$/.test(value);
    checkOption(name, option, isLong ? BigInt(value) : value);
    return undefined;
  } catch (error) {
    return (error as Error).message.replace(/^.*?: /, "");
  }
}

/** A key by which options with the same one decide alike. */
export function effectiveKey(options: ResolvedOptions): string {
  const entries = Object.entries(effectiveOptions(options));
  return JSON.stringify(entries.sort(([a], [b]) => a < b ? -1 : 1));
}
