/** Tasks of items in a comparison: the same items with every method, besides the text. */
import { filterFor } from "../../../lib/eval/items/item_evaluation.ts";
import { ItemScorer } from "../../../lib/eval/items/item_scorer.ts";
import { budgetOf, reachesNothing, valuesOf } from "../../../lib/eval/items/item_summary.ts";
import type { Model } from "../../../lib/model/model.ts";
import { mapBudgets, retainedOf } from "../../../lib/sweep/budgets.ts";
import type { MethodGroup } from "../../../lib/sweep/compare/measured.ts";
import type { ComparedItems, ComparedSeries } from "../../../lib/sweep/compare/verdicts.ts";
import { createFilter, type FilterFrom } from "../../../lib/sweep/filter_from.ts";
import { digestTrialOptions } from "../../../lib/sweep/trials/digest.ts";
import { asksToFilter, type PlannedTask, recordTask, refuseUnreached, type Unreached } from "../eval/plan.ts";
import { type ItemLog, runItems, type RunScores, type TaskScores } from "../eval/run.ts";
import type { Running } from "../run_study.ts";

/** Items, and from where they are filtered. */
export interface ItemPlan {
  readonly planned: readonly PlannedTask[];
  readonly from: FilterFrom | undefined;
}

export interface ItemOutcome {
  readonly series: readonly ComparedSeries[];
  readonly items: ComparedItems;
}

/**
 * Scores every item dense and with every method; each is on disk before the next begins.
 *
 * @throws {UsageError} If a method reached no scored position of a task: its numbers would be the full model's. All scores
 * are on disk by then.
 */
export async function runComparedItems(
  plan: ItemPlan,
  groups: readonly MethodGroup[],
  model: Model,
  log: ItemLog,
  { interrupt, progress, folder }: Pick<Running, "interrupt" | "progress" | "folder">,
): Promise<ItemOutcome> {
  const { planned, from } = plan, { backend, config } = model;
  using scorers = new DisposableStack();
  const dense = scorers.use(new ItemScorer(model)), methods = groups.flatMap((group) => group.methods);
  const digests = methods.map(({ options }) => digestTrialOptions(options));
  const bound = new Map(methods.map((method, i) => {
    const filter = createFilter(config, method.options, from, { backend });
    return [method, { run: digests[i]!, prunerFor: filterFor(filter) }];
  }));
  const runOf = ({ methods }: MethodGroup) => methods.map((method) => bound.get(method)!.run);
  const own = [...bound.values()].map(({ run, prunerFor }) =>
    [run, scorers.use(new ItemScorer(model, prunerFor))] as const
  );
  const budgets: ComparedItems["budgets"][number][] = [], unreached: Unreached[] = [];
  progress.start();
  const scores = await runItems({
    ...{ planned, scorers: { dense, ...Object.fromEntries(own) }, log, signal: interrupt.signal },
    onItem: (fraction, label) => progress.step(fraction, label),
    onTask: (own, runs) => {
      for (const group of groups) {
        const all = runOf(group).map((name) => runs[name]!), [first] = group.methods;
        const budget = budgetOf(all.flatMap(({ scores }) => scores), config.numLayers, runs.dense!.scores);
        const timeMs = all.reduce((sum, own) => sum + own.timeMs, 0);
        budgets.push({ method: group.name, task: own.task.name, timeMs, ...budget });
        if (!asksToFilter(first!.options) || !reachesNothing(budget)) continue;
        unreached.push({ planned: own, prunerFor: bound.get(first!)!.prunerFor, method: group.name });
      }
    },
  });
  const count = planned.reduce((sum, { items }) => sum + items.length, 0) * (1 + methods.length);
  refuseUnreached(
    unreached,
    { path: log.path, scores: count },
    `leave it out of --methods or --tasks, or filter more, and go on with --resume ${folder}`,
  );
  const spentOn = ({ task: { name } }: PlannedTask) => {
    const own = groups.map(({ name: method }) =>
      budgets.find((one) => one.method === method && one.task === name)!
    );
    const reach = own.map(({ meanReach: { missedKeys, ownSkips }, identical, items }) => ({
      ...{ missedKeys, ownSkips, identical: identical / items },
    }));
    return {
      retained: [mapBudgets(() => 1), ...own.map(({ usage }) => retainedOf(usage))],
      reach: [undefined, ...reach],
    };
  };
  return {
    series: planned.flatMap((own) => {
      const series = listSeries(own, scores.get(own.task.name)!, groups.map(runOf)), spent = spentOn(own);
      return series.map((one) => ({ ...one, ...spent }));
    }),
    items: { ...(from && { filterFrom: from.text }), tasks: planned.map(recordTask), budgets },
  };
}

/**
 * The metrics of a task, each of the full model and of every group, as means over its seeds. If answers continue their
 * context, the distance from the full model's continuation is among them.
 */
function listSeries(
  { task, items }: PlannedTask,
  runs: RunScores,
  groups: readonly string[][],
): ComparedSeries[] {
  const series = (
    metric: ComparedSeries["metric"],
    of: (run: TaskScores) => Float64Array,
  ): ComparedSeries => ({
    ...{ task: task.name, metric, blockSize: 1 },
    values: [["dense"], ...groups].map((names) => [average(names.map((name) => of(runs[name]!)))]),
  });
  const { metrics, distances = [] } = task.items, dense = runs.dense!.scores;
  return [
    ...metrics.map((metric) => series(metric, ({ scores }) => valuesOf(metric, { items }, scores))),
    ...distances.map((metric) => {
      const between = ({ scores }: TaskScores) =>
        scores.map(({ generatedIds }, i) => metric.between(dense[i]!.generatedIds!, generatedIds!));
      return { ...series(metric, (run) => Float64Array.from(between(run))), isDistance: true };
    }),
  ];
}

function average(all: readonly Float64Array[]): Float64Array {
  return all[0]!.map((_, i) => all.reduce((sum, values) => sum + values[i]!, 0) / all.length);
}
