/**
 * Options of methods in words, made of the same rows as the help of the command line: docs/reference/options.md, and the
 * comments that editors and `deno doc` show. `reference_pages.ts` writes both; a test compares.
 */
import type { Option } from "../../../lib/filter/mod.ts";
import { OPTIONS } from "../../../lib/methods/mod.ts";
import { toOptionName } from "../../../lib/sweep/mod.ts";
import { wrapLines } from "../../commands/cli/output/terminal.ts";
import { flagName } from "../../commands/cli/task.ts";
import { escapeCell, makeTable } from "./table.ts";

export const OPTION_DOCS = "lib/methods/bind/method_options.ts";

/** Columns of a comment. */
const WIDTH = 110;

/** Types of options whose names grow with the methods. */
const TYPES: { readonly [name: string]: string } = {
  fusion: "MethodName",
  kvFusion: '"same" | "none" | KeyRuleName',
};

/** Values of an option: in a table, and as a type. */
function describeValues(name: string, option: Option): readonly [text: string, type: string] {
  switch (option.type) {
    case "name":
    case "names": {
      const words = option.names.map((one) => `\`${one}\``).join(", ");
      const type = TYPES[name] ?? option.names.map((one) => `"${one}"`).join(" | ");
      return [
        name in TYPES ? "a [method](methods.md)" : words,
        option.type === "names" ? `readonly (${type})[]` : type,
      ];
    }
    case "flag":
      return ["on or off", "boolean"];
    case "ratios":
      return ["a list of one ratio per layer", "readonly number[] | undefined"];
    case "layers":
      return ["`none`, `auto`, `heads` or layers, as 7+18", '"none" | "auto" | "heads" | readonly number[]'];
    case "seed":
      return ["integer", "number | bigint"];
    default:
      return [option.type, "number"];
  }
}

/** An option's effect, range and default, and the values of other flags with which it has an effect. */
function explain(option: Option): string {
  const { note, of = {} } = option, range = "range" in option ? option.range : undefined;
  const help = option.help.replace(/,? ?\{range\}/, "")
    .replace("{names}", "names" in option ? option.names.join(", ") : "");
  const value = "default" in option ? option.default : undefined;
  const byDefault = [value === undefined ? undefined : String(value).replaceAll(",", ", "), note];
  return [
    `${help[0]!.toUpperCase()}${help.slice(1)}.`,
    range && `In ${range}.`,
    byDefault.some((part) => part) && `Default: ${byDefault.filter((part) => part).join("; ")}.`,
    ...Object.entries(of).map(([other, values]) => `Only with --${flagName(other)} ${values.join(", ")}.`),
  ].filter((sentence) => sentence).join(" ");
}

/** The comment of an option, in which other options have their names in programs. */
export const describeOption = (option: Option): string =>
  explain(option).replaceAll(/--([a-z-]+)/g, (_, flag: string) => `\`${toOptionName(flag)}\``);

/** The text of {@linkcode OPTION_DOCS}. */
export function writeOptionDocs(): string {
  const members = Object.entries(OPTIONS).map(([name, option]) => {
    const text = describeOption(option), lines = wrapLines(text, WIDTH - 5).replaceAll(/^/gm, "   * ");
    const comment = text.length <= WIDTH - 9 ? `  /** ${text} */` : `  /**\n${lines}\n   */`;
    return `${comment}\n  readonly ${name}?: ${describeValues(name, option)[1]};`;
  });
  return `/** What methods take, in words: \`experiments/tools/docs/reference_pages.ts\` writes this file from the table of options. */
import type { Given } from "../../filter/option.ts";
import type { KeyRuleName, MethodName } from "../list.ts";
import type { Options } from "./option_table.ts";

/** Options of a method, \`fusion\` saying which; all may be left out. Those without effect under it are accepted. */
export interface MethodOptions extends Given<Options> {
${members.join("\n")}
}
`;
}

/** The page of options. */
export function describeOptions(): string {
  const rows = Object.entries(OPTIONS).map(([name, option]) => [
    `\`--${flagName(name)}\``,
    describeValues(name, option)[0],
    escapeCell(explain(option)).replaceAll(/--[a-z-]+/g, "`$&`"),
  ]);
  const renamed = Object.entries(OPTIONS).filter(([, { flag }]) => flag !== undefined)
    .map(([name, { flag }]) => `\`${name}\` is \`--${flag}\``);
  return `# Options of methods

In programs an option has the name of its flag, as \`pruneRatio\` of \`--prune-ratio\`. Some differ: ${
    renamed.join(", ")
  }.
[Methods](methods.md) lists the names of methods.

${makeTable(["flag", "values", "effect"], rows)}`;
}
