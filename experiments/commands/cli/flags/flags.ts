/** One table of flags for all tasks: a flag has the same name, meaning and values wherever it is taken. */
import { PRODUCTS } from "../../../../lib/backend.ts";
import { WEIGHT_DTYPES } from "../../../../lib/dtype.ts";
import { TASKS } from "../../../../lib/eval/mod.ts";
import { COMPARED_METHODS, DEFAULT_CONTEXT, OTHER_METHODS } from "../../../../lib/sweep/mod.ts";
import {
  type Flag,
  flag,
  type Flags,
  GENERATING,
  ITEMS,
  MODEL,
  RUNNING,
  TABLING,
  type Task,
  TEXTS,
} from "./flag.ts";
import { OF_DUMPS } from "./method_choices.ts";
import { METHOD_FLAGS, SAMPLING_FLAGS } from "./method_flags.ts";
import { SEARCH_FLAGS } from "./search_flags.ts";

/** Default number of tokens of a calibration text. */
export const CALIBRATION_TOKENS = 4096;

const RECIPE: readonly Task[] = ["reproduce"];

export const COMMON_FLAGS: Flags = {
  "recipe": flag("text", "NAME|FILE.json", "the recipe; or as the first word (quick)", RECIPE),
  "plan": flag("switch", undefined, "only print what would be fetched and run, with memory and time", RECIPE),
  "published": flag(
    "text",
    "NAME|none",
    "the model whose published numbers stand next to the results and are checked (that of the model's sizes)",
    RECIPE,
  ),
  "model": flag("text", "NAME|PATH|ORG/NAME", "a name, a path, or org/name of the hub (tiny)", RUNNING),
  "offline": flag(
    "switch",
    undefined,
    "use only files that were downloaded before, and ask no host",
    RUNNING,
  ),
  "backend": flag(
    "text",
    "cpu|cuda|reference|auto",
    "native code, a GPU, plain TypeScript, or the fastest of them that can be had (cpu)",
  ),
  "threads": flag("integer", "N", "threads of the native code (all cores)"),
  "cache-dtype": flag(
    "text",
    "f32|f16|bf16",
    "element type of the KV cache (f32); a GPU's tensor cores take only f16 and bf16",
    RUNNING,
  ),
  "dtype": flag(
    "text",
    WEIGHT_DTYPES.join("|"),
    "element type that the model's matrices are converted to at load, rounded as ggml rounds (each as the file has it)",
    RUNNING,
  ),
  "matmul": flag(
    "text",
    PRODUCTS.join("|"),
    "rounding in matrix multiplications on the CPU (exact)",
    RUNNING,
  ),
  "wgmma": flag(
    "switch",
    undefined,
    "prefill by wgmma and TMA, on a GPU of sm_90 where test:gpu has passed (mma.sync, as on all GPUs)",
    RUNNING,
  ),
  "text": flag(
    "text",
    "FILE",
    "text to evaluate (score: none; else the built-in one); generate: the prompt",
    [...TEXTS, "eval", ...GENERATING],
  ),
  "rule": flag(
    "text",
    "FILE.ts",
    "a rule of your own: a module that exports name, help, score(token) and reads?, each or as one object. A token has layer, " +
      "position, muK, varK, muV, varV, and what reads() lists: key, value, residual, normed; with --side key also attention, " +
      "change (docs/guides/write-a-rule.md). Its code runs with the rights of the task",
    MODEL,
  ),
  "calibration": flag(
    "text",
    "FILE",
    "text on which methods that alter the model are fitted; --calibration-domain gives its kind",
    MODEL,
  ),
  "calibration-domain": flag(
    "text",
    "same|other",
    "whether that text is of the evaluated text's kind; results carry the label",
    MODEL,
  ),
  "calibration-tokens": flag(
    "integer",
    "N",
    `use only the first N tokens of that text (${CALIBRATION_TOKENS})`,
    MODEL,
  ),
  "ids": flag("text", "FILE.json", "token ids as they are, instead of --text", ["score"]),
  "task": flag(
    "text",
    "NAME",
    `task to evaluate (${TASKS[0].name})${
      TASKS.map(({ name, help }) => `\n      ${name}: ${help}`).join("")
    }`,
    ["sweep", "compare"],
  ),
  "task-file": flag(
    "text",
    "FILE.ts|FILE.yaml",
    "a task of your own: a module, or lm-evaluation-harness's YAML\n      a module's code runs with this task's rights",
    ITEMS,
  ),
  "context": flag("integer", "N", `tokens per chunk, in all but score (${DEFAULT_CONTEXT})`, [
    ...TEXTS,
    "eval",
  ]),
  "tokens": flag("integer", "N", "use only the first N tokens", [
    ...TEXTS,
    "filter",
    "eval",
    "reproduce",
  ]),
  "data": flag("text", "DIR|hub", "folder of JSONL files, one per task; hub: the hub's data sets", [
    ...ITEMS,
    "reproduce",
  ]),
  "tasks": flag(
    "text",
    "A,B,…",
    `some of these (those with a file in DIR); compare: those of items${
      TASKS.map(({ name, help }) => `\n      ${name}: ${help}`).join("")
    }`,
    ["eval", "compare"],
  ),
  "items": flag(
    "integer",
    "N",
    "use only the first N items of a task (MMLU: as evenly over subjects as possible); make N (50)",
    [...ITEMS, "reproduce"],
  ),
  "length": flag("integer", "N", "tokens of the context of a task whose items are made (256)", ITEMS),
  "data-seed": flag("integer", "N", "seed of such items (0)", ITEMS),
  "filter-from": flag(
    "text",
    "N|P%",
    "filter from token N of each item, or from P% of its context on, instead of --warmup",
    ITEMS,
  ),
  "phase": flag(
    "text",
    "prefill|decode",
    "how the sequence is fed (prefill); decode: token by token, on a GPU by recorded steps without the host",
    ["score"],
  ),
  "chunk": flag("integer", "N", "tokens per piece of a prefill (all at once)", ["score"]),
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
  "skip-ratio": flag("number", "R", "ratio of this layer's tokens to skip, [0, 1] (0.5)", ["filter"]),
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
    `some of ${COMPARED_METHODS.join(", ")} (all). Others: ${OTHER_METHODS.join(", ")}`,
    ["compare", "reproduce"],
  ),
  "ratios": flag(
    "text",
    "R,S,…",
    "compare at several ratios of queries, or of keys and values, instead of --prune-ratio and --kv-ratio",
    ["compare", "reproduce"],
  ),
  "match": flag(
    "text",
    "cache|pairs|flops|none",
    "budget that is equal for all methods; none: each runs at the requested ratio (cache for methods that only evict, " +
      "pairs for those that skip queries)",
    ["compare"],
  ),
  "seeds": flag("integer", "N", "seeds of random (5)", ["compare", "reproduce"]),
  "grid": flag(
    "text",
    "FILE.json",
    "axes as in the flags, {option: [values]}, or a list of such objects",
    ["sweep"],
  ),
  "full": flag("switch", undefined, "the long form of the grid that runs by default: 81 trials", ["sweep"]),
  ...SEARCH_FLAGS,
  "prompt": flag("text", "TEXT", "beginning of the text", ["generate"]),
  "chat": flag("switch", undefined, "the prompt is a user's message, in the model's chat template", [
    "generate",
  ]),
  "system": flag("text", "TEXT", "system message before the prompt, with --chat", ["generate"]),
  "max-tokens": flag("integer", "N", "most tokens to make (128)", ["generate"]),
  "full-model": flag("switch", undefined, "run the full model too, next to the filtered one", ["generate"]),
  "ignore-end": flag("switch", undefined, "continue past a token that ends the text", ["generate"]),
  "host": flag("text", "ADDRESS", "address to listen on (127.0.0.1); any other needs a token", ["serve"]),
  "port": flag("integer", "N", "port to listen on (8080); 0: a free one", ["serve"]),
  "token-file": flag("text", "FILE", "token that requests must show (TOKENFILTER_TOKEN, else none)", [
    "serve",
  ]),
  "together": flag("integer", "N", "most texts that are computed at once (8)", ["serve"]),
  "waiting": flag("integer", "N", "most requests that wait in addition (16)", ["serve"]),
  "out": flag(
    "text",
    "DIR",
    "folder for results (sweep, heads, compare, eval, reproduce: results/<time>; else none)",
    TABLING,
  ),
  "resume": flag(
    "optional text",
    "[DIR]",
    "continue the interrupted run in DIR, or in --out",
    ["sweep", "heads", "compare", "eval", "reproduce"],
  ),
  "jobs": flag(
    "integer",
    "N",
    "processes for the trials (one per core, each with at least 8 trials, for a model of up to 32 MB; else 1; reproduce: 1)",
    ["sweep", "reproduce"],
  ),
  "shard": flag("text", "I/N", "run only every Nth trial from the Ith on; study merge joins the parts", [
    "sweep",
  ]),
  "queue": flag(
    "text",
    "redis://HOST",
    "put the trials into a queue on Redis or Valkey for deno task worker --queue on any machines; redis://user@host:port/database, rediss:// for TLS",
    ["sweep"],
  ),
  "queue-password-file": flag(
    "text",
    "FILE",
    "the queue's password (TOKENFILTER_QUEUE_PASSWORD, else none)",
    [
      "sweep",
    ],
  ),
  "queue-prefix": flag("text", "TEXT", "prefix of the queue's keys (tokenfilter)", ["sweep"]),
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
  "markdown": flag("switch", undefined, "print only the table, in Markdown, on stdout", TABLING),
  "latex": flag("switch", undefined, "print only the table, in LaTeX (booktabs), on stdout", TABLING),
  "json": flag("switch", undefined, "print only JSON on stdout", [...TABLING, ...GENERATING]),
  "quiet": flag("switch", undefined, "no progress on stderr"),
  "help": flag("switch", undefined, "print the main flags; --help all: every flag"),
  "version": flag("switch", undefined, "print the version"),
};

/** The flags of a table that a task takes. */
export const takenBy = (task: Task, flags: Flags): Flags =>
  Object.fromEntries(Object.entries(flags).filter(([, flag]) => flag.tasks?.includes(task) ?? true));

export function flagsOf(task: Task): Flags {
  return { ...methodFlagsOf(task), ...takenBy(task, { ...SAMPLING_FLAGS, ...COMMON_FLAGS }) };
}

/** Flags of the method as a task takes them. */
export function methodFlagsOf(task: Task): Flags {
  if (task === "reproduce") return {}; // the recipe sets them
  const told = ([name, flag]: [string, Flag]) =>
    [name, task === "filter" ? { ...flag, ...OF_DUMPS[flag.option!] } : flag] as const;
  return Object.fromEntries(Object.entries(takenBy(task, METHOD_FLAGS)).map(told));
}
