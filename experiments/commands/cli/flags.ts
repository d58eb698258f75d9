/** One table of flags for all tasks: a flag has the same name, meaning and values wherever it is taken. */
import { PRODUCTS } from "../../../lib/backend.ts";
import { WEIGHT_DTYPES } from "../../../lib/dtype.ts";
import { GENERATED_TASKS, ITEM_TASKS, TASKS } from "../../../lib/eval/mod.ts";
import type { Option } from "../../../lib/filter/mod.ts";
import { OPTIONS } from "../../../lib/methods/mod.ts";
import { SAMPLING } from "../../../lib/model/mod.ts";
import { COMPARED_METHODS, DEFAULT_CONTEXT, RIVAL_METHODS } from "../../../lib/sweep/mod.ts";
import { CALIBRATION_FLAGS } from "./calibration_flags.ts";
import { MAIN } from "./main_flags.ts";
import { choicesOf, needsModel, valuesFor } from "./method_choices.ts";
import { SEARCH_FLAGS } from "./search_flags.ts";
import { flagName } from "./task.ts";
import { wrapLines } from "./terminal.ts";

/** The tasks that take flags from the table. */
export type Task = "sweep" | "score" | "filter" | "heads" | "compare" | "eval" | "generate" | "serve";

/** How a flag's text becomes a value. */
export type FlagKind =
  | "text" // as it stands
  | "number"
  | "integer"
  | "boolean" // `--x`, `--x true`, `--x false`
  | "switch" // `--x` alone
  | "optional text" // `--x` or `--x TEXT`
  | "names" // joined by +
  | "ratios file"; // path of a JSON list of numbers

/** One flag. */
export interface Flag {
  readonly kind: FlagKind;
  /** What stands for its value in the help. */
  readonly value?: string;
  readonly help: string;
  /** The option of the method that it sets. */
  readonly option?: string;
  /** Tasks that take it; all where left out. */
  readonly tasks?: readonly Task[];
}

/** A number as a person would write it. */
const shown = (x: number) => x !== 0 && Math.abs(x) < 1e-3 ? x.toExponential() : String(x);

/** How an option's text becomes a value, what stands for it, and its default in words. */
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
    case "ratios":
      return { kind: "ratios file", value: "FILE.json" };
  }
}

/** The flag of an option: what it belongs to, what it does, and its default. */
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

/** Tasks that run a model on a text. */
const TEXTS: readonly Task[] = ["sweep", "score", "heads", "compare"];

/** Tasks that run a model. */
const MODEL: readonly Task[] = [...TEXTS, "eval", "generate", "serve"];

/** Tasks that skip attention. */
const SKIPPING: readonly Task[] = ["sweep", "score", "compare", "eval", "generate", "serve"];

/** Tasks that end with a table, and may keep results in a folder. */
const TABLING: readonly Task[] = [...TEXTS, "filter", "eval"];

/** Tasks that score items. */
const ITEMS: readonly Task[] = ["eval", "compare"];

/** Tasks that make tokens. */
const GENERATING: readonly Task[] = ["generate"];

/** Options of what stands for skipped outputs. */
const NEEDS_SKIPS = new Set(["substitute", "sinks", "shuffle"]);

/** Options that spread a ratio over a model's layers, or say what it caches: they mean nothing for keys and values alone. */
const NEEDS_MODEL = new Set([
  "tail",
  "schedule",
  "slope",
  "skipRatios",
  "keyState",
  "cacheSkipped",
  "kvTail",
]);

const belongs = ([, { of }]: [string, Option]) => Number(of !== undefined);

/** Flags of the method: options of the same names, in camel case; those that belong to a value of another come last. */
const METHOD_FLAGS: { readonly [name: string]: Flag } = Object.fromEntries(
  Object.entries(OPTIONS).sort((a, b) => belongs(a) - belongs(b))
    .map(([name, option]) => [flagName(name), flagOf(name, option)]),
);

/** Flags of how tokens are chosen. */
const SAMPLING_FLAGS: { readonly [name: string]: Flag } = Object.fromEntries(
  Object.entries(SAMPLING).map(([name, row]) => {
    const { option: _, ...read } = flagOf(name, row);
    return [flagName(name), { ...read, tasks: GENERATING }];
  }),
);

function flag(kind: FlagKind, value: string | undefined, help: string, tasks?: readonly Task[]): Flag {
  return { kind, help, ...(value !== undefined && { value }), ...(tasks && { tasks }) };
}

/** Flags of the surroundings. */
const COMMON_FLAGS: { readonly [name: string]: Flag } = {
  "model": flag("text", "NAME|PATH|ORG/NAME", "a name, a path, or org/name of the hub (tiny)", MODEL),
  "offline": flag("switch", undefined, "ask no host: take what was downloaded before", MODEL),
  "backend": flag(
    "text",
    "cpu|cuda|reference|auto",
    "native code, a GPU, plain TypeScript, or the fastest of them that can be had (cpu)",
  ),
  "threads": flag("integer", "N", "threads of the native code (all cores)"),
  "cache-dtype": flag(
    "text",
    "f32|f16|bf16",
    "element type of the KV cache (f32); a GPU's tensor cores take f16 and bf16 alone",
    MODEL,
  ),
  "dtype": flag(
    "text",
    WEIGHT_DTYPES.join("|"),
    "element type that the model's matrices are turned into at load, rounded as ggml rounds (each as the file has it)",
    MODEL,
  ),
  "products": flag("text", PRODUCTS.join("|"), "what products round on the CPU (exact)", MODEL),
  "wgmma": flag(
    "switch",
    undefined,
    "prefill by wgmma and TMA, on a GPU of sm_90 where test:gpu has passed (mma.sync, as on all GPUs)",
    MODEL,
  ),
  "text": flag(
    "text",
    "FILE",
    "text to evaluate (score: none; else the built-in one); of generate the prompt",
    [...TEXTS, ...GENERATING],
  ),
  "rule": flag(
    "text",
    "FILE.ts",
    "a rule of your own: a module that exports { name, help, score(token), reads? }, as in CONTRIBUTING.md",
    MODEL,
  ),
  ...Object.fromEntries(
    CALIBRATION_FLAGS.map(([name, kind, value, help]) => [name, flag(kind, value, help, MODEL)]),
  ),
  "ids": flag("text", "FILE.json", "token ids as they are, instead of --text", ["score"]),
  "task": flag(
    "text",
    TASKS.map(({ name }) => name).join("|"),
    `what is evaluated (${TASKS[0].name})${
      TASKS.map(({ name, help }) => `\n      ${name}: ${help}`).join("")
    }`,
    ["sweep", "compare"],
  ),
  "context": flag("integer", "N", `tokens a chunk, in all but score (${DEFAULT_CONTEXT})`, TEXTS),
  "tokens": flag("integer", "N", "use the first N tokens alone", [...TEXTS, "filter"]),
  "data": flag("text", "DIR|hub", "folder of JSONL files, one a task; hub: the hub's data sets", ITEMS),
  "tasks": flag(
    "text",
    "A,B,…",
    `tasks of items (those whose file DIR holds)${
      [...ITEM_TASKS, ...GENERATED_TASKS].map(({ name, help }) => `\n      ${name}: ${help}`).join("")
    }`,
    ITEMS,
  ),
  "items": flag(
    "integer",
    "N",
    "use the first N items of a task alone, of MMLU as many of each subject as can be; make N (50)",
    ITEMS,
  ),
  "length": flag("integer", "N", "tokens of the context of a task whose items are made (256)", ITEMS),
  "data-seed": flag("integer", "N", "seed of such items (0)", ITEMS),
  "filter-from": flag(
    "text",
    "N|P%",
    "filter from token N of each item, or from P% of its context on, in place of --warmup",
    ITEMS,
  ),
  "phase": flag(
    "text",
    "prefill|decode",
    "how the sequence is fed (prefill); decode: token by token, on a GPU by recorded steps without the host",
    ["score"],
  ),
  "chunk": flag("integer", "N", "tokens a piece of a prefill (all at once)", ["score"]),
  "trace": flag("text", "FILE.parquet", "keep every decision, to be replayed", ["score"]),
  "replay": flag(
    "text",
    "FILE.parquet",
    "take the decisions of a trace again, on its tokens, instead of a method",
    ["score"],
  ),
  "resamples": flag("integer", "N", "resamples of an interval (1000)", ["heads"]),
  "kv": flag(
    "text",
    "DUMP.safetensors",
    "tensors keys and values, or keys.N and values.N, [T, H, d], f32, f16 or bf16",
    ["filter"],
  ),
  "skip-ratio": flag("number", "R", "share of this layer's tokens to skip, [0, 1] (0.5)", ["filter"]),
  "layer": flag(
    "integer",
    "N",
    "the only layer wanted of several; else the layer's number, which random reads (0)",
    ["filter"],
  ),
  "all": flag("switch", undefined, "print every token", ["filter"]),
  "methods": flag(
    "text",
    "A,B,…",
    `some of ${COMPARED_METHODS.join(", ")} (all); or ${RIVAL_METHODS.join(", ")}`,
    ["compare"],
  ),
  "ratios": flag(
    "text",
    "R,S,…",
    "compare at several shares of queries, or of keys and values, in place of --prune-ratio and --kv-ratio",
    ["compare"],
  ),
  "seeds": flag("integer", "N", "seeds of random (5)", ["compare"]),
  "grid": flag(
    "text",
    "FILE.json",
    "axes as in the flags, {option: [values]}, or a list of such objects",
    ["sweep"],
  ),
  "full": flag("switch", undefined, "the long form of the grid that runs by default: 66 trials", ["sweep"]),
  ...SEARCH_FLAGS,
  "prompt": flag("text", "TEXT", "what the text begins with", ["generate"]),
  "chat": flag("switch", undefined, "the prompt is a user's message, in the model's chat template", [
    "generate",
  ]),
  "system": flag("text", "TEXT", "what the system says first, with --chat", ["generate"]),
  "max-tokens": flag("integer", "N", "most tokens to make (128)", ["generate"]),
  "beside": flag("switch", undefined, "the dense model beside the filtered one", ["generate"]),
  "ignore-end": flag("switch", undefined, "go on past a token that ends the text", ["generate"]),
  "host": flag("text", "ADDRESS", "where to listen (127.0.0.1); elsewhere a token is needed", ["serve"]),
  "port": flag("integer", "N", "port to listen on (8080); 0: a free one", ["serve"]),
  "token-file": flag("text", "FILE", "what requests must show (TOKENFILTER_TOKEN, else none)", ["serve"]),
  "waiting": flag("integer", "N", "most requests that wait (16)", ["serve"]),
  "out": flag(
    "text",
    "DIR",
    "folder for results (sweep, heads, compare, eval: results/<time>; else none)",
    TABLING,
  ),
  "resume": flag(
    "optional text",
    "[DIR]",
    "go on with the interrupted run in DIR, or in --out",
    ["sweep", "heads", "compare", "eval"],
  ),
  "jobs": flag(
    "integer",
    "N",
    "processes that share the trials and the cores (one a core for a model of up to 32 MB, of 8 trials or more each; else 1)",
    ["sweep"],
  ),
  "shard": flag("text", "I/N", "run every Nth trial from the Ith on alone; study merge joins the parts", [
    "sweep",
  ]),
  "queue": flag(
    "text",
    "redis://HOST",
    "put the trials into a queue on Redis or Valkey for deno task worker --queue on any machines; redis://user:password@host:port, rediss:// for TLS",
    ["sweep"],
  ),
  "queue-prefix": flag("text", "TEXT", "what the queue's keys begin with (tokenfilter)", ["sweep"]),
  "patience": flag("integer", "N", "seconds that the queue may be away (120)", ["sweep"]),
  "live": flag(
    "optional text",
    "[PORT]",
    "show the report in a browser of this machine while it grows, at 127.0.0.1 (any free port)",
    ["sweep"],
  ),
  "columns": flag(
    "text",
    "A,B,…|all",
    "columns of the table, as they are called in its head (those that fit the terminal)",
    TABLING,
  ),
  "csv": flag("text", "FILE", "write the table's records there, in all digits", TABLING),
  "markdown": flag("switch", undefined, "print the table in Markdown alone on stdout", TABLING),
  "latex": flag("switch", undefined, "print it in LaTeX (booktabs) alone on stdout", TABLING),
  "json": flag("switch", undefined, "print JSON alone on stdout", [...TABLING, ...GENERATING]),
  "quiet": flag("switch", undefined, "no progress on stderr"),
  "help": flag("switch", undefined, "print the main flags; --help all: every flag"),
  "version": flag("switch", undefined, "print the version"),
};

type Flags = { readonly [name: string]: Flag };

const takenBy = (task: Task, flags: Flags): Flags =>
  Object.fromEntries(Object.entries(flags).filter(([, flag]) => flag.tasks?.includes(task) ?? true));

/** Flags that a task takes, by name. */
export function flagsOf(task: Task): Flags {
  return takenBy(task, { ...METHOD_FLAGS, ...SAMPLING_FLAGS, ...COMMON_FLAGS });
}

/** Every flag, its help wrapped under its name. */
function describeAll(task: Task): string {
  const line = ([name, { value, help, option }]: [string, Flag]) =>
    [
      `  --${name}${value ? ` ${valuesFor(option, value, task)}` : ""}\n      ${help}`,
      ...choicesOf(option, task).map((method) => `      ${method.name}: ${method.help}`),
    ].join("\n");
  const section = (flags: Flags) => Object.entries(takenBy(task, flags)).map(line).join("\n");
  const sampling = GENERATING.includes(task) ? `\n\nChoice of tokens:\n${section(SAMPLING_FLAGS)}` : "";
  return `Method:\n${section(METHOD_FLAGS)}${sampling}\n\nGeneral:\n${section(COMMON_FLAGS)}`;
}

/** Columns of a page of help. */
const HELP_WIDTH = 80;

/** The main flags, a line each where it fits. */
function describeMain(task: Task): string {
  const flags = flagsOf(task);
  const groups = Object.entries(MAIN).flatMap(([group, names]) => {
    const taken = names.filter((name) => Object.hasOwn(flags, name));
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

/** A task's flags: the main ones, or all. */
export function describeFlags(task: Task, all: boolean): string {
  return all ? describeAll(task) : describeMain(task);
}

/** A task's help: what it is for, examples, and its flags. */
export function describeTask(
  task: Task,
  about: string,
  examples: readonly string[],
): (all: boolean) => string {
  const lines = examples.map((example) => `  deno task ${task}${example === "" ? "" : ` ${example}`}`).join(
    "\n",
  );
  const words = about.split("\n\n").map((part) => wrapLines(part.replaceAll("\n", " "), HELP_WIDTH)).join(
    "\n\n",
  );
  return (all) => `Usage: ${words}\n\nExamples:\n${lines}\n\n${describeFlags(task, all)}`;
}
