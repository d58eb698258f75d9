/** Trials as curves over skipped fractions or budgets: one per configuration, a band for random, the Pareto front. */
import { formatMetric, type Metric, readMetric } from "../../eval/metrics.ts";
import { mean } from "../../math/mean.ts";
import { findMethod } from "../../methods/list.ts";
import { missesRequested } from "../../sweep/summary.ts";
import type { Trial } from "../../sweep/trial.ts";
import { type CurveEnd, labelCurves } from "./curve_labels.ts";
import { axis, emptyFigure, type Figure, type JsonObject } from "../figure/figure.ts";
import { plural } from "../../plural.ts";
import { chart, markOf, NO_DECISION, trace } from "../figure/parts.ts";
import { styleRule } from "./rule_style.ts";
import { curveKey, hoverLines, methodName, nameCurves, pointKey, resultLines } from "./trial_label.ts";

type CurveMetric = Pick<Metric, "name" | "label" | "digits" | "percent">;

interface TrialPoint {
  /** The fraction of queries that it skips, or of the full model's budget that it spends. */
  readonly x: number;
  /** The drawn metrics of the filtered model, by name. */
  readonly values: { readonly [metric: string]: number };
  /** Results and configuration, lines of plotly's HTML. */
  readonly hover: string;
}

/** The random control at one asked ratio or threshold: means over its seeds, and the metrics' extremes. */
interface BandPoint extends Omit<TrialPoint, "values"> {
  readonly seeds: number;
  readonly values: { readonly [metric: string]: Record<"low" | "mean" | "high", number> };
}

export interface TrialCurves {
  /** Trials that differ only in the requested ratios, from the smallest ratio on; in the legend's order. */
  readonly curves: readonly {
    /** The method, and the options in which curves of this method differ. */
    readonly name: string;
    /** The preset, or the rule with its sign. */
    readonly method: string;
    readonly points: readonly TrialPoint[];
  }[];
  /** The random control, a band a configuration. */
  readonly bands: readonly { readonly name: string; readonly points: readonly BandPoint[] }[];
  readonly front: readonly TrialPoint[];
  /** Trials that skipped more than two points more or fewer queries than requested: they are not on the front. */
  readonly missed: readonly TrialPoint[];
  /** Trials that have no finite place in the plot. */
  readonly dropped: number;
}

interface CurveOptions {
  readonly metrics: readonly CurveMetric[];
  /** Place of a trial on the horizontal axis. */
  readonly x: (trial: Trial) => number | null;
  /** Whether a small `x` is better: curves then run from high to low. */
  readonly falling?: boolean;
  /** Whether trials are on the front, one entry per trial. */
  readonly front: readonly boolean[];
}

function range(values: readonly number[]) {
  return { low: Math.min(...values), mean: mean(values), high: Math.max(...values) };
}

/** Gathers curves; the random control becomes a band over its seeds. */
export function collectTrialCurves(
  trials: readonly Trial[],
  { metrics, x, falling = false, front }: CurveOptions,
): TrialCurves {
  const valuesOf = <V>(value: (name: string) => V) =>
    Object.fromEntries(metrics.map(({ name }) => [name, value(name)]));
  const drawable = trials.filter((trial) =>
    Number.isFinite(x(trial) ?? NaN) && metrics.every(({ name }) => Number.isFinite(readMetric(trial, name)))
  );
  const sorted = <P extends { readonly x: number }>(points: P[]) =>
    points.sort((a, b) => falling ? b.x - a.x : a.x - b.x);
  const pointsOf = (some: readonly Trial[]) =>
    sorted(some.map((trial): TrialPoint => ({
      x: x(trial)!,
      values: valuesOf((name) => readMetric(trial, name)),
      hover: hoverLines(trial).join("<br>"),
    })));
  const bandPoint = (seeds: readonly Trial[]): BandPoint => {
    const values = valuesOf((name) => range(seeds.map((trial) => readMetric(trial, name))));
    return {
      x: mean(seeds.map((trial) => x(trial)!)),
      seeds: new Set(seeds.map(({ seed }) => seed)).size,
      values,
      hover: bandHover(seeds, metrics, values),
    };
  };
  const groups = [...Map.groupBy(drawable, curveKey).values()];
  const names = nameCurves(groups.map((group) => group[0]!));
  const curves: TrialCurves["curves"][number][] = [], bands: { name: string; points: BandPoint[] }[] = [];
  for (const [i, group] of groups.entries()) {
    const name = names[i]!, { fusion } = group[0]!;
    if (findMethod(fusion)?.looks?.random) {
      const points = [...Map.groupBy(group, pointKey).values()].map(bandPoint);
      bands.push({ name, points: sorted(points) });
    } else curves.push({ name, method: methodName(group[0]!), points: pointsOf(group) });
  }
  curves.sort((a, b) => styleRule(a.method).rank - styleRule(b.method).rank);
  return {
    curves,
    bands,
    front: pointsOf(drawable.filter((trial) => front[trials.indexOf(trial)])),
    missed: pointsOf(drawable.filter(missesRequested)),
    dropped: trials.length - drawable.length,
  };
}

function bandHover(
  trials: readonly Trial[],
  metrics: readonly CurveMetric[],
  values: BandPoint["values"],
): string {
  const seeds = [...new Set(trials.map((trial) => trial.seed))].sort((a, b) => Number(a) - Number(b));
  const [title, ...lines] = hoverLines(trials[0]!);
  const spread = (metric: CurveMetric) => {
    const { mean, low, high } = values[metric.name]!,
      shown = (value: number) => formatMetric(metric, value, 3);
    return `${metric.label} ${shown(mean)} (${shown(low)} to ${shown(high)})`;
  };
  return [
    `${title}, mean (range) over seeds ${seeds.join(", ")}`,
    ...metrics.map(spread),
    lines[0],
    ...lines.slice(1 + resultLines(trials[0]!).length).map((line) => line.replace(/( · )?seed \d+/, ""))
      .filter((line) => line !== ""),
  ].join("<br>");
}

const HEIGHT = 430;
/** A horizontal axis of so few points has ticks within them. */
const NARROW = 0.08;
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash"];
/** If there are more curves than this, those of one method share a legend entry. */
const MAX_LEGEND = 14;

interface CurveDrawing {
  readonly title: string;
  /** Description of the figure, in sentences; a sentence about hidden rules is appended. */
  readonly caption: string;
  readonly measure: string;
  /** Title of the horizontal axis, whose numbers are fractions. */
  readonly xTitle: string;
  readonly falling?: boolean;
  readonly yTitle: string;
  readonly percent?: boolean | undefined;
  readonly isLog: boolean;
  /** Lower values are drawn at this one. */
  readonly floor?: number;
  /** The model without a filter, as a line. */
  readonly dense?: { readonly name: string; readonly y: number };
}

export function valuesOfCurves({ curves, bands }: TrialCurves, measure: string): number[] {
  return [
    ...curves.flatMap(({ points }) => points.map(({ values }) => values[measure]!)),
    ...bands.flatMap(({ points }) =>
      points.flatMap(({ values }) => [values[measure]!.low, values[measure]!.high])
    ),
  ];
}

export function drawTrialCurves(numbers: TrialCurves, drawing: CurveDrawing): Figure {
  const { curves, bands, front, missed, dropped } = numbers;
  const { title, caption, measure, xTitle, falling = false, yTitle, percent, isLog, dense } = drawing;
  const { floor = -Infinity } = drawing, raise = (value: number) => Math.max(value, floor);
  if (curves.length === 0 && bands.length === 0) {
    return emptyFigure(title, NO_DECISION);
  }
  const single = curves.length <= MAX_LEGEND, seen = new Map<string, number>();
  const at = (points: readonly TrialPoint[]) => ({
    x: points.map(({ x }) => x),
    y: points.map(({ values }) => raise(values[measure]!)),
  });
  const data = [
    ...bands.flatMap((band, i) => bandTraces(band, (range, end) => raise(range[measure]![end]), i)),
    ...curves.map(({ name, method, points }) => {
      const { color, symbol, dash } = styleRule(method), nth = seen.get(method) ?? 0;
      seen.set(method, nth + 1);
      const isOpen = nth === 0 || symbol.endsWith("-open");
      return trace({
        ...at(points),
        name: single ? name : method,
        ...(!single && { legendgroup: method, showlegend: nth === 0 }),
        hover: points.map(({ hover }) => hover),
        ...(points.length > 1 && {
          line: { color, width: 2, dash: nth === 0 ? dash : DASHES[nth % DASHES.length]! },
        }),
        marker: markOf(color, isOpen ? symbol : `${symbol}-open`, 9),
      });
    }),
    trace({
      ...at(front),
      name: "Pareto front",
      line: { color: "@ink", width: 1, dash: "dot" },
      marker: markOf("@ink", "circle-open", 17, 1.5),
    }),
  ];
  if (missed.length > 0) {
    data.push(
      trace({ ...at(missed), name: "missed the requested ratio", marker: markOf("@ink", "x-thin", 18, 2.5) }),
    );
  }
  const places = placesOf(numbers, falling);
  if (dense) {
    const { name, y } = dense, line = { color: "@ink", width: 1 };
    data.push(trace({ name, x: [Math.min(...places), Math.max(...places)], y: [y, y], line }));
  }
  const labels = single
    ? labelCurves(
      curveEnds(numbers, drawing),
      { x: places, y: [...valuesOfCurves(numbers, measure).map(raise), ...(dense ? [dense.y] : [])] },
      { height: HEIGHT, isLog },
    )
    : undefined;
  const lost = dropped === 0
    ? ""
    : ` ${plural(dropped, "trial")} without a finite value or a decided token left out.`;
  const off = missed.length === 0
    ? ""
    : ` CROSSED OUT: ${plural(missed.length, "trial")} that skipped more than 2 \
points more or fewer queries than requested, not to be compared with others.`;
  const xRange = labels && (falling ? labels.x.toReversed() : labels.x);
  return chart({
    title,
    caption: caption + lost + off,
    height: HEIGHT,
    data,
    xaxis: axis(xTitle, {
      tickformat: Math.max(...places) - Math.min(...places) < NARROW ? ".1%" : ".0%",
      ...(xRange ? { range: xRange } : falling ? { autorange: "reversed" } : {}),
    }),
    yaxis: axis(`${yTitle}${isLog ? " (log scale)" : ""}`, {
      // A label per decade, where the axis has one: a "2" or "5" between them reads as a value.
      ...(isLog ? { type: "log", ...(labels && labels.y[1]! - labels.y[0]! >= 1 && { dtick: 1 }) } : {}),
      ...(labels ? { range: labels.y } : dense || isLog ? {} : { rangemode: "tozero" }),
      ...(percent ? { tickformat: ".0%" } : {}),
    }),
    ...labels?.layout,
  });
}

function curveEnds(
  { curves, bands }: TrialCurves,
  { measure, falling, dense, floor = -Infinity }: CurveDrawing,
): CurveEnd[] {
  const ends = [
    ...curves.map(({ name, method, points }) => {
      const { x, values } = points.at(-1)!;
      return { name, color: styleRule(method).color, x, y: Math.max(values[measure]!, floor) };
    }),
    ...bands.map(({ name, points }) => {
      const { x, values } = points.at(-1)!;
      return { name, color: "@muted", x, y: Math.max(values[measure]!.mean, floor) };
    }),
  ];
  if (!dense) return ends;
  const x = (falling ? Math.min : Math.max)(...ends.map((end) => end.x));
  return [...ends, { name: dense.name, color: "@ink", x, y: dense.y }];
}

function bandTraces(
  band: TrialCurves["bands"][number],
  endOf: (values: BandPoint["values"], end: "low" | "mean" | "high") => number,
  nth: number,
): JsonObject[] {
  const common = { x: band.points.map(({ x }) => x), legendgroup: band.name };
  const at = (end: "low" | "mean" | "high") => band.points.map(({ values }) => endOf(values, end));
  const edge = { ...common, line: { width: 0 }, showlegend: false };
  // The mean has the lower half of the ground, so that the legend shows both as the plot does.
  const fill = { fill: "tonexty", fillcolor: "@band" };
  return [
    trace({ ...edge, y: at("low") }),
    trace({
      ...common,
      ...fill,
      name: band.name,
      y: at("mean"),
      hover: band.points.map(({ hover }) => hover),
      line: { color: "@muted", width: 2, dash: DASHES[(nth + 1) % DASHES.length]! },
      marker: markOf("@muted", "line-ew", 9),
    }),
    trace({ ...edge, ...fill, y: at("high") }),
  ];
}

/** Places of all points on the horizontal axis; from the full model's on if there is only one, so that its line has a length. */
function placesOf({ curves, bands }: TrialCurves, falling: boolean): number[] {
  const places = [...curves, ...bands].flatMap(({ points }) => points.map((p: { x: number }) => p.x));
  return new Set(places).size === 1 ? [falling ? 1 : 0, ...places] : places;
}
