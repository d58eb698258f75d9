/** One table of flags for all tasks: a flag has the same name, meaning and values wherever it is taken. */
import { PRODUCTS } from "../../../../lib/backend.ts";
import { WEIGHT_DTYPES } from "../../../../lib/dtype.ts";
import { TASKS } from "../../../../lib/eval/mod.ts";
import { RACES, SAMPLERS } from "../../../../lib/search/mod.ts";
import {
  COMPARED_METHODS,
  DEFAULT_CONTEXT,
  OBJECTIVE_NAMES,
  OTHER_METHODS,
} from "../../../../lib/sweep/mod.ts";
import {
  type Flag,
  type Flags,
  GENERATING,
  integer,
  ITEMS,
  MODEL,
  number,
  onOff,
  optional,
  RUNNING,
  TABLING,
  type Task,
  text,
  TEXTS,
} from "./flag.ts";
import { OF_DUMPS } from "./method_choices.ts";
import { METHOD_FLAGS, SAMPLING_FLAGS } from "./method_flags.ts";

/** Default number of tokens of a calibration text. */
export const CALIBRATION_TOKENS = 4096;

export const COMMON_FLAGS: Flags = {
  "recipe": text("NAME|FILE.json", "the recipe; or as the first word (quick)", ["reproduce"]),
  "plan": onOff("only print what would be fetched and run, with memory and time", ["reproduce"]),
  "published": text(
    "NAME|none",
    "the model whose published numbers stand next to the results and are checked (that of the model's sizes)",
    ["reproduce"],
  ),
  "model": text("NAME|PATH|ORG/NAME", "a name, a path, or org/name of the hub (tiny)", RUNNING),
  "offline": onOff("use only files that were downloaded before, and ask no host", RUNNING),
  "backend": text(
    "cpu|cuda|reference|auto",
    "native code, a GPU, plain TypeScript, or the fastest of them that can be had (cpu)",
  ),
  "threads": integer("threads of the native code (all cores)"),
  "cache-dtype": text(
    "f32|f16|bf16",
    "element type of the KV cache (f32); a GPU's tensor cores take only f16 and bf16",
    RUNNING,
  ),
  "dtype": text(
    WEIGHT_DTYPES.join("|"),
    "element type that the model's matrices are converted to at load, rounded as ggml rounds (each as the file has it)",
    RUNNING,
  ),
  "matmul": text(PRODUCTS.join("|"), "rounding in matrix multiplications (exact)", RUNNING),
  "wgmma": onOff(
    "prefill by wgmma and TMA, on a GPU of sm_90 (where test:gpu has passed on this GPU; else mma.sync)",
    RUNNING,
  ),
  "text": text("FILE", "text to evaluate (score: none; else the built-in one); generate: the prompt", [
    ...TEXTS,
    "eval",
    ...GENERATING,
  ]),
  "rule": text(
    "FILE.ts",
    "a rule of your own: a module that exports name, help, score(token) and reads?, each or as one object. A token has layer, " +
      "position, muK, varK, muV, varV, and what reads() lists: key, value, residual, normed; with --side key also attention, " +
      "change (docs/guides/write-a-rule.md). Its code runs with the rights of the task",
    MODEL,
  ),
  "calibration": text(
    "FILE",
    "text on which methods that alter the model are fitted; --calibration-domain gives its kind",
    MODEL,
  ),
  "calibration-domain": text(
    "same|other",
    "whether that text is of the evaluated text's kind; results carry the label",
    MODEL,
  ),
  "calibration-tokens": integer(`use only the first N tokens of that text (${CALIBRATION_TOKENS})`, MODEL),
  "ids": text("FILE.json", "token ids as they are, instead of --text", ["score"]),
  "task": text(
    "NAME",
    `task to evaluate (${TASKS[0].name})${
      TASKS.map(({ name, help }) => `\n      ${name}: ${help}`).join("")
    }`,
    ["sweep", "compare"],
  ),
  "task-file": text(
    "FILE.ts|FILE.yaml",
    "a task of your own: a module, or lm-evaluation-harness's YAML\n      a module's code runs with this task's rights",
    ITEMS,
  ),
  "context": integer(`tokens per chunk, in all but score (${DEFAULT_CONTEXT})`, [...TEXTS, "eval"]),
  "tokens": integer("use only the first N tokens", [...TEXTS, "filter", "eval", "reproduce"]),
  "data": text("DIR|hub", "folder of JSONL files, one per task; hub: the hub's data sets", [
    ...ITEMS,
    "reproduce",
  ]),
  "tasks": text(
    "A,B,…",
    `some of these (those with a file in DIR); compare: those of items${
      TASKS.map(({ name, help }) => `\n      ${name}: ${help}`).join("")
    }`,
    ["eval", "compare"],
  ),
  "items": integer(
    "use only the first N items of a task (MMLU: as evenly over subjects as possible); make N (50)",
    [...ITEMS, "reproduce"],
  ),
  "length": integer("tokens of the context of a task whose items are made (256)", ITEMS),
  "data-seed": integer("seed of such items (0)", ITEMS),
  "filter-from": text(
    "N|P%",
    "filter from token N of each item, or from P% of its context on, instead of --warmup",
    ITEMS,
  ),
  "phase": text(
    "prefill|decode",
    "how the sequence is fed (prefill); decode: token by token, on a GPU by recorded steps without the host",
    ["score"],
  ),
  "chunk": integer("tokens per piece of a prefill (all at once)", ["score"]),
  "trace": text("FILE.parquet", "keep every decision, to be replayed", ["score"]),
  "replay": text("FILE.parquet", "take the decisions of a trace again, on its tokens, instead of a method", [
    "score",
  ]),
  "resamples": integer("resamples of an interval (1000)", ["heads"]),
  "kv": text(
    "DUMP.safetensors",
    "tensors keys and values, or keys.N and values.N, [T, H, d], f32, f16 or bf16",
    ["filter"],
  ),
  "skip-ratio": number("R", "ratio of this layer's tokens to skip, [0, 1] (0.5)", ["filter"]),
  "layer": integer("the only layer wanted of several; else the layer's number, which random reads (0)", [
    "filter",
  ]),
  "all": onOff("print every token", ["filter"]),
  "methods": text(
    "A,B,…",
    `some of ${COMPARED_METHODS.join(", ")} (all). Others: ${OTHER_METHODS.join(", ")}`,
    ["compare", "reproduce"],
  ),
  "ratios": text(
    "R,S,…",
    "compare at several ratios of queries, or of keys and values, instead of --prune-ratio and --kv-ratio",
    ["compare", "reproduce"],
  ),
  "match": text(
    "cache|pairs|flops|none",
    "budget that is equal for all methods; none: each runs at the requested ratio (cache for methods that only evict, " +
      "pairs for those that skip queries)",
    ["compare"],
  ),
  "seeds": integer("seeds of random (5)", ["compare", "reproduce"]),
  "grid": text("FILE.json", "axes as in the flags, {option: [values]}, or a list of such objects", ["sweep"]),
  "full": onOff("the long form of the grid that runs by default: 81 trials", ["sweep"]),
  "space": text(
    "FILE.json|FILE.ts",
    "axes of a search: values, lists, ranges and conditions (docs/guides/sweep-and-search.md)",
    ["sweep"],
  ),
  "sampler": text(
    Object.keys(SAMPLERS).join("|"),
    `algorithm that proposes the trials of a search (tpe)${
      Object.entries(SAMPLERS).map(([name, { help }]) => `\n      ${name}: ${help}`).join("")
    }`,
    ["sweep"],
  ),
  "trials": integer("proposals of a search (50; grid: all)", ["sweep"]),
  "sampler-seed": integer("seed of a search's proposals and of a race's order of chunks (0)", ["sweep"]),
  "objectives": text(
    "A,B,…",
    `quantities that a search minimizes, of ${
      OBJECTIVE_NAMES.join(", ")
    } (loss; where a ratio varies loss,attentionFlops)`,
    ["sweep"],
  ),
  "at-most": text("A=X,…", "upper limits of objectives for a trial: attentionFlops=0.6", ["sweep"]),
  "race": optional(
    `[${Object.keys(RACES).join("|")}]`,
    "stop trials early that will not be the best at their ratio, on shared chunks in a shuffled order (sequential)\n" +
      "      sequential: once significantly worse than the best, at level 0.01\n" +
      "      halving: outside the best third at 1/27, 1/9 and 1/3 of the chunks",
    ["sweep"],
  ),
  "budget": text("TIME", "start no trial once a time is over: 20m, 90s, 1h30m", ["sweep"]),
  "memory": text(
    "SIZE",
    "memory for results of the full model that all methods use, as 500M or 2G; the rest is computed again for each (1G)",
    ["sweep", "compare", "reproduce"],
  ),
  "prompt": text("TEXT", "beginning of the text", ["generate"]),
  "chat": onOff("the prompt is a user's message, in the model's chat template", ["generate"]),
  "system": text("TEXT", "system message before the prompt, with --chat", ["generate"]),
  "max-tokens": integer("most tokens to make (128)", ["generate"]),
  "full-model": onOff("run the full model too, next to the filtered one", ["generate"]),
  "ignore-end": onOff("continue past a token that ends the text", ["generate"]),
  "host": text("ADDRESS", "address to listen on (127.0.0.1); any other needs a token", ["serve"]),
  "port": integer("port to listen on (8080); 0: a free one", ["serve"]),
  "token-file": text("FILE", "token that requests must show (TOKENFILTER_TOKEN, else none)", ["serve"]),
  "together": integer("most texts that are computed at once (8)", ["serve"]),
  "waiting": integer("most requests that wait in addition (16)", ["serve"]),
  "out": text(
    "DIR",
    "folder for results (sweep, heads, compare, eval, reproduce: results/<time>; else none)",
    TABLING,
  ),
  "resume": optional("[DIR]", "continue the interrupted run in DIR, or in --out", [
    "sweep",
    "heads",
    "compare",
    "eval",
    "reproduce",
  ]),
  "jobs": integer(
    "processes for the trials (one per core, each with at least 8 trials, for a model of up to 32 MB; else 1; reproduce: 1)",
    ["sweep", "reproduce"],
  ),
  "shard": text("I/N", "run only every Nth trial from the Ith on; study merge joins the parts", ["sweep"]),
  "queue": text(
    "redis://HOST",
    "put the trials into a queue on Redis or Valkey for deno task worker --queue on any machines; redis://user@host:port/database, rediss:// for TLS",
    ["sweep", "reproduce"],
  ),
  "queue-password-file": text("FILE", "the queue's password (TOKENFILTER_QUEUE_PASSWORD, else none)", [
    "sweep",
    "reproduce",
  ]),
  "queue-prefix": text("TEXT", "prefix of the queue's keys (tokenfilter)", ["sweep", "reproduce"]),
  "patience": integer("seconds that the queue may be away (120)", ["sweep", "reproduce"]),
  "live": optional(
    "[PORT]",
    "show the report in a browser of this machine while it grows, at 127.0.0.1 (any free port)",
    ["sweep"],
  ),
  "columns": text(
    "A,B,…|all",
    "columns of the table, as they are called in its head (those that fit the terminal)",
    TABLING,
  ),
  "csv": text("FILE", "write the table's records there, in all digits", TABLING),
  "markdown": onOff("print only the table, in Markdown, on stdout", TABLING),
  "latex": onOff("print only the table, in LaTeX (booktabs), on stdout", TABLING),
  "json": onOff("print only JSON on stdout", [...TABLING, ...GENERATING]),
  "quiet": onOff("no progress on stderr"),
  "help": onOff("print the main flags; --help all: every flag"),
  "version": onOff("print the version"),
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
