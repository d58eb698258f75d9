/** Two runs side by side: how far the losses of each method are apart. */
import { lossUnit } from "../../../eval/metrics.ts";
import { findTask } from "../../../eval/tasks/mod.ts";
import type { Interval } from "../../../stats/bootstrap.ts";
import { type DifferenceRow, type RunDifference, signOf } from "../../../sweep/compare/difference.ts";
import type { Trial } from "../../../sweep/trial.ts";
import { axis, emptyFigure, escapeText, type Figure } from "../../figure/figure.ts";
import { chartIntervals } from "../../figure/parts.ts";
import { methodName, nameCurves, ruleName } from "../../trials/trial_label.ts";
import { formatInterval } from "./comparison.ts";

/** Rows that a reader can take in. */
const MOST_ROWS = 40;

/** A value of both runs: `0.3`, or `0.3 → 0.5` where they differ. */
function showBoth({ trial, match = trial }: DifferenceRow, show: (trial: Trial) => string): string {
  const [a, b] = [show(trial!), show(match!)];
  return a === b ? a : `${a} → ${b}`;
}

/** A method's name, for each row: a trial's rule, the options in which it differs from others of that rule, and its ratio. */
export function nameRows(rows: readonly DifferenceRow[]): string[] {
  const trials = rows.flatMap(({ trial }) => trial ?? []);
  if (trials.length < rows.length) return rows.map(({ name }) => name);
  const curves = nameCurves(trials);
  return rows.map((row, i) => {
    const trial = trials[i]!, own = methodName(trial);
    const seeds = new Set(
      trials.filter((other) => methodName(other) === own).map(({ seed }) => String(seed)),
    );
    // A method that is a preset in only one of the runs is named by its rule.
    const called = own === methodName(row.match ?? trial) ? methodName : ruleName;
    return [
      curves[i]!.replace(own, showBoth(row, called)),
      showBoth(row, ({ pruneRatio, kvRatio }) => String(pruneRatio > 0 ? pruneRatio : kvRatio)),
      ...(seeds.size > 1 ? [`seed ${trial.seed}`] : []),
    ].join(" · ");
  });
}

/** The numbers of the plot: differences are B less A, least first; `left` counts those that are not drawn. */
type RunDifferences = ReturnType<typeof collectRunDifferences>;

/** Gathers the methods that are in both runs. If there are many, those that differ most. */
export function collectRunDifferences({ task, paired, rows }: RunDifference) {
  const names = nameRows(rows);
  const points = rows.flatMap(({ difference, a, b }, i) =>
    difference === null ? [] : [{ name: names[i]!, difference, missed: a!.missed || b!.missed }]
  );
  const size = ({ difference }: { readonly difference: Interval }) => Math.abs(difference.estimate);
  const shown = points.toSorted((a, b) => size(b) - size(a)).slice(0, MOST_ROWS);
  return {
    unit: lossUnit(findTask(task)),
    paired,
    rows: shown.sort((a, b) => a.difference.estimate - b.difference.estimate),
    left: points.length - shown.length,
  };
}

const TITLE = "How far the runs are apart";
const COLORS = { "-1": "@series2", "0": "@muted", "1": "@series1" } as const;

/** Draws a row per method: left of 0 the second run has the lower loss. */
export function plotRunDifferences({ unit, paired, rows, left }: RunDifferences): Figure {
  if (rows.length === 0) return emptyFigure(TITLE, "No method is in both runs: run the same ones in both.");
  const how = paired ? "on the same tokens" : "each above its own full model";
  const more = left === 0 ? "" : ` The ${left} that differ least are in the table alone.`;
  const isAny = rows.some(({ missed }) => missed);
  return chartIntervals(
    {
      title: TITLE,
      caption:
        `Mean loss of B less that of A, ${how}, ${unit}: left of 0, B costs less. Bars: 95% intervals, each by ` +
        `itself.${more}${isAny ? " ! = skipped more than 2 points more or less than requested." : ""}`,
      xaxis: axis("loss of B − loss of A", { nticks: 6 }),
    },
    rows.map(({ name, difference: interval, missed }) => ({
      name: escapeText(`${name}${missed ? " !" : ""}`),
      interval,
      hover: `<b>${escapeText(name)}</b><br>${formatInterval(interval, 4)} ${escapeText(unit)}`,
      marker: { color: COLORS[signOf(interval)] },
    })),
  );
}
