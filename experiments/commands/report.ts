/**
 * `deno task report`: a static site of the results of other tasks, to be opened from a folder or put on a server.
 * See `deno task report --help`.
 */
import { UsageError } from "../../lib/errors.ts";
import { readPlotly } from "../../lib/plot/figure/plotly.ts";
import type { SiteEntry } from "../../lib/plot/reports/site.ts";
import { plural } from "../../lib/plural.ts";
import { exists, expectWritable, makeFolder, readText, writeWhole } from "./cli/files.ts";
import { text, under } from "./cli/flags/flag.ts";
import { TASK_FILE } from "./cli/flags/flags.ts";
import { textOf } from "./cli/flags/parse.ts";
import { readEntry, SITE_RESULTS } from "./cli/output/result_files.ts";
import { runCommand, writeLine } from "./cli/task.ts";
import { type Asked, plainCommand } from "./run.ts";
import { withTask } from "./task/file.ts";

const OUT = "results/report";

/** Folders that may hold results: the given one and those right below it, in their order. */
function candidates(folder: string): string[] {
  try {
    const below = [...Deno.readDirSync(folder)].filter((entry) => entry.isDirectory).map(({ name }) => name)
      .sort();
    return [folder, ...below.map((name) => `${folder}/${name}`)];
  } catch {
    throw new UsageError(`Cannot read "${folder}": there is no such folder of results`);
  }
}

/** All results in folders. Unusable ones are left out and reported. */
async function readEntries(folders: readonly string[]): Promise<SiteEntry[]> {
  const entries: SiteEntry[] = [], wrong: UsageError[] = [];
  for (const folder of new Set(folders.flatMap(candidates))) {
    for (const file of SITE_RESULTS) {
      if (!exists(`${folder}/${file}`)) continue;
      try {
        entries.push(await readEntry(folder, file));
      } catch (error) {
        if (!(error instanceof UsageError)) throw error;
        wrong.push(error);
      }
    }
  }
  if (entries.length > 0) {
    for (const { message } of wrong) writeLine(Deno.stderr, `Left out: ${message}`);
    return entries;
  }
  const places = folders.join(", "), names = SITE_RESULTS.join(", ");
  throw wrong[0] ??
    new UsageError(`Cannot make a report of ${places}: found none of ${names} there or one level below`);
}

/** A title that marks our own index: only such a site is replaced. */
const MARK = "<title>Token Filtering: results</title>";

async function checkOut(out: string, index: string): Promise<void> {
  if (exists(index) && !(await readText(index)).includes(MARK)) {
    throw new UsageError(`Cannot write to "${out}": its index.html is no report (take another --out)`);
  }
  expectWritable(out);
}

/** Writes the site. */
async function work(entries: readonly SiteEntry[], { values }: Asked): Promise<void> {
  const { renderSite, SITE_FILES } = await import("../../lib/plot/reports/site.ts");
  const out = textOf(values, "out") ?? OUT, index = `${out}/${SITE_FILES.index}`;
  await checkOut(out, index);
  const pages = renderSite(entries);
  makeFolder(out);
  await writeWhole(`${out}/${SITE_FILES.plotly}`, await readPlotly());
  // The index is written last, when all pages that it links to exist.
  for (const [file, html] of [...pages].reverse()) await writeWhole(`${out}/${file}`, html);
  writeLine(Deno.stdout, `${plural(entries.length, "result")}: ${index}`);
}

export const command = plainCommand({
  name: "report",
  summary: "Makes a static site of results, with an index and one page per file of results.",
  usage: "DIR… [flags]",
  about: `The files are in the folders, or one level below them: ${SITE_RESULTS.join(", ")}. A file
that cannot be used is named and left out. The site needs no server and no network.`,
  examples: ["results", "results/a results/b --out site"],
  words: { least: 1, most: Infinity },
  flags: {
    ...under("Results", { out: text("DIR", `folder of the site (${OUT}); a site that is there is renewed`) }),
    ...TASK_FILE,
  },
  permissions: "-RW",
  prepare: withTask,
  read: ({ words }) => readEntries(words.map((folder) => folder.replace(/(?<=.)\/+$/, ""))),
  work,
});

if (import.meta.main) await runCommand(command);
