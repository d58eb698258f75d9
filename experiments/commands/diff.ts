/**
 * `deno task diff`: two results of sweep, compare or score side by side, paired where they read the same tokens. See
 * `deno task diff --help`.
 */
import { UsageError } from "../../lib/errors.ts";
import { readPlotly } from "../../lib/plot/figure/plotly.ts";
import {
  describeDifference,
  listDifferences,
  recordDifference,
  renderDifferenceReport,
  tabulateDifference,
} from "../../lib/plot/reports/difference.ts";
import { diffRuns, type RunResult } from "../../lib/sweep/compare/difference.ts";
import { exists, isFolder } from "./cli/files.ts";
import { text, under } from "./cli/flags/flag.ts";
import { TABLE, TASK_FILE } from "./cli/flags/flags.ts";
import { readRun, RUN_RESULTS } from "./cli/output/result_files.ts";
import { checkFlags, runCommand } from "./cli/task.ts";
import { type Asked, singleCommand } from "./run.ts";
import { withTask } from "./task/file.ts";

/** Columns that are left out in a narrow terminal, the first one first. */
const SPARE_COLUMNS = ["KV evicted", "Q skipped"];

/** Files of results by name: the one that a path leads to, or those in its folder. */
function listFiles(path: string): (typeof RUN_RESULTS)[number][] {
  if (!exists(path)) throw new UsageError(`Cannot read "${path}": there is no such file or folder`);
  const names = RUN_RESULTS.join(", "), hasFolder = isFolder(path), own = path.split(/[/\\]/).at(-1);
  const found = RUN_RESULTS.filter((file) => hasFolder ? exists(`${path}/${file}`) : own === file);
  if (found.length > 0) return found;
  throw new UsageError(
    hasFolder
      ? `Cannot use "${path}": found none of ${names} there, expected a finished run of sweep, compare or score`
      : `Cannot use "${path}": expected a folder, or a file called ${names}`,
  );
}

/** Reads both results; if folders contain several, those of the same task. */
async function readBoth([a, b]: readonly [a: string, b: string]): Promise<[RunResult, RunResult]> {
  const ofA = listFiles(a), ofB = listFiles(b), file = ofA.find((name) => ofB.includes(name));
  if (file === undefined) {
    const found = `found ${ofA[0]} and ${ofB[0]}`;
    throw new UsageError(`Cannot compare "${a}" with "${b}": ${found}, expected results of one task`);
  }
  const read = (path: string) => readRun(isFolder(path) ? `${path}/${file}` : path, file, path);
  return [await read(a), await read(b)];
}

const readDifference = async ({ words }: Asked) => {
  const [a, b] = await readBoth(words.map((path) => path.replace(/(?<=.)\/+$/, "")) as [string, string]);
  return checkFlags(() => diffRuns(a, b));
};

type Difference = Awaited<ReturnType<typeof readDifference>>;

export const command = singleCommand({
  name: "diff",
  summary: "Sets two results side by side, paired where they read the same tokens.",
  usage: "A B [flags]",
  about: `A and B are folders of finished runs, or their summary.json, compare.json or score.json. Trials are
matched by their options. An option with one value in all trials of a run and another value in the other run
is their difference: --recent 0 in A, and --recent 16 in B. Methods of comparisons are matched by name. If
both runs read the same tokens in the same chunks, losses are paired in blocks of 64 tokens, and effects of
the passage cancel. If not, loss increases over each run's own full model are compared, as if independent.`,
  examples: [
    "results/before results/after",
    "a/score.json b/score.json --json",
    "results/recent0 results/recent16 --out results/diff",
  ],
  words: { least: 2, most: 2 },
  flags: {
    ...TASK_FILE,
    ...under("Results", { out: text("DIR", "folder for diff.html and diff.json (none)") }),
    ...TABLE,
  },
  permissions: "-RW",
  prepare: withTask,
  read: readDifference,
  columns: (diff) => tabulateDifference(diff).columns,
  plan: (diff: Difference) => diff,
  work: (diff) => diff,
  file: "diff.json",
  json: (diff) => JSON.stringify(recordDifference(diff), null, 2),
  pages: async (diff) => ({ "diff.html": renderDifferenceReport(diff, { plotly: await readPlotly() }) }),
  table: (diff) => ({
    table: tabulateDifference(diff),
    spare: SPARE_COLUMNS,
    records: listDifferences(diff),
    notes: [
      describeDifference(diff).join(" "),
      ...diff.conditions.map(({ name, a, b }) => `${name}: ${a || "-"} in A, ${b || "-"} in B.`),
    ],
  }),
});

if (import.meta.main) await runCommand(command);
