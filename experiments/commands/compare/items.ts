/** Tasks of items in a comparison: the same items with every method, besides the text. */
import { filterFor } from "../../../lib/eval/items/item_evaluation.ts";
import { valuesOf } from "../../../lib/eval/items/item_summary.ts";
import type { Model } from "../../../lib/model/model.ts";
import { mapBudgets, retainedOf } from "../../../lib/sweep/budgets.ts";
import type { MethodGroup } from "../../../lib/sweep/compare/measured.ts";
import type { ComparedItems, ComparedSeries } from "../../../lib/sweep/compare/verdicts.ts";
import { createFilter } from "../../../lib/sweep/filter_from.ts";
import { digestTrialOptions } from "../../../lib/sweep/trials/digest.ts";
import { type ItemPlan, type PlannedTask, recordTask } from "../items/plan.ts";
import { type ItemLog, type RunScores, scoreItems, type TaskScores } from "../items/run.ts";
import type { Running } from "../run_study.ts";

export interface ItemOutcome {
  readonly series: readonly ComparedSeries[];
  readonly items: ComparedItems;
}

/**
 * Scores every item dense and with every method; each is on disk before the next begins.
 *
 * @throws {UsageError} As {@linkcode scoreItems} does.
 */
export async function runComparedItems(
  plan: ItemPlan,
  groups: readonly MethodGroup[],
  model: Model,
  log: ItemLog,
  running: Pick<Running, "interrupt" | "progress" | "folder">,
): Promise<ItemOutcome> {
  const { planned, from } = plan, { backend, config } = model;
  const methods = groups.map(({ name, methods }) => ({
    name,
    options: methods[0]!.options,
    runs: methods.map(({ options }) => ({
      run: digestTrialOptions(options),
      prunerFor: filterFor(createFilter(config, options, from, { backend })),
    })),
  }));
  running.progress.start();
  const instead =
    `leave it out of --methods or --tasks, or filter more, and go on with --resume ${running.folder}`;
  const { scores, budgets: byMethod } = await scoreItems({ plan, methods, model, log, instead }, running);
  const budgets = byMethod.map(({ method: { name: method }, budget, ...rest }) => ({
    method,
    ...rest,
    ...budget,
  }));
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
      const series = listSeries(
          own,
          scores.get(own.task.name)!,
          methods.map(({ runs }) => runs.map(({ run }) => run)),
        ),
        spent = spentOn(own);
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
