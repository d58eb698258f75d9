/**
 * `deno task report`: a static site of the results of other tasks, to be opened from a folder or put on a server.
 * See `deno task report --help`.
 */
import { UsageError } from "../lib/errors.ts";
import { plural, readPlotly, renderSite, SITE_FILES, type SiteEntry } from "../lib/plot/mod.ts";
import { exists, expectWritable, makeFolder, readJson, readText, writeWhole } from "./cli/files.ts";
import { parseOwnFlags } from "./cli/parse.ts";
import { EXIT, runTask, writeLine } from "./cli/task.ts";

const USAGE = `Usage: deno task report DIR… [--out DIR]

Makes a static site of results: an index, and a page for each summary.json (of sweep), heads.json, compare.json and
bench.json in the folders, or one level below them. It needs no server and no network.

  --out DIR
      folder of the site (results/report); a site that is there is renewed
  --help
      print this`;

/** The file of each task, and what it must hold. */
const FILES = {
  "summary.json": { kind: "sweep", keys: ["trials", "dense", "environment"] },
  "heads.json": { kind: "heads", keys: ["layers", "overall", "environment"] },
  "compare.json": { kind: "compare", keys: ["methods", "intervals", "environment"] },
  "bench.json": { kind: "bench", keys: ["kernels", "lengths", "roof", "environment"] },
} as const;

function readOptions(args: readonly string[]) {
  const { out = "results/report", _ } = parseOwnFlags(args, ["out"], [], true);
  if (out === "") throw new UsageError("Cannot use --out: found no value, expected --out DIR");
  if (_.length === 0) {
    throw new UsageError(
      "Cannot make a report: found no folder of results, expected deno task report DIR… (see --help)",
    );
  }
  return { folders: _.map((folder) => folder.replace(/(?<=.)\/+$/, "")), out };
}

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

async function readEntries(folders: readonly string[]): Promise<SiteEntry[]> {
  const entries: SiteEntry[] = [];
  for (const folder of new Set(folders.flatMap(candidates))) {
    for (const [file, { kind, keys }] of Object.entries(FILES)) {
      const path = `${folder}/${file}`;
      if (!exists(path)) continue;
      const data = await readJson(path) as { readonly [key: string]: unknown } | null;
      const missing = keys.find((key) => typeof data?.[key] !== "object" || data[key] === null);
      if (missing !== undefined) {
        throw new UsageError(
          `Cannot use "${path}": found no "${missing}", expected what deno task ${kind} writes`,
        );
      }
      const name = (await Deno.realPath(folder)).split(/[/\\]/).at(-1)!;
      entries.push({ kind, name, data } as unknown as SiteEntry);
    }
  }
  if (entries.length > 0) return entries;
  throw new UsageError(
    `Cannot make a report of ${folders.join(", ")}: found none of ${
      Object.keys(FILES).join(", ")
    } there or one level below`,
  );
}

/** A mark of our own in the index, so that a site is renewed and nothing else is written over. */
const MARK = "<title>Token Filtering: results</title>";

async function checkOut(out: string): Promise<void> {
  const index = `${out}/${SITE_FILES.index}`;
  if (exists(index) && !(await readText(index)).includes(MARK)) {
    throw new UsageError(`Cannot write to "${out}": its index.html is no report (take another --out)`);
  }
  expectWritable(out);
}

/** Runs the task. @returns The exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const { folders, out } = readOptions(args);
  const entries = await readEntries(folders);
  await checkOut(out);
  const pages = renderSite(entries);
  makeFolder(out);
  await writeWhole(`${out}/${SITE_FILES.plotly}`, await readPlotly());
  // The index comes last: what it leads to is there by then.
  for (const [file, html] of [...pages].reverse()) await writeWhole(`${out}/${file}`, html);
  writeLine(
    Deno.stdout,
    `${plural(entries.length, "result")}: ${out}/${SITE_FILES.index}`,
  );
  return EXIT.ok;
}

if (import.meta.main) await runTask(main, USAGE);
