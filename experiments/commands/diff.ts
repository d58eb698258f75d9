/**
 * `deno task diff`: two results of sweep, compare or score side by side, paired where they read the same tokens. See
 * `deno task diff --help`.
 */
import { UsageError } from "../../lib/errors.ts";
import {
  describeDifference,
  listDifferences,
  readPlotly,
  recordDifference,
  renderDifferenceReport,
  tabulateDifference,
} from "../../lib/plot/mod.ts";
import { diffRuns, type RunResult } from "../../lib/sweep/mod.ts";
import { exists, expectWritable, isFolder, makeFolder, writeWhole } from "./cli/files.ts";
import { parseOwnFlags, valuesOf } from "./cli/flags/parse.ts";
import { readRun, RUN_RESULTS } from "./cli/output/result_files.ts";
import { printTable, readTable } from "./cli/output/table.ts";
import { checkFlags, EXIT, runTask } from "./cli/task.ts";
import { takeTaskFile } from "./task/file.ts";

export const USAGE = `Usage: deno task diff A B [flags]

Sets two results of sweep, of compare or of score side by side: folders, or
their summary.json, compare.json or score.json. Trials of sweeps are matched by
their options. An option with one value in all trials of a run and another value
in the other run is their difference: --recent 0 in A, and --recent 16 in B.
Methods of comparisons are matched by name. If both runs read the same tokens in
the same chunks, losses are paired in blocks of 64 tokens, and effects of the
passage cancel. If not, loss increases over each run's own full model are
compared, as if independent.

Examples:
  deno task diff results/before results/after
  deno task diff a/score.json b/score.json --json
  deno task diff results/recent0 results/recent16 --out results/diff

  --task-file FILE  the task of results whose task is of a file
  --out DIR        folder for diff.html and diff.json (none)
  --columns A,B,…  columns of the table, as they are called in its head, or all
  --csv FILE       write the table's records there, in all digits
  --markdown       print only the table, in Markdown, on stdout
  --latex          print only the table, in LaTeX (booktabs), on stdout
  --json           print only JSON on stdout
  --version        print the version
  --help           print this`;

/** Columns that are left out in a narrow terminal, the first one first. */
const SPARE_COLUMNS = ["KV evicted", "Q skipped"];

const withoutSlash = (path: string) => path.replace(/(?<=.)\/+$/, "");

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

/** Runs the task. @returns The exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const texts = ["out", "csv", "columns", "task-file"] as const;
  const { _: paths, ...flags } = parseOwnFlags(args, texts, ["json", "markdown", "latex"], true);
  if (paths.length !== 2) {
    throw new UsageError(`Cannot compare ${paths.length} results: expected deno task diff A B (see --help)`);
  }
  await takeTaskFile(flags["task-file"]);
  const [a, b] = await readBoth(paths.map(withoutSlash) as [string, string]);
  const diff = checkFlags(() => diffRuns(a, b)), shown = tabulateDifference(diff);
  const table = readTable(valuesOf(flags), shown.columns);
  const folder = flags.out === undefined ? undefined : withoutSlash(flags.out);
  const records = listDifferences(diff), json = JSON.stringify(recordDifference(diff), null, 2);
  if (folder !== undefined) {
    expectWritable(folder);
    const page = renderDifferenceReport(diff, { plotly: await readPlotly() });
    makeFolder(folder);
    await writeWhole(`${folder}/diff.html`, page);
    await writeWhole(`${folder}/diff.json`, `${json}\n`);
  }
  await printTable(shown, table, {
    spare: SPARE_COLUMNS,
    json: () => json,
    records,
    notes: [
      describeDifference(diff).join(" "),
      ...diff.conditions.map(({ name, a, b }) => `${name}: ${a || "-"} in A, ${b || "-"} in B.`),
      ...(folder === undefined ? [] : [`Report: ${folder}/diff.html`]),
    ],
  });
  return EXIT.ok;
}

if (import.meta.main) await runTask(main, USAGE);
