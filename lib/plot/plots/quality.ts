/** A task's metrics (perplexity, KL divergence) against the achieved skip ratio, one curve a configuration. */
import { formatMetric, readMetric } from "../../eval/metrics.ts";
import type { EvaluationTask, Metric } from "../../eval/task.ts";
import { findTask } from "../../eval/tasks/mod.ts";
import { findMethod } from "../../methods/list.ts";
import { missesAsked } from "../../sweep/summary.ts";
import type { RankedTrial, SweepSummary, Trial } from "../../sweep/trial.ts";
import { type CurveEnd, labelCurves } from "../figure/curve_labels.ts";
import { axis, baseLayout, emptyFigure, Figure, type Json } from "../figure/figure.ts";
import { plural } from "../figure/page.ts";
import { LEGEND } from "../figure/parts.ts";
import { styleRule } from "../figure/rule_style.ts";
import { curveKey, hoverLines, nameCurves, pointKey, resultLines, ruleName } from "../figure/trial_label.ts";

/** One trial in a plot. */
export interface QualityPoint {
  /** Achieved skip ratio. */
  readonly ratio: number;
  /** The drawn metrics of the filtered model, by name. */
  readonly values: { readonly [metric: string]: number };
  /** Results and configuration, lines of plotly's HTML. */
  readonly hover: string;
}

/** Trials that differ in the ratio alone, ascending in the achieved ratio. */
export interface QualityCurve {
  /** The rule, and the options in which curves of this rule differ. */
  readonly name: string;
  /** The rule with its sign. */
  readonly rule: string;
  /** The rule. */
  readonly fusion: string;
  /** Whether its score is negated. */
  readonly invert: boolean;
  /** Its trials. */
  readonly points: readonly QualityPoint[];
}

/** The random control at one asked ratio or threshold: mean, lowest and highest over its seeds. */
export interface BandPoint {
  /** Mean achieved skip ratio. */
  readonly ratio: number;
  /** Number of seeds. */
  readonly seeds: number;
  /** The drawn metrics over the seeds, by name. */
  readonly values: { readonly [metric: string]: Range };
  /** Results and configuration, lines of plotly's HTML. */
  readonly hover: string;
}

/** Mean and extremes. */
export interface Range {
  /** Lowest. */
  readonly low: number;
  /** Mean. */
  readonly mean: number;
  /** Highest. */
  readonly high: number;
}

/** A metric as the plot draws it. */
export interface DrawnMetric extends Pick<Metric, "name" | "label" | "better" | "digits" | "percent"> {
  /** Title of its figure, name of its axis. */
  readonly figure: NonNullable<Metric["figure"]>;
}

/** The numbers of the plot. */
export interface Quality {
  /** The metrics that can be drawn; the first is the headline. */
  readonly metrics: readonly DrawnMetric[];
  /** Curves, in the order of the legend. */
  readonly curves: readonly QualityCurve[];
  /** The random control, a band a configuration. */
  readonly bands: readonly { readonly name: string; readonly points: readonly BandPoint[] }[];
  /** Trials on the Pareto front. */
  readonly front: readonly QualityPoint[];
  /** Trials that skipped more than two points more or less than asked: they are not on the front. */
  readonly missed: readonly QualityPoint[];
  /** The headline of the model without a filter. */
  readonly dense: number;
  /** Trials that have no finite place in the plot. */
  readonly dropped: number;
}

/** What can be drawn of a task: its headline, and the metrics that have a figure. */
export function drawnMetrics({ headline, metrics }: EvaluationTask): DrawnMetric[] {
  const { name } = headline, title = name[0]!.toUpperCase() + name.slice(1);
  return [
    { ...headline, label: name, figure: { title, axis: name, caption: "" } },
    ...metrics.flatMap((metric) => metric.figure === undefined ? [] : [{ ...metric, figure: metric.figure }]),
  ];
}

const valuesOf = <V>(metrics: readonly DrawnMetric[], value: (name: string) => V) =>
  Object.fromEntries(metrics.map(({ name }) => [name, value(name)]));

const point = (trial: Trial, metrics: readonly DrawnMetric[]): QualityPoint => ({
  ratio: trial.achievedRatio!,
  values: valuesOf(metrics, (name) => readMetric(trial, name)),
  hover: hoverLines(trial).join("<br>"),
});

function range(values: readonly number[]): Range {
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  return { low: Math.min(...values), mean, high: Math.max(...values) };
}

/** Gathers what the plot shows; the random control becomes a band over its seeds. */
export function collectQuality(summary: SweepSummary): Quality {
  const metrics = drawnMetrics(findTask(summary.environment.task));
  const drawable = summary.trials.filter((trial) =>
    trial.achievedRatio !== null && metrics.every(({ name }) => Number.isFinite(readMetric(trial, name)))
  );
  const groups = [...Map.groupBy(drawable, curveKey).values()];
  const names = nameCurves(groups.map((group) => group[0]!));
  const curves: QualityCurve[] = [];
  const bands: { name: string; points: BandPoint[] }[] = [];
  for (const [i, group] of groups.entries()) {
    const { fusion, invert } = group[0]!;
    if (findMethod(fusion)?.looks?.chance) {
      const points = [...Map.groupBy(group, pointKey).values()];
      bands.push({
        name: names[i]!,
        points: points.map((seeds) => bandPoint(seeds, metrics)).sort((a, b) => a.ratio - b.ratio),
      });
    } else {
      const points = group.map((trial) => point(trial, metrics)).sort((a, b) => a.ratio - b.ratio);
      curves.push({ name: names[i]!, rule: ruleName(group[0]!), fusion, invert, points });
    }
  }
  const pointsOf = (which: (trial: RankedTrial) => boolean) =>
    drawable.filter(which).map((trial) => point(trial, metrics)).sort((a, b) => a.ratio - b.ratio);
  curves.sort((a, b) => styleRule(a.rule).rank - styleRule(b.rule).rank);
  return {
    metrics,
    curves,
    bands,
    front: pointsOf((trial) => trial.pareto),
    missed: pointsOf(missesAsked),
    dense: readMetric(summary.dense, metrics[0]!.name),
    dropped: summary.trials.length - drawable.length,
  };
}

function bandPoint(trials: readonly Trial[], metrics: readonly DrawnMetric[]): BandPoint {
  const values = valuesOf(metrics, (name) => range(trials.map((trial) => readMetric(trial, name))));
  const seeds = [...new Set(trials.map((trial) => trial.seed))].sort((a, b) => Number(a) - Number(b));
  const [title, ...lines] = hoverLines(trials[0]!);
  const spread = (metric: DrawnMetric) => {
    const { mean, low, high } = values[metric.name]!,
      shown = (value: number) => formatMetric(metric, value, 3);
    return `${metric.label} ${shown(mean)} (${shown(low)} to ${shown(high)})`;
  };
  return {
    ratio: range(trials.map((trial) => trial.achievedRatio!)).mean,
    seeds: seeds.length,
    values,
    hover: [
      `${title}, mean (range) over seeds ${seeds.join(", ")}`,
      ...metrics.map(spread),
      lines[0],
      ...lines.slice(1 + resultLines(trials[0]!).length).map((line) => line.replace(/( · )?seed \d+/, ""))
        .filter((line) => line !== ""),
    ].join("<br>"),
  };
}

const HEIGHT = 430;
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash"];
/** More curves than this share one legend entry a rule. */
const MAX_LEGEND = 14;

/**
 * Draws one metric.
 *
 * @param measure Its name; default: the headline.
 * @throws {RangeError} If the task has no such metric to draw.
 */
export function plotQuality(quality: Quality, measure: string = quality.metrics[0]!.name): Figure {
  const { metrics, curves, bands, front, missed, dense, dropped } = quality;
  const metric = metrics.find(({ name }) => name === measure), headline = metrics[0]!;
  if (metric === undefined) {
    const names = metrics.map(({ name }) => name).join(", ");
    throw new RangeError(`Cannot draw "${measure}": expected one of ${names}`);
  }
  const isHeadline = metric === headline;
  const title = `${metric.figure.title} against skipped attention`;
  if (curves.length === 0 && bands.length === 0) {
    return emptyFigure(
      title,
      "No trial here decided a token: give the sweep more --tokens than its --warmup",
    );
  }
  const data: { [key: string]: Json }[] = [];
  for (const [i, band] of bands.entries()) data.push(...bandTraces(band, measure, i));
  const single = curves.length <= MAX_LEGEND;
  const seen = new Map<string, number>();
  for (const curve of curves) {
    const nth = seen.get(curve.rule) ?? 0;
    seen.set(curve.rule, nth + 1);
    data.push(curveTrace(curve, measure, nth, single));
  }
  data.push({
    name: "Pareto front",
    type: "scatter",
    mode: "lines+markers",
    x: front.map((p) => p.ratio),
    y: front.map((p) => p.values[measure]!),
    hoverinfo: "skip",
    line: { color: "@ink", width: 1, dash: "dot" },
    marker: { symbol: "circle-open", size: 17, line: { width: 1.5 }, color: "@ink" },
  });
  if (missed.length > 0) data.push(missedTrace(missed, measure));
  const values = [
    ...curves.flatMap((curve) => curve.points.map((p) => p.values[measure]!)),
    ...bands.flatMap((band) => band.points.flatMap((p) => [p.values[measure]!.low, p.values[measure]!.high])),
    ...(isHeadline ? [dense] : [0]),
  ];
  const wide = isHeadline && !metric.percent && Math.max(...values) > 8 * dense;
  if (isHeadline) data.push(denseTrace(quality));
  const labels = single
    ? labelCurves(
      curveEnds(quality, measure),
      { x: ratiosOf(quality), y: values },
      { height: HEIGHT, isLog: wide },
    )
    : undefined;
  const lost = dropped === 0
    ? ""
    : ` ${plural(dropped, "trial")} without a finite value or a decided token left out.`;
  const off = missed.length === 0
    ? ""
    : ` CROSSED OUT: ${
      plural(missed.length, "trial")
    } that skipped more than 2 points more or less than asked, not to be held against others.`;
  return new Figure({
    title,
    caption: (isHeadline
      ? `${metric.better === "lower" ? "Lower" : "Higher"} is better. ` +
        (bands.length === 0
          ? ""
          : `A rule is worth something where it lies ${
            metric.better === "lower" ? "below" : "above"
          } the grey band ` +
            "of the random control " +
            "(mean and range over its seeds) with the same recent window. ") +
        "Rings mark the Pareto front of on-line trials; oracle and topk look ahead and stand outside it."
      : `${metric.figure.caption}; ${metric.better} is better. Rings mark the trials ` +
        `on the Pareto front of ${headline.name}.`) + lost + off,
    height: HEIGHT,
    data,
    layout: baseLayout({
      xaxis: axis("attention skipped, all layers", {
        tickformat: ".0%",
        ...(labels ? { range: labels.x } : {}),
      }),
      yaxis: axis(`${metric.figure.axis}${wide ? " (log scale)" : ""}`, {
        ...(wide ? { type: "log" } : {}),
        ...(labels ? { range: labels.y } : isHeadline ? {} : { rangemode: "tozero" }),
        ...(metric.percent ? { tickformat: ".0%" } : {}),
      }),
      legend: LEGEND,
      ...labels?.layout,
      hovermode: "closest",
    }),
  });
}

/** Where curves end, and what they are called there. */
function curveEnds({ metrics, curves, bands, dense }: Quality, measure: string): CurveEnd[] {
  const ends = [
    ...curves.map(({ name, fusion, points }) => {
      const { ratio, values } = points.at(-1)!;
      return { name, color: styleRule(fusion).color, x: ratio, y: values[measure]! };
    }),
    ...bands.map(({ name, points }) => {
      const { ratio, values } = points.at(-1)!;
      return { name, color: "@muted", x: ratio, y: values[measure]!.mean };
    }),
  ];
  if (measure !== metrics[0]!.name) return ends;
  const x = Math.max(...ends.map((end) => end.x));
  return [...ends, { name: denseName(metrics, dense), color: "@ink", x, y: dense }];
}

const denseName = (metrics: Quality["metrics"], dense: number) =>
  `dense (${formatMetric(metrics[0]!, dense)})`;

function curveTrace(
  curve: QualityCurve,
  measure: string,
  nth: number,
  single: boolean,
): { [key: string]: Json } {
  const { color, symbol } = styleRule(curve.fusion);
  return {
    name: single ? curve.name : curve.rule,
    ...(single ? {} : { legendgroup: curve.rule, showlegend: nth === 0 }),
    type: "scatter",
    mode: curve.points.length > 1 ? "lines+markers" : "markers",
    x: curve.points.map((p) => p.ratio),
    y: curve.points.map((p) => p.values[measure]!),
    text: curve.points.map((p) => p.hover),
    hovertemplate: "%{text}<extra></extra>",
    line: { color, width: 2, dash: DASHES[(nth + (curve.invert ? 2 : 0)) % DASHES.length]! },
    marker: {
      color,
      symbol: curve.invert || nth > 0 ? `${symbol}-open` : symbol,
      size: 9,
      line: { width: 2, color },
    },
  };
}

function bandTraces(
  band: Quality["bands"][number],
  measure: string,
  nth: number,
): { [key: string]: Json }[] {
  const x = band.points.map((p) => p.ratio);
  const group = { legendgroup: band.name, type: "scatter" };
  const edge = { ...group, x, mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false };
  // The mean has the lower half of the ground, so that the legend shows both as the plot does.
  const fill = { fill: "tonexty", fillcolor: "@band" };
  return [
    { ...edge, y: band.points.map((p) => p.values[measure]!.low) },
    {
      ...group,
      ...fill,
      name: band.name,
      x,
      y: band.points.map((p) => p.values[measure]!.mean),
      mode: "lines+markers",
      text: band.points.map((p) => p.hover),
      hovertemplate: "%{text}<extra></extra>",
      line: { color: "@muted", width: 2, dash: DASHES[(nth + 1) % DASHES.length]! },
      marker: { color: "@muted", symbol: "line-ew", size: 9, line: { color: "@muted", width: 2 } },
    },
    { ...edge, ...fill, y: band.points.map((p) => p.values[measure]!.high) },
  ];
}

function missedTrace(missed: readonly QualityPoint[], measure: string): { [key: string]: Json } {
  return {
    name: "missed the asked ratio",
    type: "scatter",
    mode: "markers",
    x: missed.map((p) => p.ratio),
    y: missed.map((p) => p.values[measure]!),
    hoverinfo: "skip",
    marker: { symbol: "x-thin", size: 18, line: { width: 2.5, color: "@ink" }, color: "@ink" },
  };
}

/** Ratios of all points; from 0 where there is but one, so that the dense line has a length. */
function ratiosOf({ curves, bands }: Quality): number[] {
  const ratios = [...curves, ...bands].flatMap(({ points }) => points.map((p: { ratio: number }) => p.ratio));
  return new Set(ratios).size === 1 ? [0, ...ratios] : ratios;
}

function denseTrace(quality: Quality): { [key: string]: Json } {
  const { metrics, dense } = quality, ratios = ratiosOf(quality);
  return {
    name: denseName(metrics, dense),
    type: "scatter",
    mode: "lines",
    x: [Math.min(...ratios), Math.max(...ratios)],
    y: [dense, dense],
    hoverinfo: "skip",
    line: { color: "@ink", width: 1 },
  };
}
