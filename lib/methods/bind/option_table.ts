/** All options in one table: those that methods share and each method's own. Flags, records and docs follow from it. */
import type { Given, Option, OptionTable } from "../../filter/option.ts";
import { FILTER_OPTIONS } from "../../filter/options.ts";
import { FUSION_NAMES, type MethodName, methodOf, METHODS, OFFLINE, type OwnOptions } from "../list.ts";
import { isRule, type Method } from "../protocol/method.ts";
import { KEY_OPTIONS, SIDE_CHOICES } from "./sides.ts";

/**
 * Named sets of options. `paper` = the rule `variance` with no recent window. `keys` = the same rule on keys and values
 * only. `retrieval` = the rule `leave-one-out` on keys and values, with the KV heads whole that the model retrieves
 * with. `local` = both sides, with local attention instead of none.
 */
export const PRESETS = {
  paper: { fusion: "variance", recent: 0 },
  keys: { side: "key", fusion: "variance", recent: 32, warmup: 64, tail: 1 },
  retrieval: {
    side: "key",
    kvFusion: "leave-one-out",
    recent: 128,
    warmup: 64,
    tail: 1,
    whole: "heads",
  },
  local: {
    fusion: "learned",
    kvFusion: "missed",
    substitute: "local",
    recent: 96,
    warmup: 128,
    schedule: "allocated",
    tail: 1,
  },
} as const satisfies {
  readonly [name: string]:
    & Given<typeof FILTER_OPTIONS & typeof SIDE_CHOICES & typeof KEY_OPTIONS & OwnOptions>
    & { readonly fusion?: MethodName };
};
export type Preset = keyof typeof PRESETS;
const PRESET_NAMES = Object.keys(PRESETS) as Preset[];

export const CHOICES = {
  preset: { type: "name", names: PRESET_NAMES, help: "options to start from; other flags override them" },
  ...SIDE_CHOICES,
  fusion: {
    type: "name",
    flag: "method",
    names: FUSION_NAMES,
    default: "variance",
    help: "method that selects what to skip or evict",
  },
} as const satisfies OptionTable;

const CONTROL_OPTIONS = {
  shuffle: {
    type: "flag",
    default: false,
    help: "the method's own decisions in a random order beyond the warm-up, by --seed: a non-causal control",
  },
} as const satisfies OptionTable;

/** @internal The table's type. */
export type Options =
  & typeof CHOICES
  & typeof CONTROL_OPTIONS
  & typeof FILTER_OPTIONS
  & typeof KEY_OPTIONS
  & OwnOptions;
/** The methods' own options, each with all methods that have it. */
function ownOptions(): OptionTable {
  const table: { [name: string]: Option } = {};
  for (const { name: method, options = {} } of [...METHODS, ...OFFLINE] as readonly Method[]) {
    for (const [name, option] of Object.entries<Option>(options)) {
      const { of, ...first } = table[name] ?? option;
      table[name] = { ...first, of: { fusion: [...(of?.["fusion"] ?? []), method] } };
    }
  }
  return table;
}

const OWN = ownOptions();
/** Options of rules that are functions of the token stand by the score, those of others at the end. */
const OF_SCORES = Object.entries(OWN).filter(([, { of }]) => {
  const method = methodOf(of!["fusion"]![0] as MethodName);
  return isRule(method) && method.memory === undefined;
});

/** Every option, in the order of records and of the help. */
export const OPTIONS: OptionTable = {
  ...CHOICES,
  invert: FILTER_OPTIONS.invert,
  ...CONTROL_OPTIONS,
  ...Object.fromEntries(OF_SCORES),
  ...FILTER_OPTIONS as OptionTable,
  ...KEY_OPTIONS,
  ...OWN,
};

export const OPTION_NAMES: readonly string[] = Object.keys(OPTIONS);
