/**
 * `deno task sweep`: measures perplexity against skipped queries and evicted keys, over options of the filter.
 *
 * Runs a grid of options on one model and text, and writes `study.db` (each trial as it ends), `summary.json` and
 * `report.html` to a folder. See `deno task sweep --help`.
 */
import { UsageError } from "../../lib/errors.ts";
import { formatMetric, readMetric } from "../../lib/eval/metrics.ts";
import type { Task, TaskTypes } from "../../lib/eval/task.ts";
import { effectiveKey, recordOptions, type ResolvedOptions } from "../../lib/methods/bind/options.ts";
import { OPTIONS } from "../../lib/methods/bind/option_table.ts";
import { readPlotly } from "../../lib/plot/figure/plotly.ts";
import { describeSearch } from "../../lib/plot/reports/search_notes.ts";
import { renderSweepReport } from "../../lib/plot/reports/sweep.ts";
import { foldSeeds, tabulateTrials } from "../../lib/plot/reports/trial_table.ts";
import { collectVerdicts, describeVerdicts } from "../../lib/plot/reports/verdict.ts";
import { methodName, MISSED_NOTE, nameTrials, requestedRatios } from "../../lib/plot/trials/trial_label.ts";
import { plural } from "../../lib/plural.ts";
import { SAMPLERS } from "../../lib/search/sampler.ts";
import { retainedOf } from "../../lib/sweep/budgets.ts";
import { findBudget, withRatio } from "../../lib/sweep/compare/match.ts";
import { bindAt } from "../../lib/sweep/compare/method_runs.ts";
import { binderOf, describeStudy, openStudy, type Study, sweepTrials } from "../../lib/sweep/study.ts";
import { missesRequested } from "../../lib/sweep/summary.ts";
import type { SweepSummary } from "../../lib/sweep/trial.ts";
import type { SweepProgress } from "../../lib/sweep/trials/runner.ts";
import { Search } from "../../lib/sweep/trials/search.ts";
import { StudyTrials } from "../../lib/sweep/trials/trial_source.ts";
import { RUNS_MODEL } from "./cli/command.ts";
import { BUDGET, readBudget } from "./cli/flags/budget.ts";
import { integer, optional, pick, rarely, under } from "./cli/flags/flag.ts";
import { MEMORY, QUEUE, RUN, STUDY, TABLE, TEXT } from "./cli/flags/flags.ts";
import { ITEMS } from "./cli/flags/items.ts";
import { readSweepMethods } from "./cli/flags/method.ts";
import { METHOD } from "./cli/flags/method_flags.ts";
import { withRule } from "./cli/flags/rule.ts";
import { expectNoParts, readRace, readSearch, readTime, SEARCH, shardOf } from "./cli/flags/search.ts";
import { openLive, readLivePort } from "./pages/live.ts";
import { readBackend } from "./cli/machine/backend.ts";
import { mappedFiles } from "./cli/machine/mapped.ts";
import { roomForWeights } from "./cli/machine/model.ts";
import { tryMethod } from "./cli/machine/retrieval.ts";
import { formatDuration, type Progress } from "./cli/output/progress.ts";
import {
  fitJobs,
  jobsFor,
  neededPermissions,
  readJobs,
  startWorkers,
  tellSilence,
  threadsOf,
} from "./cli/run/jobs.ts";
import { describePlan, readPlan, readTaskName, startStudy } from "./cli/run/study.ts";
import { beginTrials, expectStudy, hasEnded, ownerName } from "./cli/run/study_store.ts";
import { checkFlags, runCommand } from "./cli/task.ts";
import { loadConnection, loadSubmit, readQueue } from "./queue/load.ts";
import type { Asked } from "./run.ts";
import { type Running, studyCommand } from "./run_study.ts";

/** Columns that a narrow terminal does without, the first one first. */
export const SPARE_COLUMNS =
  "time,FLOPs,top-1,KL,proj FLOPs,params,pairs,KV evicted,95%,KV cache,seed,attn FLOPs".split(",");

/** What a process takes at least, Deno's code aside. */
const LEAST_JOB_BYTES = 64e6;

async function readFlags({ values }: Asked) {
  const request = readBackend(values);
  const jobs = readJobs(values), search = await readSearch(values), race = readRace(values);
  const adapts = search !== undefined && SAMPLERS[search.sampler].adapts;
  const budgeted = readBudget(values);
  if (budgeted !== undefined && search !== undefined) {
    throw new UsageError("Cannot use --budget with a search: expected a grid, whose ratios it replaces");
  }
  expectNoParts(values, { "sampler tpe": adapts, race: race !== undefined });
  return {
    ...{
      request,
      jobs,
      search,
      race,
      adapts,
      budgeted,
      budgetMs: readTime(values),
      task: readTaskName(values),
    },
    methods: search === undefined ? shardOf(await readSweepMethods(values), values) : [],
    livePort: readLivePort(values),
    address: await readQueue(values),
  };
}

type Flags = Awaited<ReturnType<typeof readFlags>>;

/** The plan of a sweep and its number of processes: by default one, if trials depend on others or run elsewhere. */
async function plan(flags: Flags, { values, progress, named, held }: Asked) {
  const { request, search, adapts, race, address, livePort } = flags;
  const plan = await readPlan(values, flags.methods, progress, named), { config, weights } = plan.model;
  const searching = search && new Search(search, (method) => void tryMethod(config, method));
  const listed = searching === undefined ? flags.methods : adapts ? [] : shardOf(searching.list(), values);
  const sharesOut = request.choice === "cpu" && request.threads === undefined && !adapts &&
    race === undefined && address === undefined;
  const wanted = flags.jobs ?? (sharesOut ? jobsFor(listed.length, weights.bytes) : 1);
  const threads = request.threads ?? threadsOf(wanted);
  const started = await startStudy(plan, { ...request, threads }, listed, progress, expectStudy(named));
  const methods = await fitMethods(flags, started.study, listed);
  const shared = mappedFiles().reduce((sum, { size }) => sum + size, 0);
  const own = Math.max(LEAST_JOB_BYTES, Deno.memoryUsage().rss - shared);
  const jobs = request.choice === "cuda"
    ? wanted
    : fitJobs(wanted, flags.jobs !== undefined, own, roomForWeights());
  const count = adapts ? `up to ${plural(search!.trials, "trial")}` : plural(methods.length, "trial");
  const line = `${count} on ${started.what}`;
  const live = livePort === undefined ? undefined : held.use(await openLive(livePort));
  // An unreachable queue leaves no folder.
  const connections = address && held.use(await (await loadConnection()).Connections.open(address));
  return {
    ...flags,
    ...started,
    text: plan.text,
    searching,
    methods,
    jobs,
    threads,
    line,
    live,
    connections,
  };
}

type Plan = Awaited<ReturnType<typeof plan>>;

/** The methods of a grid at the ratio of a budget: seeds at that of the first, and ratios that were apart once. */
async function fitMethods(
  { budgeted }: Flags,
  study: Study<TaskTypes>,
  methods: readonly ResolvedOptions[],
): Promise<readonly ResolvedOptions[]> {
  if (budgeted === undefined) return methods;
  const evaluation = openStudy(study), bind = binderOf(study), fitted: ResolvedOptions[] = [];
  const spend = async (options: ResolvedOptions) => {
    const filter = bindAt(() => bind(options));
    return filter && retainedOf(await evaluation.run(filter));
  };
  // The ratio of both sides stays in proportion, so one that filters both differs by it.
  const groups = Map.groupBy(methods, (method) => effectiveKey({ ...withRatio(method, 0.5), seed: 0n }));
  for (const group of groups.values()) {
    const [first] = group as [ResolvedOptions], name = methodName(recordOptions(first));
    const { ratio } = await findBudget(name, first, budgeted, spend);
    const own = group.map((method) => withRatio(method, ratio));
    fitted.push(...new Map(own.map((method) => [effectiveKey(method), method])).values());
  }
  return fitted;
}

function tellProgress(progress: Progress, { headline }: Task): (state: SweepProgress) => void {
  return ({ done, total, fraction, trial }) => {
    const count = `${done}/${total} trials`;
    if (trial === undefined) {
      progress.bar(fraction, count);
      return;
    }
    const value = formatMetric(headline, readMetric(trial, headline.name));
    const missed = missesRequested(trial)
      ? `, but ${(trial.achievedRatio ?? 0).toFixed(3)} of queries skipped !`
      : "";
    const say = (name: string) => `${methodName(trial)} ${requestedRatios(trial)}: ${name} ${value}${missed}`;
    const result = say(headline.name);
    progress.bar(fraction, `${count}  ${say(headline.label)}`);
    const left = fraction < 1 ? `, ${progress.eta(fraction)}` : "";
    if (!progress.isTerminal) progress.line(`[${done}/${total}] ${result}${left}`);
  };
}

/** Runs the trials, here and with workers, or by a queue. */
async function work(plan: Plan, { store, progress, interrupt, folder }: Running) {
  const { study, methods, searching, adapts, race, connections, live, jobs, threads } = plan;
  live?.follow(store.path);
  const digests = beginTrials(store, methods, adapts ? plan.search : undefined, race?.request);
  if (plan.search !== undefined && !adapts) store.set("listed", plan.search);
  if (store.get("environment") === undefined) store.set("environment", await describeStudy(study));
  study.model.tokenizer.rest();
  progress.start();
  const source = new StudyTrials(store, {
    ...{ owner: ownerName(), isDead: hasEnded, budgetMs: plan.budgetMs },
    ...(adapts ? { search: searching } : { only: digests }),
  });
  await using _workers = await startWorkers(store, jobs - 1, {
    threads,
    isOver: () => source.isOver(),
    progress,
  });
  const submit = connections && await loadSubmit(), { signal } = interrupt;
  const kind = submit?.jobsOfSweep(store, study.text);
  await using queued = await submit?.submitTrials(store, source, kind!, connections!, progress, signal);
  const summary = await sweepTrials(study, queued?.source ?? source, {
    ...(race && { race }),
    ...(searching && { search: searching }),
    signal,
    onSilence: tellSilence(progress),
    onProgress: tellProgress(progress, study.task),
  });
  const { failed } = store.count();
  return { summary, folder, failed, ranOut: source.ranOut() };
}

/** More trials of a search than this have a table of the best alone. */
const MOST_ROWS = 20;

/** A summary of a search whose table would be long, without the trials that are neither on the front nor the best at their ratio. */
function shortSearch(summary: SweepSummary): SweepSummary {
  const { search, trials, stopped = [] } = summary;
  if (search === undefined || trials.length + stopped.length <= MOST_ROWS) return summary;
  const best = search.winners?.map(({ trial }) => trial) ?? [];
  return {
    ...summary,
    stopped: [],
    trials: trials.filter(({ pareto, trial }) => pareto || best.includes(trial)),
  };
}

type Result = Awaited<ReturnType<typeof work>>;

function describeResult({ summary, folder, failed, ranOut }: Result, { study, budgetMs }: Plan): string[] {
  const { headline } = study.task, { chance } = summary.dense;
  const dense = formatMetric(headline, readMetric(summary.dense, headline.name));
  const guessing = chance === undefined ? "" : ` (chance ${formatMetric(headline, chance)})`;
  return [
    ...(failed > 0 ? [`${plural(failed, "trial")} failed: deno task study show ${folder}`] : []),
    ...(summary.trials.some(missesRequested) ? [`${MISSED_NOTE}.`] : []),
    `${describePlan(study)}, dense ${headline.name} ${dense}${guessing}.`,
    ...describeSearch(summary),
    ...(shortSearch(summary) === summary
      ? []
      : ["The table has the best trials alone: all are in the report, and --csv FILE lists them."]),
    ...(ranOut
      ? [`The time of ${formatDuration(budgetMs!)} was over before all trials: --resume ${folder} goes on.`]
      : []),
  ];
}

export const command = studyCommand({
  name: "sweep",
  summary: "Runs a grid of filter options, or a search for the best ones.",
  usage: "[flags]",
  about: `A table is on stdout, and study.db, summary.json and report.html are in --out. By default 32 trials
run, the presets and main rules with their random baselines; --full adds rules, ratios and seeds. Ctrl-C keeps
finished trials; --resume goes on. --space searches ranges, --jobs and --queue distribute trials
(sweep-and-search.md and clusters.md of docs/guides).`,
  examples: [
    "--method variance,learned --prune-ratio 0.3,0.5 --seed 0,1",
    "--space docs/spaces/tiny.json --trials 20 --race --tokens 2048",
    "--task piqa --data DIR --filter-from 25%",
  ],
  flags: {
    ...TEXT,
    ...rarely(pick(ITEMS, "data", "items", "filter-from", "length", "data-seed")),
    ...pick(ITEMS, "task", "task-file"),
    ...SEARCH,
    ...RUN,
    ...METHOD,
    ...BUDGET,
    ...MEMORY,
    jobs: integer(
      "processes for the trials (one per core, each with at least 8 trials, for a model of up to 32 MB; else 1)",
    ),
    ...QUEUE,
    ...STUDY,
    ...under("Results", {
      live: optional(
        "[PORT]",
        "show the report in a browser of this machine while it grows, at 127.0.0.1 (any free port)",
      ),
    }),
    ...TABLE,
  },
  lists: true,
  permissions: `${RUNS_MODEL},hostname`,
  v8: "--max-semi-space-size=4",
  prepare: withRule,
  read: readFlags,
  columns: ({ task: environment }) => [
    ...checkFlags(() => tabulateTrials({ trials: [], dense: {}, environment })).columns,
    ...Object.keys(OPTIONS),
  ],
  plan,
  work,
  kept: (store) => ({ finished: store.count().complete, noun: "trial" }),
  file: "summary.json",
  grows: true,
  needs: (plan) => neededPermissions(plan),
  findFailure: ({ summary: { trials, stopped = [] }, failed, folder }) =>
    failed > 0 && trials.length + stopped.length === 0
      ? `Cannot show a result: all ${plural(failed, "trial")} failed (deno task study show ${folder})`
      : undefined,
  json: ({ summary }) => JSON.stringify(summary, null, 2),
  pages: async ({ summary }) => ({
    "report.html": renderSweepReport(summary, { plotly: await readPlotly() }),
  }),
  ended: async ({ live }, place) =>
    await live?.end(
      place === undefined ? "Finished, but the results could not be written." : `Finished. ${place}`,
    ),
  table: (result, plan, columns) => ({
    // Where seeds were asked for, each has a row.
    table: tabulateTrials(
      shortSearch(columns?.includes("seed") ? result.summary : foldSeeds(result.summary)),
      columns,
    ),
    spare: SPARE_COLUMNS,
    records: nameTrials([...result.summary.trials, ...result.summary.stopped ?? []]),
    verdict: describeVerdicts(collectVerdicts(result.summary), result.summary),
    notes: describeResult(result, plan),
  }),
});

if (import.meta.main) await runCommand(command);
