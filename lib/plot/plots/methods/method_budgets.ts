/** A task's metric of every method of a comparison against the method's budget, with intervals. */
import { formatMean, formatMetric, isOfAnswers } from "../../../eval/metrics.ts";
import { findMetric, findTask, TASKS } from "../../../eval/tasks/mod.ts";
import { shareInterval } from "../../../stats/shares.ts";
import { BUDGET_NAMES, type BudgetName, BUDGETS, showFraction } from "../../../sweep/budgets.ts";
import type { Comparison } from "../../../sweep/compare/comparison.ts";
import { choose } from "../../figure/choice_slider.ts";
import { axis, emptyFigure, escapeText, type Figure, type JsonObject } from "../../figure/figure.ts";
import { chart, dashedLine, isWide, markOf, trace, whiskers, WIDE } from "../../figure/parts.ts";
import { styleRule, withoutRatio } from "../../trials/rule_style.ts";

/** Standard errors on either side of a 95% interval. */
const Z = 1.96;

/** The numbers of the plot: intervals are of 95%; `dense` is undefined where the metric is a distance from it. */
export type MethodBudgets = ReturnType<typeof collectMethodBudgets>;

/** Gathers a metric of a task, by default the text's main one: points by method, those asked for less first. */
export function collectMethodBudgets(
  { methods, results = [] }: Pick<Comparison, "methods" | "results">,
  task: string = TASKS[0].name,
  name: string = TASKS[0].headline.name,
) {
  const metric = findMetric(task, name), { fromMean = (mean: number) => mean } = metric;
  const isShare = metric.percent && isOfAnswers(findTask(task));
  const rows = results.filter((row) => row.task === task && row.metric === name);
  const known = new Map(methods.map((method) => [method.name, method]));
  const points = rows.flatMap((row) => {
    const { method, value, mean, standardError } = row, { asked = 0, missed, ...own } = known.get(method)!;
    const retained = row.retained ?? own.retained; // a comparison of an older version has only those of the text
    if (method === "dense" || retained === undefined || missed || !Number.isFinite(value)) return [];
    // The ends of the mean's interval, through the function that the metric is of it.
    const half = Z * (standardError ?? 0);
    const { low, high } = isShare ? shareInterval(mean, row.units) : { low: mean - half, high: mean + half };
    const hover = [
      `<b>${escapeText(method)}</b>`,
      `${metric.label} ${formatMean(metric, row)}`,
      ...BUDGET_NAMES.map((own) => `${BUDGETS[own].label} ${showFraction(retained[own])}`),
    ].join("<br>");
    return [{ method, asked, retained, value, low: fromMean(low), high: fromMean(high), hover }];
  });
  const isDistance = rows.length > 1 && rows.slice(1).every(({ against }) => against.dense === undefined);
  return {
    task,
    metric,
    units: rows[0]?.units ?? 0,
    dense: isDistance ? undefined : rows.find(({ method }) => method === "dense")?.value,
    curves: [...Map.groupBy(points, ({ method }) => withoutRatio(method))].map(([name, own]) => ({
      name,
      points: own.toSorted((a, b) => a.asked - b.asked),
    })).sort((a, b) => styleRule(a.name).rank - styleRule(b.name).rank),
  };
}

/** Least width of the axis of a budget, in points: equal budgets lie at one place. */
const LEAST_POINTS = 10;

/** The axis of a budget from the most to the least that is spent, in percent. */
function rangeOf(spent: readonly number[]): [most: number, least: number] {
  const high = 100 * Math.max(...spent), low = 100 * Math.min(...spent), span = high - low;
  const pad = Math.max(0.06 * span, (LEAST_POINTS - span) / 2);
  return [high + pad, low - pad];
}

/** Draws the metric against one budget at a time, the full model's on the left. */
export function plotMethodBudgets({ task, metric, units, dense, curves }: MethodBudgets): Figure {
  const title = `${task}: ${metric.label} against what is spent`;
  if (curves.length === 0) {
    return emptyFigure(title, "No method here reached the requested ratio.");
  }
  const points = curves.flatMap(({ points }) => points);
  const scale = (value: number) => metric.percent ? 100 * value : value;
  const values = points.map(({ value }) => value).concat(dense ?? []);
  const isLog = !metric.percent && isWide(values);
  const curveOf = (budget: BudgetName, { name, points }: MethodBudgets["curves"][number]): JsonObject => {
    const { color, symbol, dash } = styleRule(name);
    const floor = isLog ? Math.min(...values) / WIDE : -Infinity;
    const at = (end: "value" | "low" | "high") => points.map((point) => Math.max(scale(point[end]), floor));
    return trace({
      name: escapeText(name),
      x: points.map(({ retained }) => 100 * retained[budget]),
      y: at("value"),
      error_y: whiskers(at("value"), { low: at("low"), high: at("high") }, {
        color,
        thickness: 1.5,
        width: 4,
      }),
      hover: points.map(({ hover }) => hover),
      ...(points.length > 1 && { line: { color, dash, width: 1.5 } }),
      marker: markOf(color, symbol, 9, 1.5),
    });
  };
  const { data, layout } = choose(
    "spent:",
    BUDGET_NAMES.map((budget) => ({
      label: BUDGETS[budget].label,
      traces: curves.map((curve) => curveOf(budget, curve)),
      layout: {
        "xaxis.title.text": `${BUDGETS[budget].label}, % of the full model`,
        "xaxis.range": rangeOf(points.map(({ retained }) => retained[budget])),
      },
    })),
    { shown: BUDGET_NAMES.indexOf("pairs") },
  );
  const over = `${units} ${findTask(task).loss.of === "item" ? "items" : "tokens, by blocks"}`;
  return chart({
    title,
    caption:
      `${
        metric.better === "lower" ? "Down" : "Up"
      } and to the right is better: little lost for little spent. Bars are ` +
      `95% intervals over ${over}; methods are paired in the table.` +
      (dense === undefined ? "" : ` Dashed: dense, ${formatMetric(metric, dense)}.`),
    height: 460,
    data,
    margin: { l: 62, r: 14, t: 34, b: 96 },
    xaxis: axis(`${BUDGETS.pairs.label}, % of the full model`, {
      range: rangeOf(points.map(({ retained }) => retained.pairs)),
    }),
    yaxis: axis(`${metric.label}${metric.percent ? " (%)" : isLog ? " (log scale)" : ""}`, {
      ...(isLog && { type: "log" }),
    }),
    showlegend: true,
    shapes: dense === undefined ? [] : [dashedLine("y", scale(dense), "@muted")],
    ...layout,
  });
}
