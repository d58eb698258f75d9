/** Text of a command's `--help`: its purpose, examples, and its main flags or all of them. */
import { callOf, type Declaration } from "../command.ts";
import { wrapLines } from "../output/terminal.ts";
import { type Choice, type Flag, type Flags, SUBJECTS } from "./flag.ts";
import { ALWAYS } from "./flags.ts";

/** Columns of a page of help. */
const HELP_WIDTH = 80;
/** A command of at most this many flags lists all of them. */
const FEW = 24;

/** All flags of a command. */
export const allFlags = ({ flags }: Pick<Declaration, "flags">): Flags => ({ ...flags, ...ALWAYS });

/** Every flag with its values. */
function describeAll(flags: readonly (readonly [string, Flag])[]): string {
  return flags.map(([name, { value, help, choices = [] }]) =>
    [
      `  --${name}${value ? ` ${value}` : ""}\n      ${help}`,
      ...choices.map(({ name, help }) => `      ${name}: ${help}`),
    ].join("\n")
  ).join("\n");
}

/** Names with what they mean, a line each where it fits. */
function layOut(rows: readonly Choice[]): string {
  const width = Math.max(...rows.map(({ name }) => name.length)) + 4;
  return rows.flatMap(({ name, help }) =>
    wrapLines(help, HELP_WIDTH - width).split("\n")
      .map((text, i) => (i === 0 ? `  ${name}` : "").padEnd(width) + text)
  ).join("\n");
}

const describeMain = (flags: readonly (readonly [string, Flag])[]) =>
  layOut(flags.map(([name, { help }]) => ({ name: `--${name}`, help })));

/** The flags of a command by subject. @param all Whether with the rare ones, and with all values. */
export function describeFlags(declaration: Pick<Declaration, "flags">, all: boolean): string {
  const flags = Object.entries(allFlags(declaration)), listsAll = all || flags.length <= FEW;
  const sections = SUBJECTS.flatMap((subject) => {
    const own = flags.filter(([, flag]) =>
      (flag.subject ?? "How") === subject && (listsAll || flag.isRare !== true)
    );
    return own.length === 0 ? [] : [`${subject}:\n${(all ? describeAll : describeMain)(own)}`];
  });
  return sections.join("\n\n");
}

/** The help of a command. */
export function describeCommand(declaration: Declaration, all: boolean): string {
  const { usage, summary, about, examples = [], words: { choices = [] } = {} } = declaration,
    call = callOf(declaration);
  const paragraphs = [
    `${call} ${usage}`.trimEnd(),
    ...`${summary} ${about ?? ""}`.trim().split("\n\n"),
  ];
  const lines = examples.map((example) => `  ${call} ${example}`.trimEnd());
  const parts = paragraphs.map((part) => wrapLines(part.replaceAll("\n", " "), HELP_WIDTH));
  return [
    `Usage: ${parts.join("\n\n")}`,
    ...choices.length === 0 ? [] : [`Commands:\n${layOut(choices)}`],
    ...lines.length === 0 ? [] : [`Examples:\n${lines.join("\n")}`],
    describeFlags(declaration, all),
    ...all ? [] : ["Every flag, with its values and default: --help all"],
  ].join("\n\n");
}
