/** Methods that `--method` and `--kv-method` name, and those of them that a task can run. */
import type { Option } from "../../../../lib/filter/mod.ts";
import {
  EVICTIONS,
  isRule,
  KEY_RULES,
  type Method,
  METHODS,
  OFFLINE,
  readsOf,
  resolveOptions,
} from "../../../../lib/methods/mod.ts";
import type { Task } from "./flag.ts";

/** Inputs that a rule can read in a dump; `queries` is true for a dump with queries. */
export const dumpedReads = (queries: boolean): readonly string[] => [
  ...["similarity", "key", "value"],
  ...(queries ? ["attention"] : []),
];

/** Whether a method can run on keys, values and only queries. */
const runsOnDump = (method: Method) =>
  isRule(method) && readsOf(method, resolveOptions({})).every((what) => dumpedReads(true).includes(what));

const CHOICES: { readonly [option: string]: readonly Method[] } = {
  fusion: [...METHODS, ...OFFLINE],
  kvFusion: [...KEY_RULES, ...EVICTIONS],
};

/** The methods that an option's values name, for a task. */
export function choicesOf(option: string | undefined, task: Task): readonly Method[] {
  const all = CHOICES[option ?? ""] ?? [];
  return task === "filter" ? all.filter(runsOnDump) : all;
}

/** Either a dump's keys and values are decided, or its queries: one side does not follow the other's decisions. */
export const DUMP_SIDES = ["query", "key"] as const;

/** Options whose values and help differ in `filter`. */
export const OF_DUMPS: { readonly [option: string]: { readonly value: string; readonly help: string } } = {
  side: {
    value: DUMP_SIDES.join("|"),
    help: "side of a dump that is decided; query: attention to skip; key: keys and values to evict, by " +
      "--kv-method, else --method, and --prune-ratio (query)",
  },
};

/** An option's values, `A|B`, without the methods that a task cannot run. */
export function valuesFor(option: string | undefined, values: string, task: Task): string {
  if (task !== "filter" || !Object.hasOwn(CHOICES, option ?? "")) return values;
  const left = Object.values(CHOICES).flat().filter((method) => !runsOnDump(method)).map(({ name }) => name);
  return values.split("|").filter((value) => !left.includes(value)).join("|");
}

/** Whether an option belongs to methods that all need a model. */
export function needsModel({ of = {} }: Option): boolean {
  const owners = Object.entries(of), methods = Object.values(CHOICES).flat();
  return owners.length > 0 &&
    owners.every(([option, values]) =>
      Object.hasOwn(CHOICES, option) && values.every((name) => {
        const method = methods.find((method) => method.name === name);
        return method !== undefined && !runsOnDump(method);
      })
    );
}
