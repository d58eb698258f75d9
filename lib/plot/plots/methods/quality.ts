/** A task's metrics (perplexity, KL divergence) against the pruning ratio: queries skipped, one curve a configuration. */
import { formatMetric, type Metric, readMetric } from "../../../eval/metrics.ts";
import type { Task } from "../../../eval/task.ts";
import { findTask } from "../../../eval/tasks/mod.ts";
import { readRecord } from "../../../methods/bind/options.ts";
import { filtersQueries } from "../../../methods/bind/sides.ts";
import { frontOf } from "../../../sweep/summary.ts";
import type { SweepSummary } from "../../../sweep/trial.ts";
import type { Figure } from "../../figure/figure.ts";
import {
  collectTrialCurves,
  drawTrialCurves,
  type TrialCurves,
  valuesOfCurves,
} from "../../trials/trial_curves.ts";

interface DrawnMetric extends Pick<Metric, "name" | "label" | "better" | "digits" | "percent"> {
  /** Title of its figure, name of its axis. */
  readonly figure: NonNullable<Metric["figure"]>;
}

/** @internal The numbers of the plot; `x` is the achieved pruning ratio: queries skipped. */
export interface Quality extends TrialCurves {
  /** The metrics that can be drawn; the first is the headline. */
  readonly metrics: readonly DrawnMetric[];
  /** The headline of the model without a filter. */
  readonly dense: number;
}

/** Plots of a task: its headline, and the metrics that have a figure. */
export function drawnMetrics({ headline, metrics }: Task): DrawnMetric[] {
  const { name } = headline, title = name[0]!.toUpperCase() + name.slice(1);
  return [
    { ...headline, label: name, figure: { title, axis: name, caption: "" } },
    ...metrics.flatMap((metric) => metric.figure === undefined ? [] : [{ ...metric, figure: metric.figure }]),
  ];
}

/** Gathers the plot's numbers, of trials that are to skip queries. The random control becomes a band over its seeds. */
export function collectQuality(summary: SweepSummary): Quality {
  const metrics = drawnMetrics(findTask(summary.environment.task));
  const trials = summary.trials.filter((trial) => filtersQueries(readRecord(trial)));
  return {
    metrics,
    ...collectTrialCurves(trials, {
      metrics,
      x: ({ achievedRatio }) => achievedRatio,
      front: frontOf(trials, ({ achievedRatio }) => 1 - achievedRatio!),
    }),
    dense: readMetric(summary.dense, metrics[0]!.name),
  };
}

/**
 * Draws one metric.
 *
 * @param measure Its name; default: the headline.
 * @throws {RangeError} If the task has no such metric to draw.
 */
export function plotQuality(quality: Quality, measure: string = quality.metrics[0]!.name): Figure {
  const { metrics, bands, dense } = quality;
  const metric = metrics.find(({ name }) => name === measure), headline = metrics[0]!;
  if (metric === undefined) {
    const names = metrics.map(({ name }) => name).join(", ");
    throw new RangeError(`Cannot draw "${measure}": expected one of ${names}`);
  }
  const isHeadline = metric === headline, side = metric.better === "lower" ? "below" : "above";
  const chance = bands.length === 0
    ? ""
    : `A method is worth something where it lies ${side} the grey band of the random control that has its options ` +
      "(mean and range over seeds). ";
  return drawTrialCurves(quality, {
    title: `${metric.figure.title} against skipped queries`,
    caption: isHeadline
      ? `${metric.better === "lower" ? "Lower" : "Higher"} is better. ${chance}` +
        "Rings mark the Pareto front of online trials; oracle and topk are non-causal and stand outside it."
      : `${metric.figure.caption}; ${metric.better} is better. Rings mark the trials ` +
        `on the Pareto front of ${headline.name}.`,
    measure,
    xTitle: "queries skipped after warm-up, all layers",
    yTitle: metric.figure.axis,
    percent: metric.percent,
    isLog: isHeadline && !metric.percent &&
      Math.max(dense, ...valuesOfCurves(quality, measure)) > 8 * dense,
    ...(isHeadline && { dense: { name: `dense (${formatMetric(headline, dense)})`, y: dense } }),
  });
}
