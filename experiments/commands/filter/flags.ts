/** Flags of the method for a dump: methods and options that need no model. */
import { OPTIONS } from "../../../lib/methods/bind/option_table.ts";
import { readsOf, resolveOptions } from "../../../lib/methods/bind/options.ts";
import { isRule, type Method } from "../../../lib/methods/protocol/method.ts";
import { flagName } from "../cli/task.ts";
import type { Flags } from "../cli/flags/flag.ts";
import { METHOD, METHODS_OF, methodWithout } from "../cli/flags/method_flags.ts";

/** Inputs that a rule can read in a dump, by what the dump has besides keys and values. */
export const dumpedReads = (
  has: { readonly queries: boolean; readonly headWeights: boolean },
): readonly string[] => [
  ...["similarity", "key", "value"],
  ...(has.queries ? ["attention"] : []),
  ...(has.queries && has.headWeights ? ["change"] : []),
];

const ALL_READS = dumpedReads({ queries: true, headWeights: true });

/** Whether a method can run on what a dump can have. */
const runsOnDump = (method: Method) =>
  isRule(method) && readsOf(method, resolveOptions({})).every((what) => ALL_READS.includes(what));

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
