/** The main flags of tasks, as `--help` groups them. */
import { SAMPLING } from "../../../lib/model/mod.ts";
import { flagName } from "./task.ts";

/** The flags that most runs want, by what they are about. */
export const MAIN: { readonly [group: string]: readonly string[] } = {
  "What runs": [
    "kv",
    "layer",
    "data",
    "tasks",
    "items",
    "prompt",
    "chat",
    "text",
    "ids",
    "replay",
    "model",
    "task",
    "methods",
    "grid",
    "full",
    "space",
    "tokens",
    "context",
  ],
  "Method": [
    "fusion",
    "preset",
    "side",
    "prune-ratio",
    "ratios",
    "skip-ratio",
    "recent",
    "warmup",
    "filter-from",
    "threshold",
    "seed",
  ],
  "Choice of tokens": Object.keys(SAMPLING).map(flagName),
  "Where": ["host", "port", "token-file", "waiting"],
  "How": ["max-tokens", "beside", "backend", "race", "jobs", "phase", "seeds"],
  "Results": ["out", "resume", "live", "all", "columns", "csv", "json"],
};
