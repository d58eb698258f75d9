/** Loss over two options of a sweep, as contours. */
import { lossUnit } from "../../../eval/metrics.ts";
import { findTask } from "../../../eval/tasks/mod.ts";
import { excessLoss, measureImportance } from "../../../sweep/importance.ts";
import type { SweepSummary } from "../../../sweep/trial.ts";
import {
  axis,
  emptyFigure,
  escapeText,
  type Figure,
  type JsonObject,
  titleUnderScale,
} from "../../figure/figure.ts";
import { plural } from "../../../plural.ts";
import { chart, colorScale, isWide, scaleAbove, trace } from "../../figure/parts.ts";
import { trialOptions } from "../../trials/trial_label.ts";

interface ContourAxis {
  readonly name: string;
  /** Ascending; where trials have many values, even steps between their ends, to which trials are rounded. */
  readonly values: readonly number[];
}

/** Most values of an axis: more are drawn in so many steps. */
const MOST_VALUES = 24;

/** Steps between the ends of values, on a log scale where they lie far apart. */
function stepsOf(values: readonly number[]): readonly number[] {
  if (values.length <= MOST_VALUES) return values;
  const [scale, back] = isWide(values) ? [Math.log, Math.exp] : [Number, Number];
  const low = scale(values[0]!), high = scale(values.at(-1)!);
  return Array.from({ length: MOST_VALUES }, (_, i) => back(low + (high - low) * i / (MOST_VALUES - 1)));
}

/** The index of the step that is nearest to a value. */
function nearestStep(steps: readonly number[], value: number): number {
  const scale = steps.length === MOST_VALUES && isWide(steps) ? Math.log : Number;
  const away = steps.map((step) => Math.abs(scale(step) - scale(value)));
  return away.indexOf(Math.min(...away));
}

/** Whether trials are scattered points, as a search draws them: fewer than half of all pairs of values. */
export const isScattered = ({ loss }: Pick<LossContour, "loss">): boolean =>
  loss.flat().filter((cell) => cell !== null).length < loss.flat().length / 2;

/** @internal The numbers of the plot. */
export interface LossContour {
  readonly x: ContourAxis;
  readonly y: ContourAxis;
  /** Unit of the loss: `nats per token`. */
  readonly unit: string;
  /** Mean loss increase, [y][x]; null where no trial has both values. */
  readonly loss: readonly (readonly (number | null)[])[];
  /** Trials behind each mean, [y][x]. */
  readonly trials: readonly (readonly number[])[];
}

/**
 * Gathers the mean loss increase for each pair of values, over all other options and seeds.
 *
 * @param options Without names: of the options that are numbers with at least two values, the two that explain most.
 * @returns Undefined where there are no two such options.
 * @throws {RangeError} If a named option is not one of them.
 */
export function collectContour(
  summary: SweepSummary,
  options: { readonly x?: string; readonly y?: string } = {},
): LossContour | undefined {
  const rows = summary.trials.filter((trial) => Number.isFinite(excessLoss(trial))).map((trial) => ({
    options: trialOptions(trial),
    loss: excessLoss(trial),
  }));
  const valuesOf = (name: string) =>
    [...new Set(rows.map((row) => row.options[name]).filter((value) => typeof value === "number"))]
      .sort((a, b) => a - b);
  const ranked = (measureImportance(summary.trials)?.effects ?? []).flatMap(({ options }) =>
    options.length === 1 && options[0] !== "seed" && valuesOf(options[0]!).length > 1 ? options : []
  );
  for (const name of [options.x, options.y]) {
    if (name !== undefined && valuesOf(name).length < 2) {
      const such = ranked.join(", ") || "none here";
      throw new RangeError(
        `Cannot draw contours over "${name}": expected an option with two numbers, such as ${such}`,
      );
    }
  }
  const free = ranked.filter((name) => name !== options.x && name !== options.y);
  const x = options.x ?? free.shift(), y = options.y ?? free.shift();
  if (x === undefined || y === undefined) return undefined;
  const xs = stepsOf(valuesOf(x)), ys = stepsOf(valuesOf(y));
  const cells = ys.map(() => xs.map((): number[] => []));
  for (const { options, loss } of rows) {
    const [a, b] = [options[x], options[y]];
    if (typeof a !== "number" || typeof b !== "number") continue;
    cells[nearestStep(ys, b)]![nearestStep(xs, a)]!.push(loss);
  }
  return {
    x: { name: x, values: xs },
    y: { name: y, values: ys },
    unit: lossUnit(findTask(summary.environment.task)),
    loss: cells.map((line) =>
      line.map((cell) => cell.length === 0 ? null : cell.reduce((a, b) => a + b, 0) / cell.length)
    ),
    trials: cells.map((line) => line.map((cell) => cell.length)),
  };
}

const shown = (value: number) => String(Number(value.toPrecision(4)));

const typeOf = ({ values }: ContourAxis): JsonObject =>
  values.length === MOST_VALUES && isWide(values) ? { type: "log" } : {};

/** Draws contours, with a mark where there are trials. */
export function plotContour(contour: LossContour | undefined): Figure {
  if (contour === undefined) {
    return emptyFigure(
      "Loss over two options",
      "No two options vary by number: give two a list, as in --tau 0,1,4 --prune-ratio 0.3,0.5",
    );
  }
  const { x, y, unit, loss, trials } = contour;
  const points = y.values.flatMap((b, j) =>
    x.values.flatMap((a, i) =>
      loss[j]![i] === null ? [] : [{ a, b, loss: loss[j]![i]!, trials: trials[j]![i]! }]
    )
  );
  return chart({
    title: `Loss over ${x.name} and ${y.name}`,
    caption:
      `Mean loss increase in ${unit}, over all other options and seeds; lower is better. Marks show where ` +
      "there are trials: between them the colours are interpolated.",
    height: 400,
    data: [
      {
        type: "contour",
        x: x.values,
        y: y.values,
        z: loss,
        connectgaps: isScattered(contour),
        hoverinfo: "skip",
        colorscale: colorScale("heat"),
        contours: { coloring: "heatmap" },
        line: { color: "@muted", width: 0.7 },
        colorbar: scaleAbove({ nticks: 5 }),
      },
      trace({
        showlegend: false,
        x: points.map(({ a }) => a),
        y: points.map(({ b }) => b),
        hover: points.map(({ a, b, loss, trials }) =>
          `${escapeText(x.name)} ${shown(a)}, ${escapeText(y.name)} ${shown(b)}<br>loss increase ${
            loss.toFixed(4)
          }<br>` +
          plural(trials, "trial")
        ),
        marker: { color: "@card", size: 9, line: { color: "@ink", width: 1.5 } },
      }),
    ],
    xaxis: axis("", { title: titleUnderScale(escapeText(x.name)), showgrid: false, ...typeOf(x) }),
    yaxis: axis(escapeText(y.name), { showgrid: false, ...typeOf(y) }),
  });
}
