/** Flags that are options of the method. */
import type { Option } from "../../../../lib/filter/option.ts";
import { OPTIONS } from "../../../../lib/methods/bind/option_table.ts";
import { EVICTIONS, KEY_RULES, METHODS, OFFLINE } from "../../../../lib/methods/list.ts";
import type { Method } from "../../../../lib/methods/protocol/method.ts";
import { flagName } from "../task.ts";
import { type Flag, type Flags, under } from "./flag.ts";

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

/** Methods that the values of an option name. */
export const METHODS_OF: { readonly [option: string]: readonly Method[] } = {
  fusion: [...METHODS, ...OFFLINE],
  kvFusion: [...KEY_RULES, ...EVICTIONS],
};

/** Options that the main help lists. */
const MAIN = new Set("fusion preset side pruneRatio recent warmup threshold seed".split(" "));

/** The flag of an option, whose help gives the option's owners, effect and default. */
export function flagOf(name: string, option: Option): Flag {
  const { byDefault, ...read } = readAs(option), owners = Object.values(option.of ?? {}).flat().join(", ");
  const effect = option.help.replace("{range}", "range" in option ? option.range! : "")
    .replace("{names}", "names" in option ? option.names.join(", ") : "");
  const defaults = [byDefault, option.note].filter((part) => part !== undefined).join("; ");
  const help = [owners && `${owners}: `, effect, defaults && ` (${defaults})`].join("");
  const choices = METHODS_OF[name];
  return { ...read, help, isRare: !MAIN.has(name), option: name, ...(choices && { choices }) };
}

const belongs = ([, { of }]: [string, Option]) => Number(of !== undefined);

/** Flags of the method: options of the same names, in camel case. Options that belong to a value come last. */
export const METHOD: Flags = under(
  "Method",
  Object.fromEntries(
    Object.entries(OPTIONS).sort((a, b) => belongs(a) - belongs(b))
      .map(([name, option]) => [flagName(name), flagOf(name, option)]),
  ),
);

/** Flags of the method without those of some options. */
export const methodWithout = (left: (option: string) => boolean): Flags =>
  Object.fromEntries(Object.entries(METHOD).filter(([, { option }]) => !left(option!)));
