/** How scores are spread in each layer: one ridge a layer. */
import { axis, emptyFigure, type Figure, type JsonObject } from "../../figure/figure.ts";
import { chart, missingTokens, shorten, trace } from "../../figure/parts.ts";
import { definedOf, type LayerTrace, medianOf, quantileOf } from "../one_run/layer_trace.ts";

export interface Ridge {
  readonly layer: number;
  readonly count: number;
  /** Density at each point of the grid; all 0 where there is no score. */
  readonly density: readonly number[];
  readonly median: number | null;
  readonly theta: number | null;
}

/** @internal The numbers of the plot. */
export interface Ridgelines {
  /** Points at which densities are given, ascending. */
  readonly grid: readonly number[];
  /** One a layer, ascending. */
  readonly ridges: readonly Ridge[];
}

const GRID_POINTS = 121;

/** The grid extends beyond the scores by this part of their range on either side, for the tails of the densities. */
const GRID_MARGIN = 0.06;

/**
 * Estimates the density of each layer's scores with a Gaussian kernel, bandwidth by Silverman's rule (0.9 min(sd,
 * IQR/1.34) n^-1/5). All layers share one grid over their scores, with 6% of the range added on either side.
 */
export function collectRidgelines(
  traces: readonly Pick<LayerTrace, "layer" | "redundancy" | "threshold">[],
): Ridgelines {
  const scores = traces.map(({ redundancy }) => definedOf(redundancy).sort((a, b) => a - b));
  const low = Math.min(...scores.map((own) => own[0] ?? Infinity));
  const high = Math.max(...scores.map((own) => own.at(-1) ?? -Infinity));
  const span = high - low || 1, start = low - GRID_MARGIN * span, end = high + GRID_MARGIN * span;
  const grid = low <= high
    ? Array.from({ length: GRID_POINTS }, (_, i) => start + (end - start) * i / (GRID_POINTS - 1))
    : [];
  return {
    grid,
    ridges: traces.map(({ layer, threshold }, i) => ({
      layer,
      count: scores[i]!.length,
      density: estimateDensity(scores[i]!, grid),
      median: quantileOf(scores[i]!, 0.5),
      theta: medianOf(definedOf(threshold)),
    })),
  };
}

/**
 * The same of the true redundancy, as -log10(r): high = the attention adds little. The threshold is the one above which
 * a token counts as redundant.
 *
 * @param shareOf The fraction of a layer's tokens that counts as redundant.
 */
export function collectTrueRedundancy(
  traces: readonly Pick<LayerTrace, "layer" | "r">[],
  shareOf: (layer: number) => number,
): Ridgelines {
  return collectRidgelines(traces.map(({ layer, r = [] }) => {
    const redundancy = definedOf(r).filter((x) => x > 0).map((x) => -Math.log10(x)).sort((a, b) => a - b);
    return { layer, redundancy, threshold: [quantileOf(redundancy, 1 - shareOf(layer))] };
  }));
}

export function estimateDensity(sorted: readonly number[], grid: readonly number[]): number[] {
  const n = sorted.length;
  if (n === 0) return grid.map(() => 0);
  const mean = sorted.reduce((a, b) => a + b, 0) / n;
  const sd = Math.sqrt(sorted.reduce((sum, x) => sum + (x - mean) ** 2, 0) / n);
  const iqr = (quantileOf(sorted, 0.75)! - quantileOf(sorted, 0.25)!) / 1.34;
  const spread = (grid.at(-1)! - grid[0]!) / grid.length || 1;
  // Equal scores have no width of their own: they show as a peak one step of the grid wide.
  const width = Math.max(0.9 * (iqr > 0 ? Math.min(sd, iqr) : sd) * n ** -0.2, spread);
  return grid.map((x) =>
    sorted.reduce((sum, s) => sum + Math.exp(-0.5 * ((x - s) / width) ** 2), 0) /
    (n * width * Math.sqrt(2 * Math.PI))
  );
}

/** Part of the space between two baselines that the highest ridge takes, above 1 where ridges overlap. */
const OVERLAP = 1.6;

const WORDS = {
  score: {
    title: "Scores per layer",
    missing: missingTokens("a score"),
    caption:
      "Density of the scores in each layer, each scaled to one height. The stronger blue lies above the layer's " +
      "median threshold: such tokens are skipped. The tick is the median score. Where two groups of tokens stand " +
      "apart, the rule has something to tell them by.",
    axis: "score S",
  },
  "true redundancy": {
    title: "True redundancy per layer",
    missing: "The true redundancy was not measured. deno task heads measures it.",
    caption:
      "How little attention adds to a token in each layer: o is its output, x what that is added to; at 2 the " +
      "output is a hundredth as long. Densities, each scaled to one height. The stronger blue is the fraction that the layer " +
      "is asked to skip; the tick is the median. A layer far to the right can spare its attention; a wide one has tokens to choose from.",
    axis: "−log10(norm(o) / norm(x))",
  },
};

/** Draws the ridges, the first layer on top. */
export function plotRidgelines(
  { grid, ridges }: Ridgelines,
  quantity: "score" | "true redundancy" = "score",
): Figure {
  const { title, missing, caption, axis: label } = WORDS[quantity];
  if (grid.length === 0) return emptyFigure(title, missing);
  // Peaks may be a hundred times as high as others: each ridge has its own height, and its area has no meaning.
  const data = ridges.flatMap((ridge, row) => drawRidge(ridge, -row, grid));
  const pixels = Math.max(16, Math.min(44, 640 / ridges.length));
  return chart({
    title,
    caption,
    height: 110 + pixels * (ridges.length + OVERLAP),
    data,
    xaxis: axis(label, { range: [grid[0]!, grid.at(-1)!] }),
    yaxis: axis("layer", {
      showgrid: false,
      range: [0.4 - ridges.length, OVERLAP + 0.1],
      tickmode: "array",
      ...thinTicks(ridges),
    }),
    showlegend: false,
  });
}

function thinTicks(ridges: readonly Ridge[]): JsonObject {
  const every = Math.ceil(ridges.length / 20);
  const rows = ridges.map((_, row) => row).filter((row) => row % every === 0);
  return { tickvals: rows.map((row) => -row), ticktext: rows.map((row) => String(ridges[row]!.layer)) };
}

function drawRidge(ridge: Ridge, base: number, grid: readonly number[]): JsonObject[] {
  const top = Math.max(...ridge.density);
  if (!(top > 0)) return [];
  const y = ridge.density.map((d) => base + OVERLAP * d / top);
  const cut = ridge.theta === null ? grid.length : grid.findIndex((x) => x > ridge.theta!);
  const above = cut < 0 ? grid.length : cut;
  const text = `layer ${ridge.layer}<br>${ridge.count} scores, median ${ridge.median!.toFixed(3)}<br>` +
    `threshold ${ridge.theta === null ? "none" : `${ridge.theta.toFixed(3)} (median)`}`;
  const area = (from: number, to: number, fillcolor: string) =>
    trace({
      x: shorten([grid[from]!, ...grid.slice(from, to), grid[to - 1]!]),
      y: shorten([base, ...y.slice(from, to), base]),
      fill: "toself",
      fillcolor,
      line: { width: 0 },
    });
  const nearest = grid.findIndex((x) => x >= ridge.median!);
  return [
    area(0, grid.length, "@heat1"),
    ...(above < grid.length - 1 ? [area(above, grid.length, "@heat3")] : []),
    trace({
      name: `layer ${ridge.layer}`,
      x: shorten(grid),
      y: shorten(y),
      hover: text,
      line: { color: "@heat4", width: 1.2 },
    }),
    trace({
      x: shorten([ridge.median, ridge.median]),
      y: shorten([base, y[nearest]!]),
      line: { color: "@ink", width: 1.5 },
    }),
  ];
}
