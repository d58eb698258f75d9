/**
 * `deno task report`: a static site of the results of other tasks, to be opened from a folder or put on a server.
 * See `deno task report --help`.
 */
import { UsageError } from "../lib/errors.ts";
import { findTask } from "../lib/eval/mod.ts";
import { plural, readPlotly, renderSite, SITE_FILES, type SiteEntry } from "../lib/plot/mod.ts";
import { FIELD, findWrongField, trialFields } from "../lib/sweep/mod.ts";
import { exists, expectWritable, makeFolder, readJson, readText, writeWhole } from "./cli/files.ts";
import { parseOwnFlags } from "./cli/parse.ts";
import { EXIT, runTask, writeLine } from "./cli/task.ts";

const USAGE = `Usage: deno task report DIR… [--out DIR]

Makes a static site of results: an index, and a page for each summary.json (of sweep), heads.json, compare.json and
bench.json in the folders, or one level below them; one that cannot be used is named and left out. It needs no server
and no network.

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

/** Fields of a method in a comparison. */
const COMPARED_FIELDS = { name: FIELD.text, achievedRatio: FIELD.measured, loss: FIELD.number };

type Records = readonly { readonly [field: string]: unknown }[];

/** What is wrong with the records of a sweep or a comparison: `trial 3, field "tau": found …`. */
function findWrongRecord(
  kind: SiteEntry["kind"],
  data: { readonly [key: string]: unknown },
): string | undefined {
  const task = findTask((data.environment as { readonly task?: string }).task);
  const [key, noun, fields] = kind === "sweep"
    ? ["trials", "trial", trialFields(task)] as const
    : ["methods", "method", COMPARED_FIELDS] as const;
  if (!Array.isArray(data[key])) return `found no list of "${key}"`;
  for (const [i, record] of (data[key] as Records).entries()) {
    const wrong = findWrongField({ ...record }, fields);
    if (wrong !== undefined) return `${noun} ${i + 1}, ${wrong}`;
  }
}

/** A result of a file. @throws {UsageError} If it is none, naming file and field. */
async function readEntry(folder: string, file: keyof typeof FILES): Promise<SiteEntry> {
  const path = `${folder}/${file}`, { kind, keys } = FILES[file];
  const data = await readJson(path) as { readonly [key: string]: unknown } | null;
  const missing = keys.find((key) => typeof data?.[key] !== "object" || data[key] === null);
  const refuse = (why: string) =>
    new UsageError(`Cannot use "${path}": ${why}, expected what deno task ${kind} writes`);
  if (missing !== undefined) throw refuse(`found no "${missing}"`);
  const name = (await Deno.realPath(folder)).split(/[/\\]/).at(-1)!;
  const entry = { kind, name, data } as unknown as SiteEntry;
  try {
    const wrong = kind === "sweep" || kind === "compare" ? findWrongRecord(kind, data!) : undefined;
    if (wrong !== undefined) throw refuse(wrong);
    renderSite([entry]);
    return entry;
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw refuse(error.message);
  }
}

/** All results in folders; those that cannot be used are left out, and said to be. */
async function readEntries(folders: readonly string[]): Promise<SiteEntry[]> {
  const entries: SiteEntry[] = [], wrong: UsageError[] = [];
  for (const folder of new Set(folders.flatMap(candidates))) {
    for (const file of Object.keys(FILES) as (keyof typeof FILES)[]) {
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
  throw wrong[0] ?? new UsageError(
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
