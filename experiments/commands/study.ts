/** `deno task study`: lists, shows, joins and exports studies on disk. See `deno task study --help`. */
import { UsageError } from "../../lib/errors.ts";
import {
  listDifferences,
  readPlotly,
  recordDifference,
  renderPage,
  tabulateDifference,
  tabulateTrials,
} from "../../lib/plot/mod.ts";
import { plural } from "../../lib/plural.ts";
import { diffRuns, StudyStore } from "../../lib/sweep/mod.ts";
import { isFolder, writeWhole } from "./cli/files.ts";
import { parseOwnFlags, readInteger, valuesOf } from "./cli/flags/parse.ts";
import { RESULTS } from "./cli/run/resume.ts";
import { expectSweep, hasEnded, removeStudy } from "./cli/run/study_store.ts";
import { type PlainTable, printTable, readTable, type TableContext } from "./cli/output/table.ts";
import { checkFlags, EXIT, runTask, writeLine } from "./cli/task.ts";
import { LOCALHOST, readToken } from "./cli/flags/token.ts";
import {
  exportStudy,
  importTrials,
  KINDS,
  listRecords,
  mergeStudies,
  readRecords,
  repairStudy,
} from "./study/files.ts";
import {
  bestFirst,
  describeBest,
  glanceBest,
  listShort,
  openNamed,
  pathOfStudy,
  summaryOf,
  tabulateShort,
} from "./study/open.ts";
import { plotStudy } from "./study/page.ts";
import { serveStudy } from "./pages/follow.ts";
import { takeTaskFile } from "./task/file.ts";

export const USAGE = `Usage: deno task study COMMAND [flags]

Studies are the study.db files that deno task sweep leaves in folders of
results; a command takes the file or its folder. A study names files that a
worker runs, a rule or a task of your own: trust it like code.

  list [DIR]             the studies below a folder (results)
  show STUDY             its trials; --plot draws them all on a page
  best STUDY             those on the Pareto front, with all that was measured
  diff A B               two studies side by side, as deno task diff does
  export STUDY --out F   its results as ${KINDS.join(", ")}, by the file's name
  import FILE --out S    trials of a JSONL file, into a study
  merge A B… --out S     studies of the same conditions, into one
  repair STUDY --out S   the sound parts of a damaged or older study, in a new
                         one of this version
  delete STUDY --yes     the study's file; the rest of its folder stays
  serve STUDY            a page that renews itself while workers are at it

Examples:
  deno task study list
  deno task study show results/mine --plot trials.html
  deno task study export results/mine --out mine.parquet
  deno task study export results/mine --out mine.db --as optuna

  --top N          rows of best (all on the front)
  --plot FILE      write a page with all trials there
  --out FILE       where a command writes
  --as KIND        kind of the export: ${KINDS.join(", ")}
  --yes            really delete
  --port N         where serve listens (8081); 0: a free port
  --host ADDRESS   on which address (127.0.0.1); elsewhere a token is needed
  --token-file F   token of requests (TOKENFILTER_TOKEN, else none)
  --task-file F    the task of studies whose task is of a file
  --columns A,B,…  columns of a table, as they are called in its head, or all
  --csv FILE       write a table's records there, in all digits
  --markdown       print only a table, in Markdown, on stdout
  --latex          print only a table, in LaTeX (booktabs), on stdout
  --json           print only JSON on stdout
  --version        print the version
  --help           print this`;

const TEXTS = [
  "top",
  "plot",
  "out",
  "as",
  "columns",
  "csv",
  "port",
  "host",
  "token-file",
  "task-file",
] as const;
const SWITCHES = ["yes", "json", "markdown", "latex"] as const;
type Flags = ReturnType<typeof parseOwnFlags<(typeof TEXTS)[number], (typeof SWITCHES)[number]>>;

async function print(flags: Flags, table: PlainTable, context: TableContext): Promise<void> {
  await printTable(table, readTable(valuesOf(flags), table.columns), context);
}

function* findStudies(folder: string, depth = 4): Generator<string> {
  const entries = [...Deno.readDirSync(folder)].sort((a, b) => a.name < b.name ? -1 : 1);
  for (const { name, isDirectory } of entries) {
    if (isDirectory && depth > 0 && !name.startsWith(".")) yield* findStudies(`${folder}/${name}`, depth - 1);
    else if (name.endsWith(".db")) yield `${folder}/${name}`;
  }
}

async function list([folder = RESULTS]: readonly string[], flags: Flags): Promise<void> {
  if (!isFolder(folder)) throw new UsageError(`Cannot list "${folder}": there is no such folder`);
  const studies = [...findStudies(folder)].map((path) => {
    try {
      using store = StudyStore.open(path, { isGlance: true });
      const { model, text } = store.conditions, counts = store.count();
      return {
        study: path,
        model,
        text,
        began: store.get("began"),
        ...counts,
        best: glanceBest(store),
      };
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      return { study: path, model: `! ${error.message}` };
    }
  });
  const columns = "study model text began waiting running complete pruned failed best".split(" ");
  const cell = (study: object, name: string) => String((study as Record<string, unknown>)[name] ?? "-");
  await print(flags, {
    columns,
    left: columns.map((_, i) => i < 4),
    rows: studies.map((study) => columns.map((name) => cell(study, name))),
  }, {
    json: () => JSON.stringify(studies, null, 2),
    records: studies,
    notes: [plural(studies.length, "study file")],
  });
}

async function show(store: StudyStore, flags: Flags): Promise<void> {
  const short = listShort(store), counts = store.count();
  if (flags.plot !== undefined) {
    const { model, text } = store.conditions, title = `${store.facts.name}: ${model} on ${text}`;
    await writeWhole(
      flags.plot,
      renderPage({ title, sections: [plotStudy(short)], plotly: await readPlotly() }),
    );
  }
  const states = Object.entries(counts).filter(([, n]) => n > 0).map(([state, n]) => `${n} ${state}`);
  await print(flags, tabulateShort(short), {
    json: () =>
      JSON.stringify({ ...store.facts, counts, workers: store.workers(), trials: short.trials }, null, 2),
    records: short.trials.map(({ options, ...trial }) => ({ ...trial, ...options })),
    notes: [`${states.join(", ") || "no trial"}; best ${describeBest(short)}. * on the Pareto front.`],
  });
}

async function best(store: StudyStore, flags: Flags): Promise<void> {
  const short = listShort(store), ranked = bestFirst(short);
  const chosen = flags.top === undefined
    ? ranked.filter(({ pareto }) => pareto)
    : ranked.slice(0, readInteger("top", flags.top, 1));
  const summary = summaryOf(store, store.records(chosen.map(({ number }) => number)));
  await print(flags, tabulateTrials(summary), {
    json: () => JSON.stringify(summary, null, 2),
    records: summary.trials,
    notes: [`${plural(chosen.length, "trial")} of ${short.trials.length}.`],
  });
}

async function diff(a: StudyStore, b: StudyStore, flags: Flags): Promise<void> {
  const [first, second] = [a, b].map((store) => ({
    kind: "sweep" as const,
    name: store.facts.name,
    data: summaryOf(store),
  })) as [never, never];
  const found = checkFlags(() => diffRuns(first, second));
  await print(flags, tabulateDifference(found), {
    json: () => JSON.stringify(recordDifference(found), null, 2),
    records: listDifferences(found),
    notes: [],
  });
}

/** Deletes a study's file. @throws {UsageError} Without `--yes`, or while a worker uses the study. */
function remove(path: string, flags: Flags): void {
  using store = openNamed(path);
  if (store.owners().some((owner) => !hasEnded(owner))) {
    throw new UsageError(`Cannot delete study "${path}": a worker is at it (end it first)`);
  }
  if (!flags.yes) {
    const results = plural(listRecords(store).length, "result");
    throw new UsageError(`Cannot delete study "${path}" with ${results}: expected --yes`);
  }
  removeStudy(store);
}

const expectOut = (flags: Flags) => {
  if (flags.out) return flags.out;
  throw new UsageError("Cannot write: expected --out FILE (see --help)");
};

/** Least and most words of each command. */
const WORDS = {
  list: [0, 1],
  show: [1, 1],
  best: [1, 1],
  diff: [2, 2],
  export: [1, 1],
  import: [1, 1],
  serve: [1, 1],
  repair: [1, 1],
  merge: [1, Infinity],
  delete: [1, 1],
} as const;

/** Runs the task. @returns The exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const { _: [command, ...words], ...rest } = parseOwnFlags(args, TEXTS, SWITCHES, true),
    flags = rest as Flags;
  if (command === undefined || !Object.hasOwn(WORDS, command)) {
    const names = Object.keys(WORDS).join(", ");
    throw new UsageError(
      `Cannot run deno task study ${command ?? ""}: expected one of ${names} (see --help)`,
    );
  }
  await takeTaskFile(flags["task-file"]);
  const name = command as keyof typeof WORDS, [least, most] = WORDS[name];
  if (words.length < least || words.length > most) {
    throw new UsageError(
      `Cannot run deno task study ${name} with ${plural(words.length, "name")} (see --help)`,
    );
  }
  if (name === "list") await list(words, flags);
  else if (name === "delete") remove(words[0]!, flags);
  else if (name === "import") {
    const path = expectOut(flags), records = await readRecords(words[0]!);
    writeLine(Deno.stdout, `${plural(await importTrials(path, records), "new trial")} in ${path}`);
  } else if (name === "repair") {
    writeLine(Deno.stdout, await repairStudy(pathOfStudy(words[0]!), expectOut(flags)));
  } else {
    using stack = new DisposableStack();
    const stores = words.map((word) => stack.use(openNamed(word))), [store] = stores as [StudyStore];
    if (name !== "export") stores.forEach(expectSweep);
    if (name === "show") await show(store, flags);
    else if (name === "best") await best(store, flags);
    else if (name === "serve") {
      const hostname = flags.host ?? LOCALHOST, port = readInteger("port", flags.port ?? "8081", 0, 65535);
      return await serveStudy(store, {
        hostname,
        port,
        token: await readToken(flags["token-file"], hostname),
      });
    } else if (name === "diff") await diff(store, stores[1]!, flags);
    else if (name === "export") {
      const path = expectOut(flags), count = await exportStudy(store, path, flags.as);
      writeLine(
        Deno.stdout,
        `${plural(count, store.get("command") === undefined ? "trial" : "result")} in ${path}`,
      );
    } else {
      const path = expectOut(flags);
      writeLine(Deno.stdout, `${plural(mergeStudies(stores, path), "new trial")} in ${path}`);
    }
  }
  return EXIT.ok;
}

if (import.meta.main) await runTask(main, USAGE);
