/** Flags of a search, of a race, and of the limits of trials. */
import { RACES, SAMPLERS } from "../../../../lib/search/mod.ts";
import { OBJECTIVE_NAMES } from "../../../../lib/sweep/mod.ts";
import { flag, type Flags, type Task } from "./flag.ts";

const tasks: readonly Task[] = ["sweep"];

/** Taken by sweep; the last one by compare too. */
export const SEARCH_FLAGS: Flags = {
  "space": flag(
    "text",
    "FILE.json|FILE.ts",
    "axes of a search: values, lists, ranges and conditions (docs/guides/sweep-and-search.md)",
    tasks,
  ),
  "sampler": flag(
    "text",
    Object.keys(SAMPLERS).join("|"),
    `algorithm that proposes the trials of a search (tpe)${
      Object.entries(SAMPLERS).map(([name, { help }]) => `\n      ${name}: ${help}`).join("")
    }`,
    tasks,
  ),
  "trials": flag("integer", "N", "proposals of a search (50; grid: all)", tasks),
  "sampler-seed": flag(
    "integer",
    "N",
    "seed of a search's proposals and of a race's order of chunks (0)",
    tasks,
  ),
  "objectives": flag(
    "text",
    "A,B,…",
    `quantities that a search minimizes, of ${
      OBJECTIVE_NAMES.join(", ")
    } (loss; where a ratio varies loss,attentionFlops)`,
    tasks,
  ),
  "at-most": flag("text", "A=X,…", "upper limits of objectives for a trial: attentionFlops=0.6", tasks),
  "race": flag(
    "optional text",
    `[${Object.keys(RACES).join("|")}]`,
    "stop trials early that will not be the best at their ratio, on shared chunks in a shuffled order (sequential)\n" +
      "      sequential: once significantly worse than the best, at level 0.01\n" +
      "      halving: outside the best third at 1/27, 1/9 and 1/3 of the chunks",
    tasks,
  ),
  "budget": flag("text", "TIME", "start no trial once a time is over: 20m, 90s, 1h30m", tasks),
  "memory": flag(
    "text",
    "SIZE",
    "memory for results of the full model that all methods use, as 500M or 2G; the rest is computed again for each (1G)",
    ["sweep", "compare", "reproduce"],
  ),
};
