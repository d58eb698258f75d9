/** Flags that are options: of the method, and of how tokens are chosen. */
import type { Option } from "../../../../lib/filter/mod.ts";
import { OPTIONS } from "../../../../lib/methods/mod.ts";
import { SAMPLING } from "../../../../lib/model/mod.ts";
import { flagName } from "../task.ts";
import { type Flag, type Flags, GENERATING, MODEL, SKIPPING } from "./flag.ts";
import { needsModel } from "./method_choices.ts";

/** A number in its usual notation. */
const shown = (x: number) => x !== 0 && Math.abs(x) < 1e-3 ? x.toExponential() : String(x);

/** The parser of an option's text, its placeholder in the help, and its default in words. */
function readAs(option: Option): Pick<Flag, "kind" | "value"> & { readonly byDefault?: string } {
  switch (option.type) {
    case "number":
      return {
        kind: "number",
        value: option.value ?? "X",
        ...(option.default !== undefined && { byDefault: shown(option.default) }),
      };
    case "integer":
    case "seed":
      return { kind: "integer", value: "N", byDefault: String(option.default) };
    case "flag":
      return { kind: "boolean", byDefault: option.default ? "on" : "off" };
    case "name":
      return { kind: "text", value: option.names.join("|"), byDefault: option.default };
    case "names": {
      const left = option.names.filter((name) => !option.default.includes(name));
      return { kind: "names", value: "A+B", byDefault: `all but ${left.join(", ")}` };
    }
    case "layers":
      return { kind: "layers", value: "auto|none|A+B", byDefault: String(option.default) };
    case "ratios":
      return { kind: "ratios file", value: "FILE.json" };
  }
}

/** The flag of an option, whose help gives the option's owners, effect and default. */
function flagOf(name: string, option: Option): Flag {
  const { byDefault, ...read } = readAs(option), owners = Object.values(option.of ?? {}).flat().join(", ");
  const said = option.help.replace("{range}", "range" in option ? option.range! : "")
    .replace("{names}", "names" in option ? option.names.join(", ") : "");
  const defaults = [byDefault, option.note].filter((part) => part !== undefined).join("; ");
  const help = [owners && `${owners}: `, said, defaults && ` (${defaults})`].join("");
  return {
    ...read,
    option: name,
    help,
    ...((NEEDS_MODEL.has(name) || needsModel(option)) && { tasks: MODEL }),
    ...(NEEDS_SKIPS.has(name) && { tasks: SKIPPING }),
  };
}

/** Options of the substitute for skipped outputs. */
const NEEDS_SKIPS = new Set(["substitute", "sinks", "shuffle"]);

/** Options that spread a ratio over layers, or choose the cached state: a dump of keys and values has no such thing. */
const NEEDS_MODEL = new Set(
  "tail schedule slope skipRatios keyState cacheSkipped kvTail whole wholeFraction".split(" "),
);

const belongs = ([, { of }]: [string, Option]) => Number(of !== undefined);

/** Flags of the method: options of the same names, in camel case. Options that belong to a value come last. */
export const METHOD_FLAGS: Flags = Object.fromEntries(
  Object.entries(OPTIONS).sort((a, b) => belongs(a) - belongs(b))
    .map(([name, option]) => [flagName(name), flagOf(name, option)]),
);

export const SAMPLING_FLAGS: Flags = Object.fromEntries(
  Object.entries(SAMPLING).map(([name, row]) => {
    const { option: _, ...read } = flagOf(name, row);
    return [flagName(name), { ...read, tasks: GENERATING }];
  }),
);
