/** The loss increase against a method's retained pairs, cache, or operations; one curve per configuration. */
import { excessKeys, listMetrics, lossUnit } from "../../../eval/metrics.ts";
import { findTask } from "../../../eval/tasks/mod.ts";
import { type BudgetName, BUDGETS } from "../../../sweep/budgets.ts";
import { frontOf } from "../../../sweep/summary.ts";
import type { SweepSummary, Trial } from "../../../sweep/trial.ts";
import type { Figure } from "../../figure/figure.ts";
import { WIDE } from "../../figure/parts.ts";
import { collectTrialCurves, drawTrialCurves, valuesOfCurves } from "../../trials/trial_curves.ts";

/** The numbers of the plot; `x` is the fraction of the full model's budget that is spent, warm-up included. */
type LossBudget = ReturnType<typeof collectLossBudget>;

/** Gathers the loss of every trial that decided something, and the Pareto front of this budget. */
export function collectLossBudget(summary: SweepSummary, budget: BudgetName = "attentionFlops") {
  const task = findTask(summary.environment.task), { delta } = excessKeys(task), { trials } = summary;
  const metric = listMetrics(task).find(({ name }) => name === delta)!;
  const decided = ({ achievedRatio, kvAchievedRatio }: Trial) =>
    achievedRatio !== null || kvAchievedRatio !== null;
  return {
    budget,
    metric,
    unit: lossUnit(task),
    ...collectTrialCurves(trials, {
      metrics: [metric],
      x: (trial) => decided(trial) ? BUDGETS[budget].retained(trial) : null,
      falling: true,
      front: frontOf(trials, BUDGETS[budget].retained),
    }),
  };
}

/** Fraction of the highest loss that lower ones are drawn at on a log scale. */
const FLOOR = 1e-3;

/** Draws the loss against the budget, the full model's on the left. */
export function plotLossBudget(numbers: LossBudget): Figure {
  const { budget, metric, unit, bands } = numbers, { title, label } = BUDGETS[budget], { name } = metric;
  const values = valuesOfCurves(numbers, name), high = Math.max(...values);
  const isLog = high > 0 && high > WIDE * Math.min(...values), floor = FLOOR * high;
  const low = isLog ? values.filter((value) => value < floor).length : 0;
  return drawTrialCurves(numbers, {
    title: `Loss against ${title}`,
    caption: "Down and to the right is better: little loss for little spent. " +
      (bands.length === 0 ? "" : "Grey: random controls, each with the options of what it is named for. ") +
      "Rings mark the Pareto front of online trials." +
      (low === 0 ? "" : ` Losses below ${floor.toPrecision(1)} are drawn there.`),
    measure: name,
    xTitle: `${label}, of the full model`,
    falling: true,
    yTitle: `loss increase, ${unit}`,
    isLog,
    ...(low > 0 && { floor }),
    ...(!isLog && { dense: { name: "dense", y: 0 } }),
  });
}
