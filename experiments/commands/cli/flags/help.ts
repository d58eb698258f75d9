/** Text of a task's `--help`: its purpose, examples, and its main flags or all of them. */
import { SAMPLING } from "../../../../lib/model/mod.ts";
import { wrapLines } from "../output/terminal.ts";
import { flagName } from "../task.ts";
import { type Flag, type Flags, GENERATING, type Task } from "./flag.ts";
import { COMMON_FLAGS, flagsOf, methodFlagsOf, takenBy } from "./flags.ts";
import { choicesOf, valuesFor } from "./method_choices.ts";
import { SAMPLING_FLAGS } from "./method_flags.ts";

/** The flags that most runs use, by subject. */
const MAIN: { readonly [group: string]: string } = {
  "What runs":
    "recipe plan published kv layer data tasks items prompt chat text ids replay model task task-file " +
    "methods full space tokens context",
  "Method": "method preset side prune-ratio ratios match skip-ratio recent warmup filter-from threshold seed",
  "Choice of tokens": Object.keys(SAMPLING).map(flagName).join(" "),
  "Where": "host port token-file together waiting",
  "How": "max-tokens full-model backend race jobs phase seeds",
  "Results": "out resume live all columns csv json",
};

/** Main flags of tasks of items. The main help of sweep leaves them out: most sweeps read a text. */
const OF_ITEMS: readonly string[] = ["data", "items", "filter-from"];

function describeAll(task: Task): string {
  const line = ([name, { value, help, option }]: [string, Flag]) =>
    [
      `  --${name}${value ? ` ${valuesFor(option, value, task)}` : ""}\n      ${help}`,
      ...choicesOf(option, task).map((method) => `      ${method.name}: ${method.help}`),
    ].join("\n");
  const section = (flags: Flags) => Object.entries(takenBy(task, flags)).map(line).join("\n");
  const sampling = GENERATING.includes(task) ? `\n\nChoice of tokens:\n${section(SAMPLING_FLAGS)}` : "";
  return `Method:\n${section(methodFlagsOf(task))}${sampling}\n\nGeneral:\n${section(COMMON_FLAGS)}`;
}

/** Columns of a page of help. */
const HELP_WIDTH = 80;

/** The main flags, one line each where it fits. */
function describeMain(task: Task): string {
  const flags = flagsOf(task);
  const groups = Object.entries(MAIN).flatMap(([group, names]) => {
    const taken = names.split(" ").filter((name) =>
      Object.hasOwn(flags, name) && !(task === "sweep" && OF_ITEMS.includes(name))
    );
    if (taken.length === 0) return [];
    const width = Math.max(...taken.map((name) => name.length)) + 6;
    return [
      `${group}:`,
      ...taken.flatMap((name) =>
        wrapLines(flags[name]!.help.split("\n")[0]!, HELP_WIDTH - width).split("\n")
          .map((text, i) => (i === 0 ? `  --${name}` : "").padEnd(width) + text)
      ),
    ].join("\n");
  });
  return `${groups.join("\n\n")}\n\nEvery flag, with its values and default: --help all`;
}

export function describeFlags(task: Task, all: boolean): string {
  return all ? describeAll(task) : describeMain(task);
}

/** A task's help: its purpose, examples, and its flags. */
export function describeTask(
  task: Task,
  about: string,
  examples: readonly string[],
): (all: boolean) => string {
  const lines = examples.map((example) => `  deno task ${task} ${example}`.trimEnd()).join("\n");
  const parts = about.split("\n\n").map((part) => wrapLines(part.replaceAll("\n", " "), HELP_WIDTH));
  const words = parts.join("\n\n");
  return (all) => `Usage: ${words}\n\nExamples:\n${lines}\n\n${describeFlags(task, all)}`;
}
