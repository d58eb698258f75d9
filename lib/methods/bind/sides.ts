/**
 * The two sides of filtering. The query side selects attention to skip. The key side selects keys and values to evict:
 * those of skipped tokens, none, or those chosen by a rule of its own.
 */
import { type Given, type OptionTable, type Others, wrongOption } from "../../filter/option.ts";
import { FILTER_OPTIONS, type FilterOptions } from "../../filter/options.ts";
import { KEY_RULE_NAMES, type KeyRuleName, KV_FUSIONS, type MethodName, methodOf } from "../list.ts";
import type { Method } from "../protocol/method.ts";

type KvFusion = "same" | "none" | KeyRuleName;

/** The options of the key side, in the order of records. */
export const KEY_OPTIONS = {
  kvFusion: {
    type: "name",
    flag: "kv-method",
    names: KV_FUSIONS,
    default: "same",
    help: "keys and values to evict: of skipped tokens (same), none, or those that a rule selects",
  },
  kvRatio: {
    type: "number",
    range: "[0, 1)",
    value: "P",
    matters: FILTER_OPTIONS.pruneRatio.matters,
    help: "ratio of keys and values to evict after the warm-up, over all layers, {range}",
    note: "as --prune-ratio",
  },
  kvTail: {
    type: "number",
    range: "(0, 1]",
    matters: FILTER_OPTIONS.tail.matters,
    help: "fraction of the layers that may evict keys and values, the last ones",
    note: "--tail where given, else 1",
  },
  whole: {
    type: "layers",
    default: "none",
    // Records of older studies have no such field.
    matters: (others: Others): boolean =>
      others["whole"] !== undefined && others["whole"] !== "none" && FILTER_OPTIONS.tail.matters(others),
    help:
      "layers that keep every key and value; auto: the retrieval layers that the model shows by one probe; heads: its " +
      "retrieval heads, KV heads of any layer",
  },
  wholeFraction: {
    type: "number",
    default: 0.75,
    range: "(0, 1]",
    of: { whole: ["auto", "heads"] },
    matters: FILTER_OPTIONS.tail.matters,
    help: "the smallest set of layers or heads with this fraction of the summed retrieval score, {range}",
  },
} as const satisfies OptionTable;

/** Short options for the sides that are filtered; they are expanded into other options, and are not in records. */
export const SIDE_CHOICES = {
  side: {
    type: "name",
    names: ["query", "key", "both"],
    help:
      "sides that are filtered; query: every key and value stays; key: every attention is computed, and --method and " +
      "--prune-ratio decide keys and values; both: as the other flags set (both)",
  },
  cacheSkipped: { type: "flag", default: false, help: "short for --kv-method none" },
} as const satisfies OptionTable;

type Asked =
  & Given<
    & typeof SIDE_CHOICES
    & Omit<typeof KEY_OPTIONS, "kvFusion">
    & Pick<typeof FILTER_OPTIONS, "pruneRatio" | "tail">
  >
  & { readonly fusion?: string; readonly kvFusion?: string };

/**
 * Options without the short ones: `side` and `cacheSkipped` are expanded, and the key side's ratio and tail filled in.
 *
 * @throws {RangeError} If they contradict the other options.
 */
export function settleSides<A extends Asked>(
  { side, cacheSkipped, ...asked }: A,
  defaults: { readonly fusion: string; readonly pruneRatio: number },
): Omit<A, "side" | "cacheSkipped"> & Required<Pick<Asked, "kvFusion" | "kvRatio" | "kvTail">> {
  const { fusion = defaults.fusion, pruneRatio = defaults.pruneRatio, tail = 1 } = asked;
  if (side === "key" && cacheSkipped) {
    throw wrongOption("cacheSkipped", "true", "false since the side is key, where no token is skipped");
  }
  const short = side === "query"
    ? "the side is query"
    : cacheSkipped
    ? "skipped tokens are cached"
    : undefined;
  const {
    kvFusion = short ? "none" : side === "key" ? fusion : "same",
    kvRatio = pruneRatio,
    kvTail = tail,
  } = asked;
  if (side === "key" && !(KEY_RULE_NAMES as readonly string[]).includes(kvFusion)) {
    const expected = `one of ${KEY_RULE_NAMES.join(", ")} since the side is key`;
    throw wrongOption("kvFusion", `"${kvFusion}"`, expected);
  }
  if (short !== undefined && kvFusion !== "none") {
    throw wrongOption("kvFusion", `"${kvFusion}"`, `none since ${short}`);
  }
  return { ...asked, kvFusion, kvRatio, kvTail, ...(side === "key" && { pruneRatio: 0 }) };
}

export function keyRuleOf({ kvFusion }: { readonly kvFusion: KvFusion }): KeyRuleName | undefined {
  return kvFusion === "same" || kvFusion === "none" ? undefined : kvFusion;
}

/** Whether attention is to be skipped: where keys and values have a rule of their own, only if a ratio is requested. */
export function filtersQueries(
  options: { readonly kvFusion: KvFusion; readonly pruneRatio: number },
): boolean {
  return keyRuleOf(options) === undefined || options.pruneRatio > 0;
}

/** The methods that decide under options: that of queries where some may be skipped, then that of keys where they have one. */
export function decidingMethods(
  options: { readonly fusion: MethodName; readonly kvFusion: KvFusion; readonly pruneRatio: number },
): Method[] {
  const names: (MethodName | KeyRuleName)[] = [], keyRule = keyRuleOf(options);
  if (filtersQueries(options)) names.push(options.fusion);
  if (keyRule !== undefined) names.push(keyRule);
  return names.map((name) => methodOf(name));
}

/** Added to the seed of the key side, so that its random draws differ from those of the query side. */
const KEY_SEED = 1_000_003n;

/**
 * The options for the key side. It draws by another seed, and has no outputs to replace. It also has no outcomes to set
 * a layer's ratio by: there `allocated` is the same ratio in all layers.
 */
export function keySideOptions<
  O extends Pick<FilterOptions, "schedule" | "substitute"> & { readonly seed: bigint },
>(
  options: O,
): O {
  const { seed, schedule } = options;
  return {
    ...options,
    seed: BigInt.asUintN(64, seed + KEY_SEED),
    schedule: schedule === "allocated" ? "uniform" : schedule,
    substitute: "none",
  };
}
