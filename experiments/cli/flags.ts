/** One table of flags for all tasks: a flag has the same name, meaning and values wherever it is taken. */
import type { Option } from "../../lib/filter/mod.ts";
import { METHODS, OPTIONS } from "../../lib/methods/mod.ts";
import { COMPARED_METHODS } from "../../lib/sweep/mod.ts";
import { flagName } from "./task.ts";

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

/** An option's default in words; undefined where it has none. */
function describeDefault(option: Option): string | undefined {
  switch (option.type) {
    case "number":
    case "integer":
      return shown(option.default);
    case "flag":
      return option.default ? "on" : "off";
    case "names":
      return `all but ${option.names.filter((name) => !option.default.includes(name)).join(", ")}`;
    default:
      return "default" in option ? String(option.default) : undefined;
  }
}

/** How an option's text becomes a value, and what stands for it. */
function readAs(option: Option): Pick<Flag, "kind" | "value"> {
  switch (option.type) {
    case "number":
      return { kind: "number", value: option.value ?? "X" };
    case "integer":
    case "seed":
      return { kind: "integer", value: "N" };
    case "flag":
      return { kind: "boolean" };
    case "name":
      return { kind: "text", value: option.names.join("|") };
    case "names":
      return { kind: "names", value: "A+B" };
    case "ratios":
      return { kind: "ratios file", value: "FILE.json" };
  }
}

/** The flag of an option: what it belongs to, what it does, and its default. */
function flagOf(name: string, option: Option): Flag {
  const owners = Object.values(option.of ?? {}).flat(), note = option.note === undefined ? [] : [option.note];
  const said = option.help.replace("{range}", "range" in option ? option.range! : "")
    .replace("{names}", "names" in option ? option.names.join(", ") : "");
  const byDefault = [describeDefault(option) ?? [], note].flat().join("; ");
  return {
    ...readAs(option),
    option: name,
    help: `${owners.length > 0 ? `${owners.join(", ")}: ` : ""}${said}${byDefault && ` (${byDefault})`}` +
      (name === "fusion" ? METHODS.map(({ name, help }) => `\n      ${name}: ${help}`).join("") : ""),
  };
}

/** Flags of the method: options of the same names, in camel case. */
const METHOD_FLAGS: { readonly [name: string]: Flag } = Object.fromEntries(
  Object.entries(OPTIONS).map(([name, option]) => [flagName(name), flagOf(name, option)]),
);

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
