/** Flags of the method for a dump: methods and options that need no model. */
import { OPTIONS } from "../../../lib/methods/bind/option_table.ts";
import { readsOf, type ResolvedOptions, resolveOptions } from "../../../lib/methods/bind/options.ts";
import { isEviction, isRule, type Method } from "../../../lib/methods/protocol/method.ts";
import { isOfKeys } from "../../../lib/methods/protocol/signals.ts";
import { flagName } from "../cli/task.ts";
import type { Flags } from "../cli/flags/flag.ts";
import { METHOD, METHODS_OF, methodWithout } from "../cli/flags/method_flags.ts";

/** What a dump can have besides keys and values. */
export type DumpPart = "queries" | "head weights";

/** What each input of a method needs in a dump besides keys and values; a method that reads another one needs a model. */
const NEEDED: { readonly [input: string]: readonly DumpPart[] } = {
  ...{ similarity: [], key: [], value: [], keys: [], values: [] },
  ...{ queries: ["queries"], attention: ["queries"] },
  change: ["queries", "head weights"],
};

/** What a method needs in a dump besides keys and values; undefined: a model. */
export function neededInDump(method: Method, options: ResolvedOptions): ReadonlySet<DumpPart> | undefined {
  const inputs = inputsOf(method, options);
  if (inputs === undefined || inputs.some((input) => NEEDED[input] === undefined)) return undefined;
  return new Set(inputs.flatMap((input) => NEEDED[input]!));
}

/** The inputs of a method that decides by those of one layer alone; undefined: it does not. */
function inputsOf(method: Method, options: ResolvedOptions): readonly string[] | undefined {
  if (isRule(method)) return readsOf(method, options);
  if (!isEviction(method) || method.heads || method.keyState === "pre-rope") return undefined;
  const readings = method.reads(options),
    isOwn = readings.every(({ layers = [0] }) => String(layers) === "0");
  // Values that change would change what later queries give.
  if (!isOwn || method.merges && readings.some(isOfKeys)) return undefined;
  return [...readings.map(({ signal }) => signal), ...method.nonCausal ? ["attention"] : []];
}

/** Whether a method can run on what a dump can have. */
const runsOnDump = (method: Method) => neededInDump(method, resolveOptions({})) !== undefined;

const ALL = Object.values(METHODS_OF).flat(), NEED_MODEL = ALL.filter((method) => !runsOnDump(method));

/** Either a dump's keys and values are decided, or its queries: one side does not follow the other's decisions. */
export const DUMP_SIDES = ["query", "key"] as const;

/** Options that spread a ratio over layers, or choose the cached state; and those of the substitute for skipped outputs. */
const OF_MODELS = new Set(
  ("tail schedule slope skipRatios keyState cacheSkipped kvTail whole wholeFraction substitute sinks shuffle")
    .split(" "),
);

/** Whether an option belongs to methods that all need a model. */
function needsModel(name: string): boolean {
  const owners = Object.entries(OPTIONS[name]!.of ?? {}), needs = new Set(NEED_MODEL.map(({ name }) => name));
  return OF_MODELS.has(name) ||
    owners.length > 0 &&
      owners.every(([option, values]) =>
        Object.hasOwn(METHODS_OF, option) && values.every((v) => needs.has(v))
      );
}

/** A flag whose values are methods, without those that need a model. */
function onDump(option: string): Flags {
  const name = flagName(option), flag = METHOD[name]!, left = NEED_MODEL.map(({ name }) => name);
  const value = flag.value!.split("|").filter((value) => !left.includes(value)).join("|");
  return { [name]: { ...flag, value, choices: METHODS_OF[option]!.filter(runsOnDump) } };
}

export const DUMP_METHOD: Flags = {
  ...methodWithout(needsModel),
  ...onDump("fusion"),
  ...onDump("kvFusion"),
  side: {
    ...METHOD.side!,
    value: DUMP_SIDES.join("|"),
    help: "side of a dump that is decided; query: attention to skip; key: keys and values to evict, by " +
      "--kv-method, else --method, and --prune-ratio (query)",
  },
};
