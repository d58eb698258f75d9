/**
 * `deno task compare`: several methods at equal budgets on the same text or items, with intervals of their differences.
 *
 * Writes `compare.json` and `compare.html` to a folder, next to the study of all chunks and items. See
 * `deno task compare --help`.
 */
import { UsageError } from "../../lib/errors.ts";
import { filterFor } from "../../lib/eval/items/item_evaluation.ts";
import { findTask } from "../../lib/eval/tasks/mod.ts";
import { ownTasks } from "../../lib/eval/tasks/own_task.ts";
import { PRESETS } from "../../lib/methods/bind/option_table.ts";
import { readRecord } from "../../lib/methods/bind/options.ts";
import { ownRules } from "../../lib/methods/list.ts";
import { readPlotly } from "../../lib/plot/figure/plotly.ts";
import { describeIntervals } from "../../lib/plot/plots/methods/comparison.ts";
import { renderComparisonReport, tabulateComparison } from "../../lib/plot/reports/comparison.ts";
import { tabulatePaper } from "../../lib/plot/reports/paper_table.ts";
import { RESULT_COLUMNS, tabulateResults } from "../../lib/plot/reports/results.ts";
import { describeComparison } from "../../lib/plot/reports/verdict.ts";
import { MISSED_NOTE } from "../../lib/plot/trials/trial_label.ts";
import { plural } from "../../lib/plural.ts";
import {
  COMPARED_METHODS,
  comparedAtRatios,
  comparedMethods,
  type NamedMethod,
} from "../../lib/sweep/compare/compared_methods.ts";
import type { Comparison } from "../../lib/sweep/compare/comparison.ts";
import { type Match, MATCHES } from "../../lib/sweep/compare/match.ts";
import type { MethodGroup } from "../../lib/sweep/compare/measured.ts";
import type { ComparedChunk } from "../../lib/sweep/compare/method_runs.ts";
import { createFilter } from "../../lib/sweep/filter_from.ts";
import { compareStudy, encodeStudyItems } from "../../lib/sweep/study.ts";
import { RUNS_MODEL } from "./cli/command.ts";
import { BUDGET, readBudget } from "./cli/flags/budget.ts";
import { DECISIONS, readDecisionsFlag } from "./cli/flags/decisions.ts";
import { MEMORY, RUN, STUDY, TABLE, TEXT } from "./cli/flags/flags.ts";
import { ITEMS } from "./cli/flags/items.ts";
import { readOptions } from "./cli/flags/method.ts";
import { methodWithout } from "./cli/flags/method_flags.ts";
import { expectChoice, type FlagValues, textOf } from "./cli/flags/parse.ts";
import { withFiles } from "./cli/flags/rule.ts";
import { readCount } from "./cli/flags/text.ts";
import { readBackend } from "./cli/machine/backend.ts";
import type { Progress } from "./cli/output/progress.ts";
import { describePlan, readPlan, readTaskName, startStudy } from "./cli/run/study.ts";
import { expectStudy } from "./cli/run/study_store.ts";
import { checkFlags, runCommand } from "./cli/task.ts";
import { COMPARED, MATCH } from "./compare/flags.ts";
import { type ItemOutcome, runComparedItems } from "./compare/items.ts";
import {
  asksToFilter,
  planItems,
  readFilterFlag,
  type ReadTask,
  readTasks,
  refuseUnreached,
  type Unreached,
} from "./items/plan.ts";
import { openItems } from "./items/run.ts";
import type { Asked } from "./run.ts";
import { type Running, studyCommand } from "./run_study.ts";
import { hasItems as isOfItems } from "./task/data.ts";

/** Columns that are left out in a narrow terminal, the first one first. */
export const SPARE_COLUMNS =
  ("labels, gap closed, to protected, to random, loss, proj FLOPs, params, attn FLOPs, KV evicted, " +
    "Q skipped, ratio, vs best other, pairs, loss increase").split(", ");

/** The same of the table of a comparison with items. */
const SPARE_RESULT_COLUMNS =
  "proj FLOPs, params, detectable, own, missed keys, units, vs best other, change, vs dense".split(", ");

/** Most seeds of random: each is a run of its own. */
const MAX_SEEDS = 10_000;

/** The methods that run by default, those that the options define. The excluded ones are reported. */
function possibleMethods(base: Parameters<typeof comparedMethods>[1], progress: Progress): readonly string[] {
  const own = ownRules().map(({ rule }) => rule.name), wrong = new Map<string, string>();
  const names = [...COMPARED_METHODS, ...own].filter((name) => {
    try {
      checkFlags(() => comparedMethods([name], base, 1));
      return true;
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      wrong.set(name, error.message);
      return false;
    }
  });
  if (names.length === 0) throw new UsageError([...wrong.values()][0]);
  for (const [name, why] of wrong) progress.line(`Left out ${name}: ${why}`);
  return names;
}

export async function readMethods(
  { values, progress }: Pick<Asked, "values" | "progress">,
): Promise<NamedMethod[]> {
  const seeds = readCount(values, "seeds", 1, MAX_SEEDS) ?? 5, ratios = readRatios(values);
  const given = textOf(values, "methods"), { warmup, recent } = PRESETS.keys;
  const base = { ...given === undefined ? { warmup, recent } : {}, ...await readOptions(values) };
  return checkFlags(() => {
    const names = given?.split(",").map((name) => name.trim()) ?? possibleMethods(base, progress);
    return ratios === undefined
      ? comparedMethods(names, base, seeds)
      : comparedAtRatios(names, base, seeds, ratios);
  });
}

/** Reads `--ratios`. @throws {UsageError} If one is no ratio, or one side has a ratio of its own. */
function readRatios(values: FlagValues): number[] | undefined {
  const text = textOf(values, "ratios");
  if (text === undefined) return undefined;
  const own = ["prune-ratio", "kv-ratio", "skip-ratios"].find((name) => values.has(name));
  if (own !== undefined) throw new UsageError(`Cannot use --ratios with --${own}: expected one of them`);
  const ratios = text.split(",").map((part) => /^0?\.\d+$/.test(part.trim()) ? Number(part) : NaN);
  if (ratios.every((ratio) => ratio > 0)) return ratios;
  throw new UsageError(`Cannot use --ratios ${text}: expected ratios between 0 and 1, as in 0.3,0.5`);
}

/** Reads `--match`. */
export function readMatch(values: FlagValues): Match | undefined {
  const given = textOf(values, "match");
  if (given === undefined) return "own";
  const choice = expectChoice("match", given, [...MATCHES, "none"]);
  return choice === "none" ? undefined : choice;
}

/** Flags of a text, or of a task that takes its place. */
const OF_TEXT = ["text", "context", "tokens", "task"];

async function readFlags(asked: Asked) {
  const { values } = asked, request = readBackend(values);
  const methods = await readMethods(asked), budgeted = readBudget(values);
  const match = budgeted === undefined ? readMatch(values) : undefined;
  // Several tasks of files are items, as those of --tasks are.
  const areMany = ownTasks().length > 1 && !values.has("task");
  const named = areMany ? {} : readTaskName(values),
    hasText = !isOfItems(checkFlags(() => findTask(named.task)));
  // Without a text, --data belongs to the compared task itself.
  const hasItems = values.has("tasks") || areMany || hasText && values.has("data");
  const all = hasItems ? await readTasks(values) : [];
  // If no flag asks for a text, the losses are those of the first task of items.
  const isAlone = hasItems && hasText && !OF_TEXT.some((name) => values.has(name));
  const [first, ...others] = isAlone ? all : [undefined, ...all], tasks = others as ReadTask[];
  const task = first === undefined ? named : { task: first.task.name };
  const from = readFilterFlag(values, hasText && !isAlone);
  if (from !== undefined && !hasItems && hasText) {
    throw new UsageError(
      "Cannot use --filter-from: expected --data or --tasks, a text is filtered from --warmup on",
    );
  }
  const decisionsPath = readDecisionsFlag(values, methods.map(({ options }) => options));
  if (decisionsPath !== undefined && (isAlone || !hasText)) {
    throw new UsageError(
      "Cannot use --decisions with items alone: expected a text too (add --text or --tokens)",
    );
  }
  return { request, methods, match, budgeted, hasItems, first, tasks, from, task, decisionsPath };
}

type Flags = Awaited<ReturnType<typeof readFlags>>;

async function plan(flags: Flags, { values, progress, named }: Asked) {
  const { request, methods, tasks, first, from, task } = flags,
    options = methods.map(({ options }) => options);
  const asked = first === undefined ? values : new Map([...values, ["task", [task.task]]]);
  const plan = await readPlan(asked, options, progress, named, methods.map(({ name }) => name));
  const items = tasks.length > 0 ? await planItems(tasks, plan.model, from, methods) : undefined;
  const started = await startStudy(plan, request, options, progress, expectStudy(named));
  return { ...flags, ...started, items, line: `${plural(methods.length, "run")} on ${started.what}` };
}

type Plan = Awaited<ReturnType<typeof plan>>;

/** The protected prefix and window of a comparison, in words, and the methods that are identical under them. */
function describeSpans({ methods, study, from }: Plan): string {
  const { warmup, recent } = methods[0]!.options;
  const prefix = from === undefined ? warmup : study.filterFrom?.text ?? `${warmup} (items: ${from.text})`;
  const same = new Map(methods.flatMap(({ name, same = [] }) => same.map((other) => [other, name])));
  const alike = [...same].map(([other, name]) => ` ${other} is ${name} there, and ran once.`);
  return `All methods ran at a warm-up of ${prefix} and a recent window of ${recent}.${alike.join("")}`;
}

/** Refuses methods that reached no scored position of the items that losses are of. */
function expectReached({ methods }: Comparison, { study }: Plan, path: string, folder: string): void {
  const { task, filterFrom, model: { model, config } } = study, encoded = encodeStudyItems(study);
  if (task === undefined || encoded === undefined) return;
  const unreached = methods.flatMap(({ name, options, reach }): Unreached[] => {
    if (options === null || reach === undefined || reach.missedKeys + reach.ownSkips > 0) return [];
    const method = readRecord(options);
    if (!asksToFilter(method)) return [];
    return [{
      planned: { task, encoded },
      method: name,
      prunerFor: filterFor(createFilter(config, method, filterFrom, { backend: model.backend })),
    }];
  });
  refuseUnreached(
    unreached,
    { path, scores: encoded.length * methods.length },
    `leave it out of --methods, or filter more, and go on with --resume ${folder}`,
  );
}

async function work(plan: Plan, running: Running) {
  const { study, methods, match, budgeted, items } = plan,
    { store, interrupt, memory, progress, folder } = running;
  const log = store.units<ComparedChunk>("chunk", ({ trial, chunk }) => `${trial} ${chunk}`);
  const itemLog = items && openItems(store, items);
  let outcome: ItemOutcome | undefined;
  const onItems = async (groups: readonly MethodGroup[]) => {
    outcome = await runComparedItems(items!, groups, study.model.model, itemLog!, running);
    return outcome.series;
  };
  const compared = await compareStudy(study, methods, {
    ...{
      log,
      signal: interrupt.signal,
      onProgress: (fraction, label) => progress.step(fraction, label),
      ...(match && { match }),
      ...(budgeted && { budgeted }),
    },
    ...(items && { onItems }),
  });
  expectReached(compared, plan, store.path, folder);
  if (plan.decisionsPath !== undefined) {
    const { keepDecisions } = await import("./compare/decisions.ts");
    const onChunk = (label: string) => progress.step(1, label);
    await keepDecisions(plan.decisionsPath, study, compared, { signal: interrupt.signal, onChunk });
  }
  const environment = { ...compared.environment, peakMemoryBytes: memory.peakBytes };
  return { ...compared, environment, ...(outcome && { items: outcome.items }) };
}

export const command = studyCommand({
  name: "compare",
  summary: "Runs several methods at equal budgets on the same text.",
  usage: "[flags]",
  about: `Shows their loss increase over the full model and their difference from a random baseline, with 95%
intervals: a table on stdout, and compare.json and compare.html in --out. --methods chooses those that run,
and all take the flags of the method. All run with the same warm-up and recent window: those of the flags,
else the widest of the methods in --methods, else those of the preset keys. --match finds each method's ratio
for the same budget. The first method's random baseline sets that budget, at the ratio asked for. A difference
at budgets more than a point apart is marked. --budget asks for a budget by its fraction. Each method is compared
with the controls that have its own options. --ratios runs all of them at several ratios. With --data or --tasks they answer items of tasks too,
or only these where no flag asks for a text. A row is then a metric of a method: better than, worse than or
not significantly different from the full model, its random baseline and the best other method. Ctrl-C keeps
finished chunks and items; --resume continues, also with other tasks of items.`,
  examples: [
    "",
    "--methods random,oracle,learned,paper --prune-ratio 0.3",
    "--model smollm2-135m --text FILE --seeds 10",
    "--ratios 0.3,0.5 --data DIR --tasks piqa,arc_easy --items 100 --filter-from 25%",
  ],
  flags: {
    ...COMPARED,
    ...TEXT,
    ...ITEMS,
    tasks: { ...ITEMS.tasks, help: "tasks of items (those with a file in DIR)" },
    ...RUN,
    ...methodWithout((option) => ["fusion", "invert", "preset"].includes(option)),
    ...MATCH,
    ...BUDGET,
    ...MEMORY,
    ...STUDY,
    ...DECISIONS,
    ...TABLE,
  },
  permissions: RUNS_MODEL,
  // The rule of --rule is one of several methods, not the method that runs.
  prepare: withFiles,
  file: "compare.json",
  read: readFlags,
  columns: ({ hasItems, task: environment }) =>
    hasItems ? RESULT_COLUMNS : checkFlags(() => tabulateComparison({ methods: [], environment })).columns,
  plan,
  work,
  kept(store) {
    const scores = store.countUnits("item");
    return scores > 0
      ? { finished: scores, noun: "score" }
      : { finished: store.countUnits("chunk"), noun: "chunk" };
  },
  json: (comparison) => JSON.stringify(comparison, null, 2),
  pages: async (comparison) => ({
    "compare.html": renderComparisonReport(comparison, { plotly: await readPlotly() }),
  }),
  table: (comparison, plan) => ({
    table: plan.hasItems ? tabulateResults(comparison) : tabulateComparison(comparison),
    spare: plan.hasItems ? SPARE_RESULT_COLUMNS : SPARE_COLUMNS,
    records: plan.hasItems ? comparison.results! : comparison.methods,
    paper: tabulatePaper(comparison),
    verdict: describeComparison(comparison),
    notes: [
      describeSpans(plan),
      ...(comparison.methods.some(({ missed }) => missed) ? [`${MISSED_NOTE}.`] : []),
      `In brackets: ${describeIntervals(comparison)}. ${describePlan(plan.study)}.`,
    ],
  }),
});

if (import.meta.main) await runCommand(command);
