/**
 * The text of `lib/methods/bind/method_options.ts`, which editors and `deno doc` show for the options of methods. It is made
 * of the same rows as the help of the command line. `reference_pages.ts` writes it; a test compares.
 */
import type { Option } from "../../lib/filter/mod.ts";
import { OPTIONS } from "../../lib/methods/mod.ts";
import { toOptionName } from "../../lib/sweep/mod.ts";
import { wrapLines } from "../commands/cli/output/terminal.ts";

export const OPTION_DOCS = "lib/methods/bind/method_options.ts";

/** Columns of a comment. */
const WIDTH = 110;

/** Types of options whose names grow with the methods. */
const TYPES: { readonly [name: string]: string } = {
  fusion: "MethodName",
  kvFusion: '"same" | "none" | KeyRuleName',
};

function typeOf(name: string, option: Option): string {
  switch (option.type) {
    case "flag":
      return "boolean";
    case "name":
      return TYPES[name] ?? option.names.map((one) => `"${one}"`).join(" | ");
    case "names":
      return `readonly (${option.names.map((one) => `"${one}"`).join(" | ")})[]`;
    case "ratios":
      return "readonly number[] | undefined";
    case "layers":
      return '"none" | "auto" | "heads" | readonly number[]';
    case "seed":
      return "number | bigint";
    default:
      return "number";
  }
}

/** Text of a row, in which options of the command line go by their names here. */
const named = (text: string) =>
  text.replaceAll(
    /--([a-z-]+)/g,
    (_, flag: string) => `\`${toOptionName(flag)}\``,
  );

/** An option's effect, range and default, and the values of other options with which it has an effect. */
export function describeOption(option: Option): string {
  const { help, note, of = {} } = option, range = "range" in option ? option.range : undefined;
  const said = named(
    help.replace(/,? ?\{range\}/, "").replace("{names}", "names" in option ? option.names.join(", ") : ""),
  );
  const byDefault = "default" in option && option.default !== undefined ? String(option.default) : undefined;
  const sentences = [
    `${said[0]!.toUpperCase()}${said.slice(1)}.`,
    range && `In ${range}.`,
    (byDefault ?? note) &&
    `Default: ${[byDefault?.replaceAll(",", ", "), note && named(note)].filter(Boolean).join("; ")}.`,
    ...Object.entries(of).map(([other, values]) => `Only with \`${other}\` ${values.join(", ")}.`),
  ];
  return sentences.filter((sentence) => sentence).join(" ");
}

function comment(text: string): string {
  if (text.length <= WIDTH - 9) return `  /** ${text} */`;
  const lines = wrapLines(text, WIDTH - 5).split("\n").map((line) => `   * ${line}`);
  return ["  /**", ...lines, "   */"].join("\n");
}

/** The file's text. */
export function writeOptionDocs(): string {
  const members = Object.entries(OPTIONS).map(([name, option]) =>
    `${comment(describeOption(option))}\n  readonly ${name}?: ${typeOf(name, option)};`
  );
  return `/** What methods take, in words: \`experiments/tools/reference_pages.ts\` writes this file from the table of options. */
import type { Given } from "../../filter/option.ts";
import type { KeyRuleName, MethodName } from "../list.ts";
import type { Options } from "./option_table.ts";

/** Options of a method, \`fusion\` saying which; all may be left out. Those without effect under it are accepted. */
export interface MethodOptions extends Given<Options> {
${members.join("\n")}
}
`;
}
