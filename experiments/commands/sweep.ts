/**
 * `deno task sweep`: how the filter's options trade perplexity for skipped queries and dropped keys.
 *
 * Runs a grid of options on one model and text, and writes `study.db` (each trial as it ends), `summary.json` and
 * `report.html` to a folder. See `deno task sweep --help`.
 */
import { UsageError } from "../../lib/errors.ts";
import { type EvaluationTask, formatMetric, readMetric } from "../../lib/eval/mod.ts";
import {
  askedShares,
  describeSearch,
  methodName,
  MISSED_NOTE,
  plural,
  readPlotly,
  renderSweepReport,
  tabulateTrials,
} from "../../lib/plot/mod.ts";
import { createPruner, OPTIONS } from "../../lib/methods/mod.ts";
import { SAMPLERS } from "../../lib/search/mod.ts";
import {
  describeStudy,
  missesAsked,
  Search,
  storedTrials,
  type SweepProgress,
  sweepStudy,
  withBudget,
} from "../../lib/sweep/mod.ts";
import { readBackend } from "./cli/backend.ts";
import { exists, writeWhole } from "./cli/files.ts";
import { describeTask } from "./cli/flags.ts";
import { readSweepGrids, readTrials } from "./cli/method.ts";
import { Interrupt } from "./cli/interrupt.ts";
import { jobsFor, readJobs, startWorkers, threadsOf } from "./cli/jobs.ts";
import { type FlagValues, parseFlags } from "./cli/parse.ts";
import { formatDuration, Progress } from "./cli/progress.ts";
import { withRule } from "./cli/rule.ts";
import { claimFolder, endEarly, readDestination, saveResults } from "./cli/resume.ts";
import { readBudget, readRace, readSearch } from "./cli/search.ts";
import { countTokens, describePlan, readPlan, readTaskName, startStudy, STUDY_FILE } from "./cli/study.ts";
import { expectStudy, hasEnded, keepFlags, OLD_LOG, openStudyStore, ownerName } from "./cli/study_store.ts";
import { printTable, readTable } from "./cli/table.ts";
import { readCount } from "./cli/text.ts";
import { checkFlags, EXIT, runTask } from "./cli/task.ts";
import { openLive, readLivePort } from "./pages/live.ts";
import { loadConnection, loadSubmit } from "./queue/load.ts";

export const USAGE = describeTask(
  "sweep",
  `deno task sweep [flags]

Runs a grid of filter options: a table on stdout, and study.db, summary.json and report.html in --out. By default
30 trials run, the presets and main rules beside their random baselines; --full adds rules, ratios and seeds. Ctrl-C keeps finished trials; --resume goes on. --space searches ranges (docs/search.md); --jobs and
--queue share trials out (docs/clusters.md).`,
  [
    "--fusion variance,learned --prune-ratio 0.3,0.5 --seed 0,1",
    "--space docs/spaces/tiny.json --trials 20 --race --tokens 2048",
    "--model smollm2-135m --text FILE --tokens 8192 --live",
  ],
);

/** Columns that a narrow terminal does without, the first one first. */
export const SPARE_COLUMNS = [
  "time",
  "FLOPs",
  "se",
  "top-1",
  "KL",
  "proj FLOPs",
  "params",
  "pairs",
  "KV dropped",
  "KV held",
  "attn FLOPs",
];

function tellProgress(progress: Progress, { headline }: EvaluationTask): (state: SweepProgress) => void {
  return ({ done, total, fraction, trial }) => {
    const count = `${done}/${total} trials`;
    if (trial === undefined) {
      progress.bar(fraction, count);
      return;
    }
    const value = formatMetric(headline, readMetric(trial, headline.name));
    const missed = missesAsked(trial)
      ? `, but ${(trial.achievedRatio ?? 0).toFixed(3)} of queries skipped !`
      : "";
    const say = (name: string) => `${methodName(trial)} ${askedShares(trial)}: ${name} ${value}${missed}`;
    const result = say(headline.name);
    progress.bar(fraction, `${count}  ${say(headline.label)}`);
    const left = fraction < 1 ? `, ${progress.eta(fraction)}` : "";
    if (!progress.isTerminal) progress.line(`[${done}/${total}] ${result}${left}`);
  };
}

/** The trials of one part of N: every Nth from the Ith on, which is the same wherever it is asked. @throws {UsageError} If there is no such part. */
function shardOf<T>(trials: readonly T[], values: FlagValues): readonly T[] {
  const text = values.get("shard")?.[0] as string | undefined;
  if (text === undefined) return trials;
  const [part, parts] = text.match(/^([1-9]\d*)\/([1-9]\d*)$/)?.slice(1).map(Number) ?? [];
  if (part === undefined || part > parts!) {
    throw new UsageError(`Cannot use --shard ${text}: expected I/N with I from 1 to N`);
  }
  if (parts! > trials.length) {
    throw new UsageError(
      `Cannot use --shard ${text}: expected at most as many parts as trials, ${trials.length}`,
    );
  }
  return trials.filter((_, i) => i % parts! === part - 1);
}

/** Where trials are to be run, if not here. @throws {UsageError} If there is no such place. */
async function readQueue(values: FlagValues) {
  const url = values.get("queue")?.[0] as string | undefined;
  if (url === undefined) {
    const flag = ["queue-prefix", "patience"].find((name) => values.has(name));
    if (flag !== undefined) throw new UsageError(`Cannot use --${flag} without --queue`);
    return undefined;
  }
  if (values.has("jobs")) {
    throw new UsageError("Cannot use --jobs with --queue: start deno task worker --queue there");
  }
  const { readAddress } = await loadConnection();
  const patience = readCount(values, "patience", 1);
  return readAddress(url, values.get("queue-prefix")?.[0] as string | undefined, patience);
}

/** Refuses parts that know nothing of each other where each trial looks at the others. @throws {UsageError} Naming the flags. */
function expectNoParts(values: FlagValues, flags: { readonly [flag: string]: boolean }): void {
  const flag = Object.keys(flags).find((name) => flags[name]);
  if (flag === undefined || !values.has("shard")) return;
  throw new UsageError(
    `Cannot use --shard with --${flag}: each trial looks at those before it (--jobs and --queue share them out)`,
  );
}

/** Runs the task. @returns The exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const values = await withRule(parseFlags("sweep", args, true));
  const progress = new Progress(values.has("quiet") ? undefined : Deno.stderr);
  const askedJobs = readJobs(values), asRequested = readBackend(values);
  const search = await readSearch(values), race = readRace(values), budgetMs = readBudget(values);
  const adapts = search !== undefined && SAMPLERS[search.sampler].adapts;
  expectNoParts(values, { "sampler tpe": adapts, race: race !== undefined });
  const grids = search === undefined ? await readSweepGrids(values) : [];
  const asked = search === undefined ? shardOf(readTrials(values, grids), values) : [];
  const table = readTable(values, [
    ...checkFlags(() => tabulateTrials({ trials: [], dense: {}, environment: readTaskName(values) })).columns,
    ...Object.keys(OPTIONS),
  ]);
  const livePort = readLivePort(values), address = await readQueue(values);
  const destination = readDestination(values, { noun: "a sweep", work: STUDY_FILE, older: OLD_LOG });
  const { named } = destination, isOld = named !== undefined && !exists(`${named}/${STUDY_FILE}`);
  const known = { folder: named, file: isOld ? OLD_LOG : STUDY_FILE };
  const plan = await readPlan(values, asked, progress, known), { task, model: { config } } = plan;
  const searching = search &&
    new Search(search, (method) => void createPruner("token-filtering", config, method));
  const methods = searching === undefined ? asked : adapts ? [] : shardOf(await searching.list(), values);
  // Trials that look at others, or are run elsewhere, are shared out where that is asked for alone.
  const sharesOut = asRequested.choice === "cpu" && asRequested.threads === undefined && !adapts &&
    race === undefined && address === undefined;
  const jobs = askedJobs ?? (sharesOut ? jobsFor(methods.length, plan.model.weights.bytes) : 1);
  const threads = asRequested.threads ?? threadsOf(jobs), request = { ...asRequested, threads };
  const { backend, study, conditions, runDigest } = await startStudy(
    plan,
    request,
    methods,
    progress,
    (...now) => {
      if (named !== undefined) expectStudy(named, task, ...now);
    },
  );
  progress.line(
    `${adapts ? `up to ${plural(search.trials, "trial")}` : plural(methods.length, "trial")} on ${
      countTokens(plan)
    } tokens of ${plan.textName}; ${backend.description}`,
  );
  await using live = await openLive(livePort);
  using claimed = claimFolder(destination);
  const { folder } = claimed, flags = { ...keepFlags(values), backend: backend.name };
  const opened = await openStudyStore({
    ...{ folder, methods, task, conditions, runDigest, flags, race: race?.request },
    ...(adapts && { search }),
  });
  using store = opened.store;
  live.follow(store.path);
  if (store.get("environment") === undefined) store.set("environment", await describeStudy(study));
  plan.model.tokenizer.rest();
  progress.start();
  using interrupt = new Interrupt();
  const kept = () => {
    const finished = store.count().complete;
    return { task: "sweep", args, folder, work: STUDY_FILE, finished, noun: "trial" } as const;
  };
  try {
    const trials = storedTrials(store, {
      ...{ owner: ownerName(), isDead: hasEnded },
      ...(adapts ? { search: searching } : { only: opened.digests }),
    });
    const source = withBudget(trials, budgetMs ?? Infinity);
    await using _workers = await startWorkers(store, jobs - 1, { threads, isOver: source.isOver, progress });
    await using queued = address &&
      await (await loadSubmit()).submitTrials(store, source, plan.text, address, progress);
    const summary = await sweepStudy(study, grids, {
      source: queued?.source ?? source,
      ...(race && { race }),
      ...(searching && { search: searching }),
      signal: interrupt.signal,
      onProgress: tellProgress(progress, task),
    });
    const unsaved = await saveResults(async () => {
      await writeWhole(`${folder}/summary.json`, JSON.stringify(summary, null, 2) + "\n");
      await writeWhole(`${folder}/report.html`, renderSweepReport(summary, { plotly: await readPlotly() }));
    }, kept);
    progress.clear();
    await live.end(
      unsaved === undefined
        ? `Finished. Report: ${folder}/report.html`
        : "Finished, but the results could not be written.",
    );
    await printTable(tabulateTrials(summary, table.columns), table, {
      spare: SPARE_COLUMNS,
      json: () => JSON.stringify(summary, null, 2),
      records: [...summary.trials, ...summary.stopped ?? []],
      notes: [
        ...(store.count().failed > 0
          ? [`${plural(store.count().failed, "trial")} failed: deno task study show ${folder}`]
          : []),
        ...(summary.trials.some(missesAsked) ? [`${MISSED_NOTE}.`] : []),
        `${describePlan(plan)}, dense ${task.headline.name} ${
          formatMetric(task.headline, readMetric(summary.dense, task.headline.name))
        }.`,
        ...describeSearch(summary),
        ...(source.ranOut()
          ? [
            `The budget of ${
              formatDuration(budgetMs!)
            } was over before all trials: --resume ${folder} goes on.`,
          ]
          : []),
        ...(unsaved === undefined ? [`Report: ${folder}/report.html`] : []),
      ],
    });
    return unsaved?.() ?? EXIT.ok;
  } catch (error) {
    progress.clear();
    return endEarly(error, interrupt, kept);
  }
}

if (import.meta.main) await runTask(main, USAGE);
