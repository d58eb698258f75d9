/** `deno task study`: lists, shows, joins and exports studies on disk. See `deno task study --help`. */
import { UsageError } from "../../lib/errors.ts";
import { renderPage } from "../../lib/plot/figure/page.ts";
import { readPlotly } from "../../lib/plot/figure/plotly.ts";
import { listDifferences, recordDifference, tabulateDifference } from "../../lib/plot/reports/difference.ts";
import { tabulateTrials } from "../../lib/plot/reports/trial_table.ts";
import { plural } from "../../lib/plural.ts";
import { diffRuns } from "../../lib/sweep/compare/difference.ts";
import { StudyStore } from "../../lib/sweep/trials/store.ts";
import { isFolder, writeWhole } from "./cli/files.ts";
import { integer, onOff, text, under } from "./cli/flags/flag.ts";
import { SERVER, TABLE, TASK_FILE } from "./cli/flags/flags.ts";
import { type FlagValues, textOf } from "./cli/flags/parse.ts";
import { readCount } from "./cli/flags/text.ts";
import { RESULTS } from "./cli/run/resume.ts";
import { expectSweep, hasEnded, removeStudy } from "./cli/run/study_store.ts";
import { type PlainTable, printTable, readTable, type TableContext } from "./cli/output/table.ts";
import { checkFlags, giveUp, runCommand, writeLine } from "./cli/task.ts";
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
import { type Asked, plainCommand } from "./run.ts";
import { withTask } from "./task/file.ts";

/** Default port of a page of a study. */
const PORT = 8081;

async function print(values: FlagValues, table: PlainTable, context: TableContext): Promise<void> {
  await printTable(table, readTable(values, table.columns), context);
}

function* findStudies(folder: string, depth = 4): Generator<string> {
  const entries = [...Deno.readDirSync(folder)].sort((a, b) => a.name < b.name ? -1 : 1);
  for (const { name, isDirectory } of entries) {
    if (isDirectory && depth > 0 && !name.startsWith(".")) yield* findStudies(`${folder}/${name}`, depth - 1);
    else if (name.endsWith(".db")) yield `${folder}/${name}`;
  }
}

async function list([folder = RESULTS]: readonly string[], values: FlagValues): Promise<void> {
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
  await print(values, {
    columns,
    left: columns.map((_, i) => i < 4),
    rows: studies.map((study) => columns.map((name) => cell(study, name))),
  }, {
    json: () => JSON.stringify(studies, null, 2),
    records: studies,
    notes: [plural(studies.length, "study file")],
  });
}

async function show([store]: Stores, values: FlagValues): Promise<void> {
  const short = listShort(store), counts = store.count(), plot = textOf(values, "plot");
  if (plot !== undefined) {
    const { model, text } = store.conditions, title = `${store.facts.name}: ${model} on ${text}`;
    await writeWhole(
      plot,
      renderPage({ title, sections: [plotStudy(short)], plotly: await readPlotly() }),
    );
  }
  const states = Object.entries(counts).filter(([, n]) => n > 0).map(([state, n]) => `${n} ${state}`);
  await print(values, tabulateShort(short), {
    json: () =>
      JSON.stringify({ ...store.facts, counts, workers: store.workers(), trials: short.trials }, null, 2),
    records: short.trials.map(({ options, ...trial }) => ({ ...trial, ...options })),
    notes: [`${states.join(", ") || "no trial"}; best ${describeBest(short)}. * on the Pareto front.`],
  });
}

async function best([store]: Stores, values: FlagValues): Promise<void> {
  const short = listShort(store), ranked = bestFirst(short);
  const top = readCount(values, "top", 1);
  const chosen = top === undefined ? ranked.filter(({ pareto }) => pareto) : ranked.slice(0, top);
  const summary = summaryOf(store, store.records(chosen.map(({ number }) => number)));
  await print(values, tabulateTrials(summary), {
    json: () => JSON.stringify(summary, null, 2),
    records: summary.trials,
    notes: [`${plural(chosen.length, "trial")} of ${short.trials.length}.`],
  });
}

async function diff(stores: Stores, values: FlagValues): Promise<void> {
  const [first, second] = stores.map((store) => ({
    kind: "sweep" as const,
    name: store.facts.name,
    data: summaryOf(store),
  })) as [never, never];
  const found = checkFlags(() => diffRuns(first, second));
  await print(values, tabulateDifference(found), {
    json: () => JSON.stringify(recordDifference(found), null, 2),
    records: listDifferences(found),
    notes: [],
  });
}

/** Deletes a study's file. @throws {UsageError} Without `--yes`, or while a worker uses the study. */
function remove(path: string, values: FlagValues): void {
  using store = openNamed(path);
  if (store.owners().some((owner) => !hasEnded(owner))) {
    throw new UsageError(`Cannot delete study "${path}": a worker is at it (end it first)`);
  }
  if (!values.has("yes")) {
    const results = plural(listRecords(store).length, "result");
    throw new UsageError(`Cannot delete study "${path}" with ${results}: expected --yes`);
  }
  removeStudy(store);
}

function expectOut(values: FlagValues): string {
  const out = textOf(values, "out");
  if (out !== undefined) return out;
  throw new UsageError("Cannot write: expected --out FILE (see --help)");
}

const tell = (line: string) => writeLine(Deno.stdout, line);

async function exportTo([store]: Stores, values: FlagValues): Promise<void> {
  const path = expectOut(values), count = await exportStudy(store, path, textOf(values, "as"));
  tell(`${plural(count, store.get("command") === undefined ? "trial" : "result")} in ${path}`);
}

async function serve([store]: Stores, values: FlagValues): Promise<number> {
  const hostname = textOf(values, "host") ?? LOCALHOST, port = readCount(values, "port", 0, 65535) ?? PORT;
  const token = await readToken(textOf(values, "token-file"), hostname);
  return await serveStudy(store, { hostname, port, token });
}

/** Studies that are open; at least one. */
type Stores = readonly [StudyStore, ...StudyStore[]];

/** What a first word asks for. */
interface Action {
  readonly help: string;
  /** Least and most names behind it. */
  readonly names: readonly [least: number, most: number];
  /** @returns The exit code; 0 where it gives none. */
  run(names: readonly string[], values: FlagValues): number | void | Promise<number | void>;
}

/** An action on the studies that names lead to. @param check What is asked of each; default: that it is of trials. */
function onStudies(
  help: string,
  names: Action["names"],
  run: (stores: Stores, values: FlagValues) => number | void | Promise<number | void>,
  check: (store: StudyStore) => void = expectSweep,
): Action {
  return {
    ...{ help, names },
    async run(paths, values) {
      using stack = new DisposableStack();
      const stores = paths.map((path) => stack.use(openNamed(path)));
      stores.forEach(check);
      return await run(stores as unknown as Stores, values);
    },
  };
}

const ACTIONS: { readonly [word: string]: Action } = {
  list: { help: `[DIR]: the studies below a folder (${RESULTS})`, names: [0, 1], run: list },
  show: onStudies("STUDY: its trials; --plot draws them all on a page", [1, 1], show),
  best: onStudies("STUDY: those on the Pareto front, with all that was measured", [1, 1], best),
  diff: onStudies("A B: two studies side by side", [2, 2], diff),
  export: onStudies(
    `STUDY --out F: its results as ${KINDS.join(", ")}, by the file's name`,
    [1, 1],
    exportTo,
    () => {},
  ),
  import: {
    help: "FILE --out S: trials of a JSONL file, into a study",
    names: [1, 1],
    async run([file], values) {
      const path = expectOut(values), records = await readRecords(file!);
      tell(`${plural(await importTrials(path, records), "new trial")} in ${path}`);
    },
  },
  merge: onStudies(
    "A B… --out S: studies of the same conditions, into one",
    [1, Infinity],
    (stores, values) => {
      const path = expectOut(values);
      tell(`${plural(mergeStudies(stores, path), "new trial")} in ${path}`);
    },
  ),
  repair: {
    help: "STUDY --out S: the sound parts of a damaged or older study, in a new one of this version",
    names: [1, 1],
    run: async ([path], values) => tell(await repairStudy(pathOfStudy(path!), expectOut(values))),
  },
  delete: {
    help: "STUDY --yes: the study's file; the rest of its folder stays",
    names: [1, 1],
    run: ([path], values) => remove(path!, values),
  },
  serve: onStudies("STUDY: a page that renews itself while workers are at it", [1, 1], serve),
};

/** The action of the first word. @throws {UsageError} If there are too few or too many names behind it. */
function readAction(
  { words: [word, ...names] }: Asked,
): { readonly action: Action; readonly names: string[] } {
  const action = ACTIONS[word!]!, [least, most] = action.names;
  if (names.length >= least && names.length <= most) return { action, names };
  throw new UsageError(
    `Cannot run study ${word} with ${plural(names.length, "name")} (see --help)`,
  );
}

export const command = plainCommand({
  name: "study",
  summary: "Lists, shows, joins and exports studies: the study.db files in folders of results.",
  usage: "COMMAND [flags]",
  about: `A command takes the file or its folder. A study names files that a worker runs, a rule or a task of
your own: trust it like code.`,
  examples: [
    "list",
    "show results/mine --plot trials.html",
    "export results/mine --out mine.parquet",
    "export results/mine --out mine.db --as optuna",
  ],
  words: {
    least: 1,
    most: Infinity,
    choices: Object.entries(ACTIONS).map(([name, { help }]) => ({ name, help })),
  },
  flags: {
    ...TASK_FILE,
    ...SERVER,
    port: { ...SERVER.port, help: `port to listen on (${PORT}); 0: a free one` },
    ...under("Results", {
      top: integer("rows of best (all on the front)"),
      plot: text("FILE", "write a page with all trials there"),
      out: text("FILE", "where a command writes"),
      as: text(KINDS.join("|"), "kind of the export (by the file's name)"),
      yes: onOff("really delete"),
    }),
    ...TABLE,
  },
  permissions: "-RWEN --allow-run -S=hostname",
  prepare: withTask,
  read: readAction,
  async work({ action, names }, { values }) {
    if (action !== ACTIONS.serve) await giveUp("net");
    if (action !== ACTIONS.delete) await giveUp("run"); // without it no process can be asked whether it runs
    return await action.run(names, values);
  },
});

if (import.meta.main) await runCommand(command);
