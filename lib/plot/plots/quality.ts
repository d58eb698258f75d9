/** Perplexity and KL divergence against the achieved skip ratio, one curve a configuration. */
import type { SweepSummary, Trial } from "../../sweep/trial.ts";
import { axis, baseLayout, emptyFigure, Figure, type Json } from "../figure/figure.ts";
import { styleRule } from "../figure/rule_style.ts";
import { curveKey, hoverLines, nameCurves, pointKey, ruleName } from "../figure/trial_label.ts";

/** One trial in a plot. */
export interface QualityPoint {
  /** Achieved skip ratio. */
  readonly ratio: number;
  /** Perplexity of the filtered model. */
  readonly perplexity: number;
  /** Mean KL divergence, nats. */
  readonly kl: number;
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
  /** Perplexity over the seeds. */
  readonly perplexity: Range;
  /** Mean KL divergence over the seeds, nats. */
  readonly kl: Range;
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

/** The numbers of the plot. */
export interface Quality {
  /** Curves, in the order of the legend. */
  readonly curves: readonly QualityCurve[];
  /** The random control, a band a configuration. */
  readonly bands: readonly { readonly name: string; readonly points: readonly BandPoint[] }[];
  /** Trials on the Pareto front. */
  readonly front: readonly QualityPoint[];
  /** Of the model without a filter. */
  readonly densePerplexity: number;
  /** Trials that have no finite place in the plot. */
  readonly dropped: number;
}

const point = (trial: Trial): QualityPoint => ({
  ratio: trial.achievedRatio!,
  perplexity: trial.perplexity,
  kl: trial.kl,
  hover: hoverLines(trial).join("<br>"),
});

function range(values: readonly number[]): Range {
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  return { low: Math.min(...values), mean, high: Math.max(...values) };
}

/** Gathers what the plot shows; the random control becomes a band over its seeds. */
export function collectQuality(summary: SweepSummary): Quality {
  const drawable = summary.trials.filter((trial) =>
    trial.achievedRatio !== null && Number.isFinite(trial.perplexity) && Number.isFinite(trial.kl)
  );
  const groups = [...Map.groupBy(drawable, curveKey).values()];
  const names = nameCurves(groups.map((group) => group[0]!));
  const curves: QualityCurve[] = [];
  const bands: { name: string; points: BandPoint[] }[] = [];
  for (const [i, group] of groups.entries()) {
    const { fusion, invert } = group[0]!;
    if (fusion === "random") {
      const points = [...Map.groupBy(group, pointKey).values()];
      bands.push({ name: names[i]!, points: points.map(bandPoint).sort((a, b) => a.ratio - b.ratio) });
    } else {
      const points = group.map(point).sort((a, b) => a.ratio - b.ratio);
      curves.push({ name: names[i]!, rule: ruleName(group[0]!), fusion, invert, points });
    }
  }
  const front = drawable.filter((trial) => trial.pareto).map(point).sort((a, b) => a.ratio - b.ratio);
  curves.sort((a, b) => styleRule(a.rule).rank - styleRule(b.rule).rank);
  return {
    curves,
    bands,
    front,
    densePerplexity: summary.dense.perplexity,
    dropped: summary.trials.length - drawable.length,
  };
}

function bandPoint(trials: readonly Trial[]): BandPoint {
  const perplexity = range(trials.map((trial) => trial.perplexity));
  const kl = range(trials.map((trial) => trial.kl));
  const seeds = [...new Set(trials.map((trial) => trial.seed))].sort((a, b) => Number(a) - Number(b));
  const [title, ...lines] = hoverLines(trials[0]!);
  const spread = ({ mean, low, high }: Range, digits: number) =>
    `${mean.toFixed(digits)} (${low.toFixed(digits)} to ${high.toFixed(digits)})`;
  return {
    ratio: range(trials.map((trial) => trial.achievedRatio!)).mean,
    seeds: seeds.length,
    perplexity,
    kl,
    hover: [
      `${title}, mean (range) over seeds ${seeds.join(", ")}`,
      `perplexity ${spread(perplexity, 2)}`,
      `KL ${spread(kl, 3)}`,
      lines[0],
      ...lines.slice(4).map((line) => line.replace(/( · )?seed \d+/, "")).filter((line) => line !== ""),
    ].join("<br>"),
  };
}

const DASHES = ["solid", "dash", "dot", "dashdot", "longdash"];
/** More curves than this share one legend entry a rule. */
const MAX_LEGEND = 14;

/** Draws one of the two measures. */
export function plotQuality(quality: Quality, measure: "perplexity" | "kl"): Figure {
  const { curves, bands, front, densePerplexity, dropped } = quality;
  const isPerplexity = measure === "perplexity";
  const title = isPerplexity
    ? "Perplexity against skipped attention"
    : "Distance from the dense model against skipped attention";
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
    y: front.map((p) => p[measure]),
    hoverinfo: "skip",
    line: { color: "@ink", width: 1, dash: "dot" },
    marker: { symbol: "circle-open", size: 17, line: { width: 1.5 }, color: "@ink" },
  });
  const values = [
    ...curves.flatMap((curve) => curve.points.map((p) => p[measure])),
    ...bands.flatMap((band) => band.points.map((p) => p[measure].high)),
  ];
  const wide = isPerplexity && Math.max(...values) > 8 * densePerplexity;
  if (isPerplexity) data.push(denseTrace(quality));
  const lost = dropped === 0
    ? ""
    : ` ${
      dropped === 1 ? "1 trial" : `${dropped} trials`
    } without a finite value or a decided token left out.`;
  return new Figure({
    title,
    caption: (isPerplexity
      ? "Lower is better. " +
        (bands.length === 0
          ? ""
          : "A rule is worth something where it lies below the grey band of the random control " +
            "(mean and range over its seeds) with the same recent window. ") +
        "Rings mark the Pareto front of on-line trials; oracle and topk look ahead and stand outside it."
      : "Mean KL(dense || filtered) of the next-token distributions, in nats; lower is better. Rings mark the trials " +
        "on the Pareto front of perplexity.") + lost,
    height: 430,
    data,
    layout: baseLayout({
      xaxis: axis("attention skipped, all layers", {
        rangemode: "tozero",
        tickformat: ".0%",
      }),
      yaxis: axis(isPerplexity ? `perplexity${wide ? " (log scale)" : ""}` : "KL divergence (nats)", {
        ...(wide ? { type: "log" } : isPerplexity ? {} : { rangemode: "tozero" }),
      }),
      legend: { orientation: "h", x: 0, y: -0.2, yanchor: "top", font: { size: 12 } },
      hovermode: "closest",
    }),
  });
}

function curveTrace(
  curve: QualityCurve,
  measure: "perplexity" | "kl",
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
    y: curve.points.map((p) => p[measure]),
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
  measure: "perplexity" | "kl",
  nth: number,
): { [key: string]: Json }[] {
  const x = band.points.map((p) => p.ratio);
  const group = { legendgroup: band.name, type: "scatter" };
  const edge = { ...group, x, mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false };
  return [
    { ...edge, y: band.points.map((p) => p[measure].high) },
    { ...edge, y: band.points.map((p) => p[measure].low), fill: "tonexty", fillcolor: "@band" },
    {
      ...group,
      name: band.name,
      x,
      y: band.points.map((p) => p[measure].mean),
      mode: "lines+markers",
      text: band.points.map((p) => p.hover),
      hovertemplate: "%{text}<extra></extra>",
      line: { color: "@muted", width: 2, dash: DASHES[(nth + 1) % DASHES.length]! },
      marker: { color: "@muted", symbol: "line-ew", size: 9, line: { color: "@muted", width: 2 } },
    },
  ];
}

function denseTrace({ curves, bands, densePerplexity }: Quality): { [key: string]: Json } {
  const ratios = [...curves, ...bands].flatMap((curve) =>
    curve.points.map((p: { ratio: number }) => p.ratio)
  );
  return {
    name: `dense (${densePerplexity.toFixed(2)})`,
    type: "scatter",
    mode: "lines",
    x: [0, Math.max(0.1, ...ratios)],
    y: [densePerplexity, densePerplexity],
    hoverinfo: "skip",
    line: { color: "@ink", width: 1 },
  };
}
