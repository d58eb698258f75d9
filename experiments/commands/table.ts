/**
 * `deno task table`: the tables of finished runs, printed again for a paper, and their figures as files.
 * See `deno task table --help`.
 */
import { UsageError } from "../../lib/errors.ts";
import { labelOf } from "../../lib/eval/task.ts";
import { findTask } from "../../lib/eval/tasks/mod.ts";
import type { Figure } from "../../lib/plot/figure/figure.ts";
import { printImages, renderImages } from "../../lib/plot/figure/image.ts";
import { plotComparisons } from "../../lib/plot/reports/comparison.ts";
import { formatCsv, formatShort } from "../../lib/plot/csv.ts";
import { PAIRS_LEGEND, tabulatePairs } from "../../lib/plot/reports/pairs_table.ts";
import { PAPER_LEGEND, type PaperPart, tabulatePaper } from "../../lib/plot/reports/paper_table.ts";
import { tabulateReproduction } from "../../lib/plot/reports/reproduction.ts";
import type { SiteEntry } from "../../lib/plot/reports/site.ts";
import { plotSweep } from "../../lib/plot/reports/sweep.ts";
import { foldSeeds, tabulateTrials } from "../../lib/plot/reports/trial_table.ts";
import { plural } from "../../lib/plural.ts";
import type { Comparison } from "../../lib/sweep/compare/comparison.ts";
import { exists, expectWritable, makeFolder, writeWhole } from "./cli/files.ts";
import { onOff, text, under } from "./cli/flags/flag.ts";
import { TASK_FILE } from "./cli/flags/flags.ts";
import { expectChoice, textOf } from "./cli/flags/parse.ts";
import { readEntry } from "./cli/output/result_files.ts";
import { cardName, writeCard } from "./cli/output/model_card.ts";
import {
  formatLatex,
  formatMarkdown,
  formatTable,
  type PlainTable,
  selectColumns,
} from "./cli/output/table.ts";
import { runCommand, writeLine } from "./cli/task.ts";
import { type Asked, plainCommand } from "./run.ts";
import { withTask } from "./task/file.ts";

const FORMATS = ["markdown", "latex", "csv", "text"] as const;

const FILES = ["reproduce.json", "compare.json", "summary.json"] as const;

/** The finished run of a folder. @throws {UsageError} If there is none. */
async function readRunIn(folder: string): Promise<SiteEntry> {
  const file = FILES.find((file) => exists(`${folder}/${file}`));
  if (file !== undefined) return await readEntry(folder, file);
  throw new UsageError(`Cannot print a table of "${folder}": found none of ${FILES.join(", ")} there`);
}

/** Head of the columns of a comparison's own task: the protocol, and the text where there is one. */
function headOf({ environment }: Comparison): string | undefined {
  const { task: name, context, text } = environment, task = findTask(name);
  return task.items === undefined ? `${text}: ${labelOf(task, context)}` : undefined;
}

/** A comparison as parts of a table: its own task, and the tasks of items next to it. */
function partsOf(comparison: Comparison): PaperPart[] {
  const own = findTask(comparison.environment.task).name, label = headOf(comparison);
  const { methods, results = [] } = comparison;
  return [
    { methods, results: results.filter(({ task }) => task === own), ...(label !== undefined && { label }) },
    { methods: [], results: results.filter(({ task }) => task !== own) },
  ];
}

/**
 * One table of runs.
 *
 * @throws {UsageError} If they are of several models, cannot stand in one table, or two would have the same column.
 */
function tabulateRuns(runs: readonly SiteEntry[]): PlainTable {
  const [first] = runs as [SiteEntry], comparisons = runs.filter((run) => run.kind === "compare");
  if (runs.length === 1) {
    if (first.kind === "reproduce") return tabulateReproduction(first.data);
    if (first.kind === "compare") return tabulatePaper(first.data);
    if (first.kind === "sweep") return tabulateTrials(foldSeeds(first.data));
  }
  if (comparisons.length < runs.length) {
    throw new UsageError("Cannot print one table of several runs: expected each folder with a compare.json");
  }
  const models = new Set(comparisons.map(({ data }) => data.environment.modelSha256));
  if (models.size > 1) {
    throw new UsageError(`Cannot print one table of ${models.size} models: expected folders of one model`);
  }
  const table = tabulatePaper(comparisons.flatMap(({ data }) => partsOf(data)));
  const twice = table.columns.find((name, i) => table.columns.indexOf(name) !== i);
  if (twice === undefined) return table;
  throw new UsageError(`Cannot print one table: two folders have a column "${twice}", expected each once`);
}

/** Differences between any two methods of the runs that compare some. */
function pairsOf(runs: readonly SiteEntry[]): PlainTable | undefined {
  return tabulatePairs(runs.flatMap((run): Comparison[] => {
    if (run.kind === "compare") return [run.data];
    return run.kind === "reproduce" ? run.data.parts.map(({ comparison }) => comparison) : [];
  }));
}

/** Pairs of methods whose names both contain one of the names that were asked for. @throws {UsageError} If there is none. */
function selectPairs(pairs: PlainTable | undefined, rows: string | undefined): PlainTable | undefined {
  const wanted = rows?.split(",").map(plain);
  if (pairs === undefined || wanted === undefined) return pairs;
  const has = (cell: string) => wanted.some((name) => plain(cell).includes(name));
  const kept = pairs.rows.filter(([method, other]) => has(method!) && has(other!));
  return kept.length === 0 ? undefined : { ...pairs, rows: kept };
}

const plain = (name: string) => name.toLowerCase().trim();

/** Rows and columns that were asked for. @throws {UsageError} If a name is in none. */
function select(table: PlainTable, rows: string | undefined, columns: string | undefined): PlainTable {
  const wanted = rows?.split(",").map(plain), first = Math.max(0, table.left.indexOf(true));
  const has = (row: readonly string[], name: string) => plain(row[first]!).includes(name);
  const missing = wanted?.find((name) => !table.rows.some((row) => has(row, name)));
  if (missing !== undefined) {
    const known = [...new Set(table.rows.map((row) => row[first]))].join(", ");
    throw new UsageError(`Cannot use --rows ${missing}: expected parts of ${known}`);
  }
  const kept = wanted === undefined
    ? table
    : { ...table, rows: table.rows.filter((row) => wanted.some((name) => has(row, name))) };
  const names = columns?.split(",").map((name) => {
    const found = table.columns.find((column) => plain(column) === plain(name));
    if (found !== undefined) return found;
    throw new UsageError(`Cannot use --columns ${name.trim()}: expected some of ${table.columns.join(", ")}`);
  });
  return names === undefined ? kept : selectColumns(kept, names);
}

/** A table in a format, with its legend where there is one. */
function format(table: PlainTable, name: (typeof FORMATS)[number], legend: readonly string[]): string {
  if (name === "csv") {
    const plainCell = (cell: string) => cell.replace(/^\*\*(.*)\*\*$/, "$1");
    return formatCsv(
      table.rows.map((row) => Object.fromEntries(table.columns.map((name, i) => [name, plainCell(row[i]!)]))),
    ).trimEnd();
  }
  if (name === "text") {
    const bare = table.rows.map((row) => row.map((cell) => cell.replace(/^\*\*(.*)\*\*$/, "$1")));
    return [formatTable({ ...table, rows: bare }), ...legend].join("\n\n");
  }
  if (name === "latex") return [...legend.map((line) => `% ${line}`), formatLatex(table)].join("\n");
  return [formatMarkdown(table), ...legend].join("\n\n");
}

/** Figures of runs with the names of their files. */
function listFigures(runs: readonly SiteEntry[]) {
  const named = (part: string, figures: readonly Figure[]) => figures.map((figure) => ({ part, figure }));
  const figures = runs.flatMap((run) => {
    if (run.kind === "compare") return named(run.name, plotComparisons(run.data));
    if (run.kind === "sweep") return named(run.name, plotSweep(run.data));
    return run.kind === "reproduce"
      ? run.data.parts.flatMap(({ protocol, comparison }) => named(protocol, plotComparisons(comparison)))
      : [];
  });
  const plainName = (text: string) => text.toLowerCase().replaceAll(/[^a-z0-9]+/g, "_");
  return figures.map(({ part, figure }, i) => ({
    ...{ figure, file: `${i + 1}_${plainName(part)}_${plainName(figure.title)}` },
  }));
}

/** `deno task table` reads alone. @throws {UsageError} If it was started without the right to write. */
async function expectRightToWrite(flag: string): Promise<void> {
  if ((await Deno.permissions.query({ name: "write" })).state === "granted") return;
  throw new UsageError(
    `Cannot use --${flag} with deno task table, which only reads: expected deno run -A experiments/commands/table.ts`,
  );
}

async function readFlags({ values, words }: Asked) {
  const figures = textOf(values, "figures"), card = textOf(values, "card"), asPdf = values.has("pdf");
  if (asPdf && figures === undefined) {
    throw new UsageError("Cannot use --pdf without --figures: expected --figures DIR");
  }
  const isLatex = values.has("latex"), asked = textOf(values, "format");
  if (isLatex && asked !== undefined) {
    throw new UsageError("Cannot use --latex with --format: expected one of them");
  }
  const chosen = expectChoice("format", isLatex ? "latex" : asked ?? "markdown", FORMATS);
  for (const [flag, folder] of Object.entries({ figures, card })) {
    if (folder === undefined) continue;
    await expectRightToWrite(flag);
    expectWritable(folder);
  }
  const runs: SiteEntry[] = [];
  for (const folder of words) runs.push(await readRunIn(folder.replace(/(?<=.)\/+$/, "")));
  const rows = textOf(values, "rows"), columns = textOf(values, "columns"), wantsPairs = values.has("pairs");
  if (wantsPairs && columns !== undefined) {
    throw new UsageError(
      "Cannot use --columns with --pairs: they are those of the other table (leave --columns out)",
    );
  }
  const pairs = columns === undefined ? selectPairs(pairsOf(runs), rows) : undefined;
  if (wantsPairs && pairs === undefined) {
    throw new UsageError(
      `Cannot print differences: found no two ${
        rows === undefined ? "compared methods" : `of ${rows}`
      } in one run, expected ` +
        "folders of deno task compare",
    );
  }
  const table = wantsPairs ? undefined : select(tabulateRuns(runs), rows, columns);
  return { runs, table, pairs, chosen, figures, card, asPdf };
}

/** Prints the table, and writes what belongs to it. */
async function work({ runs, table, pairs, ...asked }: Awaited<ReturnType<typeof readFlags>>) {
  const { chosen, figures, card, asPdf } = asked;
  const tables = [
    ...table ? [format(table, chosen, runs[0]!.kind === "sweep" ? [] : PAPER_LEGEND)] : [],
    // A file of CSV has one table.
    ...pairs && !(table && chosen === "csv") ? [format(pairs, chosen, PAIRS_LEGEND)] : [],
  ];
  writeLine(Deno.stdout, tables.join("\n\n"));
  if (card !== undefined) await saveCards(runs, card);
  if (figures !== undefined) await saveFigures(runs, figures, asPdf);
}

/** Writes the pages of models. @throws {UsageError} If a run is of no recipe. */
async function saveCards(runs: readonly SiteEntry[], folder: string): Promise<void> {
  for (const run of runs) {
    if (run.kind !== "reproduce") {
      throw new UsageError("Cannot write the page of a model: expected a folder with reproduce.json");
    }
    makeFolder(folder);
    const path = `${folder}/${cardName(run.data)}`;
    await writeWhole(path, writeCard(run.data));
    await writeWhole(path.replace(/md$/, "json"), formatShort(run.data));
    writeLine(Deno.stderr, `Page: ${path}`);
  }
}

/** Writes the figures of runs, in light colors. */
async function saveFigures(runs: readonly SiteEntry[], folder: string, asPdf: boolean): Promise<void> {
  const listed = listFigures(runs), images = await renderImages(listed.map(({ figure }) => figure), "svg");
  makeFolder(folder);
  for (const [i, { file }] of listed.entries()) await writeWhole(`${folder}/${file}.svg`, images[i]!);
  const pages = asPdf ? await printImages(images) : [];
  for (const [i, page] of pages.entries()) await writeWhole(`${folder}/${listed[i]!.file}.pdf`, page);
  writeLine(Deno.stderr, `${plural(images.length, "figure")}: ${folder}`);
}

export const command = plainCommand({
  name: "table",
  summary: "Prints the table of finished runs for a paper.",
  usage: "DIR… [flags]",
  about: `Methods are down, tasks across, with the mean of the tasks, the best value in bold, standard errors,
and marks of significance against the random baseline. A second table has the paired difference of any two methods, with
its interval and adjusted p value; --pairs prints it alone, also as CSV. A folder holds ${
    FILES.slice(0, -1).join(", ")
  } or
${FILES.at(-1)}. Several comparisons of one model make one table: a column each, headed by its
protocol. Nothing is computed again. The task only reads: --figures and --card need
deno run -A experiments/commands/table.ts instead of deno task table.`,
  examples: [
    "results/compare --latex --rows keys,snapkv,streaming",
    'results/paper --format latex --columns "method,WikiText-2 at 128 ppl,mean"',
    "results/text results/items --rows dense,paper,random",
  ],
  words: { least: 1, most: Infinity },
  flags: {
    ...under("Results", {
      format: text(FORMATS.join("|"), "how it is printed (markdown)"),
      latex: onOff("short for --format latex"),
      pairs: onOff("only the differences between any two methods"),
      rows: text("A,B,…", "only rows whose name contains one of these (all)"),
      columns: text("A,B,…", "only these columns, as they are called in the head (all)"),
      figures: text(
        "DIR",
        "write the figures of the runs there too, as SVG in light colors; needs Chromium",
      ),
      pdf: onOff("write these figures as PDF too"),
      card: text(
        "DIR",
        "write the page of the model there too, all tables in Markdown, as in docs/results/models; of reproduce.json",
      ),
    }),
    ...TASK_FILE,
  },
  permissions: "-R",
  prepare: withTask,
  read: readFlags,
  work,
});

if (import.meta.main) await runCommand(command);
