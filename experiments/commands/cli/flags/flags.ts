/** The flags that several commands take: each has one name, one kind and one meaning. A command picks its own of them. */
import { PRODUCTS } from "../../../../lib/backend.ts";
import { WEIGHT_DTYPES } from "../../../../lib/dtype.ts";
import { type Flags, integer, onOff, optional, pick, rarely, text, under } from "./flag.ts";

/** What `--matmul` takes; `fast` is `bf16` on a GPU, and `int8` elsewhere. */
export const MATMUL = [...PRODUCTS, "fast"] as const;

/** Default number of tokens of a calibration text. */
export const CALIBRATION_TOKENS = 4096;

/** The model, and the backend that it runs on. */
export const MODEL = {
  ...under("What runs", {
    model: text("NAME|PATH|ORG/NAME", "a name, a path, or org/name of the hub (tiny)"),
  }),
  backend: text(
    "cpu|cuda|wasm|reference|auto",
    "native code, a GPU, WebAssembly, plain TypeScript, or the fastest of them that can be had (cpu)",
  ),
  ...rarely({
    offline: onOff("use only files that were downloaded before, and ask no host"),
    threads: integer("threads of the native code (all cores)"),
    "cache-dtype": text(
      "f32|f16|bf16",
      "element type of the KV cache (f32); a GPU's tensor cores take only f16 and bf16",
    ),
    dtype: text(
      WEIGHT_DTYPES.join("|"),
      "element type that the model's matrices are converted to at load, rounded as ggml rounds (each as the file has it)",
    ),
    matmul: text(
      MATMUL.join("|"),
      "rounding in matrix multiplications (exact); int8 rounds activations; fast is int8, on a GPU bf16",
    ),
    wgmma: onOff(
      "prefill by wgmma and TMA, on a GPU of sm_90 (where test:gpu has passed on this GPU; else mma.sync)",
    ),
  }),
} satisfies Flags;

/** Files that methods need: a rule of the user's own, and a text to fit on. */
const METHOD_FILES = under(
  "Method",
  rarely({
    rule: text(
      "FILE.ts,…",
      "rules of your own: modules that export name, help, score(token) and reads?, each or as one object. A token has id, text, " +
        "layer, position, muK, varK, muV, varV, and what reads() lists: key, value, residual, normed; with --side key also " +
        "attention (with it distant) and change (docs/guides/write-a-rule.md). Its code may run programs, change files and use the network, as the " +
        "command may",
    ),
    calibration: text(
      "FILE",
      "text on which methods that alter the model are fitted; --calibration-domain gives its kind",
    ),
    "calibration-domain": text(
      "same|other",
      "whether that text is of the evaluated text's kind; results carry the label",
    ),
    "calibration-tokens": integer(`use only the first N tokens of that text (${CALIBRATION_TOKENS})`),
  }),
) satisfies Flags;

/** The text that a model reads. */
export const TEXT = under("What runs", {
  text: text("FILE", "text to evaluate (the built-in one)"),
  tokens: integer("use only the first N tokens"),
  context: integer("tokens per chunk (512)"),
}) satisfies Flags;

/** A module of the user's own. */
export const TASK_FILE = under("What runs", {
  "task-file": text(
    "FILE.ts|FILE.yaml,…",
    "the tasks of results whose tasks are of files; a module's code runs",
  ),
}) satisfies Flags;

/** How a result is printed. */
export const TABLE = under("Results", {
  columns: text(
    "A,B,…|all",
    "columns of the table, as they are called in its head (those that fit the terminal)",
  ),
  csv: text("FILE", "write the table's records there, in all digits"),
  json: onOff("print only JSON on stdout"),
  ...rarely({
    markdown: onOff("print only the table, in Markdown, on stdout"),
    latex: onOff("print only the table, in LaTeX (booktabs), on stdout"),
  }),
}) satisfies Flags;

export const QUIET = under("Results", rarely({ quiet: onOff("no progress on stderr") })) satisfies Flags;

/** Where results are kept, of a command that can be interrupted. */
export const STUDY = under("Results", {
  out: text("DIR", "folder for results (results/<time>)"),
  resume: optional("[DIR]", "continue the interrupted run in DIR, or in --out"),
  bundle: text(
    "FILE.zip",
    "keep all in one file, with which another machine repeats the run: command line, versions, digests, rules, tasks, " +
      "text, results and report",
  ),
}) satisfies Flags;

/** Limits of work that several methods share. */
export const MEMORY = rarely({
  memory: text(
    "SIZE",
    "memory for results of the full model that all methods use, as 500M or 2G; the rest is computed again for each (1G)",
  ),
}) satisfies Flags;

/** The queue of trials, and how it is reached. */
export const QUEUE = rarely({
  queue: text(
    "redis://HOST",
    "a queue of trials on Redis or Valkey: redis://user@host:port/database, rediss:// for TLS",
  ),
  "queue-password-file": text("FILE", "the queue's password (TOKENFILTER_QUEUE_PASSWORD, else none)"),
  "queue-prefix": text("TEXT", "prefix of the queue's keys (tokenfilter)"),
  patience: integer("seconds that the queue may be away (120)"),
}) satisfies Flags;

/** Where a server listens. */
export const SERVER = under("Where", {
  host: text("ADDRESS", "address to listen on (127.0.0.1); any other needs a token"),
  port: integer("port to listen on; 0: a free one"),
  "token-file": text("FILE", "token that requests must show (TOKENFILTER_TOKEN, else none)"),
}) satisfies Flags;

/** The flags of every command. */
export const ALWAYS = under(
  "Results",
  rarely({
    help: onOff("print the main flags; --help all: every flag"),
    version: onOff("print the version"),
  }),
) satisfies Flags;

/** The model and its backend for a command that runs methods on it. */
export const RUN: Flags = { ...MODEL, ...METHOD_FILES, ...QUIET };

/** The same for a command whose texts are read, not measured: its products are the fastest by default. */
export const RUN_FAST: Flags = {
  ...RUN,
  matmul: { ...MODEL.matmul, help: MODEL.matmul.help.replace("(exact)", "(fast)") },
};

/** The native code of a command that opens no model. */
export const NATIVE: Flags = { ...pick(MODEL, "backend", "threads"), ...QUIET };
