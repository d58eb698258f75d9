/** One table of flags for all tasks: a flag has the same name, meaning and values wherever it is taken. */
import {
  ABSORBS,
  ANCHORS,
  FEATURE_GROUPS,
  KEY_STATES,
  SCHEDULES,
  THRESHOLD_POLICIES,
} from "../../lib/filter/mod.ts";
import { COMPARED_METHODS, FUSION_CHOICES, type TrialOptions } from "../../lib/sweep/mod.ts";

/** The tasks that take flags from the table. */
export type Task = "sweep" | "score" | "filter" | "heads" | "compare";

/** How a flag's text becomes a value. */
export type FlagKind =
  | "text" // as it stands
  | "number"
  | "integer"
  | "boolean" // `--x`, `--x true`, `--x false`
  | "switch" // `--x` alone
  | "optional text" // `--x` or `--x TEXT`
  | "features" // names joined by +
  | "ratios file"; // path of a JSON list of numbers

/** One flag. */
export interface Flag {
  readonly kind: FlagKind;
  /** What stands for its value in the help. */
  readonly value?: string;
  readonly help: string;
  /** The option of the method that it sets. */
  readonly option?: keyof TrialOptions;
  /** Tasks that take it; all where left out. */
  readonly tasks?: readonly Task[];
}

const names = (list: readonly string[]) => list.join("|");

/** Flags of the method: options of the same names, in camel case. */
const METHOD_FLAGS: { readonly [name: string]: Flag } = {
  "preset": {
    kind: "text",
    value: "paper",
    option: "preset",
    help: "options to start from; others given beside it win",
  },
  "fusion": {
    kind: "text",
    value: names(FUSION_CHOICES),
    option: "fusion",
    help: "how similarities become a score (variance)",
  },
  "prune-ratio": {
    kind: "number",
    value: "P",
    option: "pruneRatio",
    help: "share of attention to skip after warm-up, over all layers, [0, 1) (0.5)",
  },
  "tail": {
    kind: "number",
    value: "X",
    option: "tail",
    help: "share of the layers that is filtered, the last ones (0.75; heads: 1, all are measured)",
  },
  "warmup": {
    kind: "integer",
    value: "N",
    option: "warmup",
    help: "tokens kept at the start of a sequence (32)",
  },
  "recent": {
    kind: "integer",
    value: "N",
    option: "recent",
    help: "tokens for which a skipped token's key and value stay visible (16)",
  },
  "threshold": {
    kind: "text",
    value: names(THRESHOLD_POLICIES),
    option: "threshold",
    help: "how the threshold comes about (budget)",
  },
  "window": {
    kind: "integer",
    value: "N",
    option: "window",
    help: "budget, window: scores to look back on (256)",
  },
  "theta": { kind: "number", value: "X", option: "theta", help: "fixed: the threshold (0)" },
  "eta": { kind: "number", value: "X", option: "eta", help: "robbins-monro: step size (0.1)" },
  "gamma": { kind: "number", value: "X", option: "gamma", help: "decay of the ema anchor, [0, 1) (0.9)" },
  "anchor": {
    kind: "text",
    value: names(ANCHORS),
    option: "anchor",
    help: "how anchors follow the past (ema)",
  },
  "absorb": {
    kind: "text",
    value: names(ABSORBS),
    option: "absorb",
    help: "which tokens move the anchors (all)",
  },
  "key-state": {
    kind: "text",
    value: names(KEY_STATES),
    option: "keyState",
    help: "which keys the filter looks at (post-rope)",
  },
  "tau": {
    kind: "number",
    value: "X",
    option: "tau",
    help: "variance: sharpness of the weights, [0, 64] (1)",
  },
  "lambda": {
    kind: "number",
    value: "X",
    option: "lambda",
    help: "variance: how much disagreement of heads lowers the score (0)",
  },
  "eps": {
    kind: "number",
    value: "X",
    option: "eps",
    help: "variance: added to variances before weighing (1e-6)",
  },
  "alpha": { kind: "number", value: "X", option: "alpha", help: "static: weight of the keys (0.5)" },
  "invert": { kind: "boolean", option: "invert", help: "negate the score: a control (off)" },
  "cache-skipped": {
    kind: "boolean",
    option: "cacheSkipped",
    help: "skipped tokens enter the KV cache all the same (off)",
  },
  "schedule": {
    kind: "text",
    value: names(SCHEDULES),
    option: "schedule",
    help: "how the ratio is spread over filtered layers (uniform)",
  },
  "slope": {
    kind: "number",
    value: "X",
    option: "slope",
    help: "ramp: relative rise to the last layer, [0, 1] (0.5)",
  },
  "skip-ratios": {
    kind: "ratios file",
    value: "FILE.json",
    option: "skipRatios",
    help: "explicit: a list of one ratio a layer",
  },
  "block": { kind: "integer", value: "N", option: "block", help: "learned: tokens per block (32)" },
  "ridge": { kind: "number", value: "X", option: "ridge", help: "learned: ridge of the regression (1)" },
  "projections": {
    kind: "integer",
    value: "N",
    option: "projections",
    help: "learned: number of random projections (16)",
  },
  "features": {
    kind: "features",
    value: "A+B",
    option: "features",
    help: `learned: some of ${FEATURE_GROUPS.join(", ")} (all but query)`,
  },
  "seed": {
    kind: "integer",
    value: "N",
    option: "seed",
    help: "seed of random and of learned's projections (0)",
  },
};

/** Flags of the surroundings. */
const COMMON_FLAGS: { readonly [name: string]: Flag } = {
  "model": { kind: "text", value: "tiny|smollm2-135m|FILE.gguf", help: "the model (tiny)" },
  "backend": {
    kind: "text",
    value: "cpu|cuda|reference|auto",
    help: "native code, a GPU, plain TypeScript, or the fastest of them that can be had (cpu)",
  },
  "threads": { kind: "integer", value: "N", help: "threads of the native code (all cores)" },
  "cache-dtype": {
    kind: "text",
    value: "f32|f16|bf16",
    tasks: ["sweep", "score", "heads", "compare"],
    help: "element type of the KV cache (f32); a GPU's tensor cores take f16 and bf16 alone",
  },
  "wgmma": {
    kind: "switch",
    tasks: ["sweep", "score", "heads", "compare"],
    help: "prefill by wgmma and TMA, on a GPU of sm_90 where test:gpu has passed (mma.sync, as on all GPUs)",
  },
  "text": {
    kind: "text",
    value: "FILE",
    tasks: ["sweep", "score", "heads", "compare"],
    help: "text to evaluate (score: none; else the built-in one)",
  },
  "ids": {
    kind: "text",
    value: "FILE.json",
    tasks: ["score"],
    help: "token ids as they are, instead of --text",
  },
  "context": { kind: "integer", value: "N", help: "tokens a chunk, in all but score (512)" },
  "tokens": { kind: "integer", value: "N", help: "use the first N tokens alone" },
  "phase": {
    kind: "text",
    value: "prefill|decode",
    tasks: ["score"],
    help:
      "how the sequence is fed (prefill); decode: token by token, on a GPU by recorded steps without the host",
  },
  "chunk": {
    kind: "integer",
    value: "N",
    tasks: ["score"],
    help: "tokens a piece of a prefill (all at once)",
  },
  "trace": {
    kind: "text",
    value: "FILE.parquet",
    tasks: ["score"],
    help: "keep every decision, to be replayed",
  },
  "replay": {
    kind: "text",
    value: "FILE.parquet",
    tasks: ["score"],
    help: "take the decisions of a trace again, on its tokens, instead of a method",
  },
  "resamples": { kind: "integer", value: "N", tasks: ["heads"], help: "resamples of an interval (1000)" },
  "kv": {
    kind: "text",
    value: "DUMP.safetensors",
    tasks: ["filter"],
    help: "tensors keys and values, [T, H, d], f32, f16 or bf16",
  },
  "skip-ratio": {
    kind: "number",
    value: "R",
    tasks: ["filter"],
    help: "share of this layer's tokens to skip, [0, 1] (0.5)",
  },
  "layer": { kind: "integer", value: "N", tasks: ["filter"], help: "the dump's layer; random reads it (0)" },
  "methods": {
    kind: "text",
    value: "A,B,…",
    tasks: ["compare"],
    help: `some of ${COMPARED_METHODS.join(", ")} (all)`,
  },
  "seeds": { kind: "integer", value: "N", tasks: ["compare"], help: "seeds of random (5)" },
  "grid": {
    kind: "text",
    value: "FILE.json",
    tasks: ["sweep"],
    help: "axes as in the flags, {option: [values]}, or a list of such objects",
  },
  "out": {
    kind: "text",
    value: "DIR",
    help: "folder for results (sweep, heads, compare: results/<time>; else none)",
  },
  "resume": {
    kind: "optional text",
    value: "[DIR]",
    tasks: ["sweep", "heads", "compare"],
    help: "go on with the interrupted run in DIR, or in --out",
  },
  "json": { kind: "switch", help: "print JSON alone on stdout" },
  "quiet": { kind: "switch", help: "no progress on stderr" },
  "help": { kind: "switch", help: "print this" },
};

/** Flags that a task takes, by name. */
export function flagsOf(task: Task): { readonly [name: string]: Flag } {
  const all = { ...METHOD_FLAGS, ...COMMON_FLAGS };
  return Object.fromEntries(Object.entries(all).filter(([, flag]) => flag.tasks?.includes(task) ?? true));
}

/** One line of the help a flag, wrapped under its name. */
export function describeFlags(task: Task): string {
  const section = (flags: { readonly [name: string]: Flag }) =>
    Object.entries(flags).filter(([, flag]) => flag.tasks?.includes(task) ?? true)
      .map(([name, flag]) => `  --${name}${flag.value ? ` ${flag.value}` : ""}\n      ${flag.help}`).join(
        "\n",
      );
  return `Method:\n${section(METHOD_FLAGS)}\n\nGeneral:\n${section(COMMON_FLAGS)}`;
}
