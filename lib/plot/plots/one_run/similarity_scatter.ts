/** Key against value similarity of tokens, kept and skipped ones, with the line where the rule decides. */
import { choose } from "../../figure/choice_slider.ts";
import { axis, emptyFigure, type Figure, type JsonObject } from "../../figure/figure.ts";
import { chart, decisionMark, missingTokens, shorten, trace } from "../../figure/parts.ts";
import { definedOf, type LayerTrace, medianOf, numbersOf, positionsOf, quantileOf } from "./layer_trace.ts";
import type { TimelineLayer } from "./score_timeline.ts";

interface SimilarityLayer extends Omit<TimelineLayer, "threshold" | "skipped"> {
  /** Means over heads of the cosines of keys and of values. */
  readonly muK: readonly number[];
  readonly muV: readonly number[];
  /**
   * Where S equals the median threshold: under the median weight, then under the 10% and the 90% quantile of the
   * weights where weights vary. Empty for rules that are no function of the two means.
   */
  readonly boundaries: readonly Boundary[];
}

/** A line in the plane of the two similarities, within [-1, 1]. */
interface Boundary {
  readonly name: string;
  readonly x: readonly number[];
  readonly y: readonly number[];
}

/** @internal The numbers of the plot. */
export interface SimilarityScatter {
  readonly layers: readonly SimilarityLayer[];
  /** Whether the rule is inverted: tokens below the boundary are skipped, not those above it. */
  readonly inverted: boolean;
}

/** @internal Options that move the boundary, besides weights and thresholds. */
export interface BoundaryOptions {
  /** The fusion rule: `min`, `max` and `product` have bent boundaries; the weights of the others define theirs. */
  readonly rule?: string;
  /** Whether the score is negated. Default false. */
  readonly invert?: boolean;
  /** `variance`: how much disagreement of heads lowers the score. Default 0. */
  readonly lambda?: number;
}

/** Gathers tokens that have both similarities. */
export function collectSimilarityScatter(
  traces: readonly LayerTrace[],
  options: BoundaryOptions = {},
): SimilarityScatter {
  return {
    inverted: options.invert ?? false,
    layers: traces.map((trace) => {
      const muK = numbersOf(trace.muK), muV = numbersOf(trace.muV), redundancy = numbersOf(trace.redundancy);
      const position = positionsOf(trace);
      const rows = muK.map((_, t) => t).filter((t) => muK[t] !== null && muV[t] !== null);
      return {
        layer: trace.layer,
        position: rows.map((t) => position[t]!),
        muK: rows.map((t) => muK[t]!),
        muV: rows.map((t) => muV[t]!),
        redundancy: rows.map((t) => redundancy[t]!),
        keep: rows.map((t) => trace.keep[t] === 1),
        boundaries: findBoundaries(trace, options),
      };
    }),
  };
}

function findBoundaries(
  trace: LayerTrace,
  { rule, invert = false, lambda = 0 }: BoundaryOptions,
): Boundary[] {
  const median = medianOf(definedOf(trace.threshold));
  if (median === null) return [];
  const theta = invert ? -median : median;
  const weights = definedOf(trace.wK).sort((a, b) => a - b);
  const bend = boundaryOfRule(rule, theta);
  if (bend !== undefined) return [{ name: "at the median threshold", ...bend }];
  if (weights.length === 0) return [];
  const varies = weights[0]! < weights.at(-1)!;
  const shares = varies ? [0.5, 0.1, 0.9] : [0.5];
  const deviation = (variances: LayerTrace["varK"]) => Math.sqrt(medianOf(definedOf(variances)) ?? 0);
  return shares.map((share) => {
    const weight = quantileOf(weights, share)!;
    const which = share === 0.5 ? "median" : `${100 * share}% quantile`;
    // The score is lower by lambda times the weighted deviation across heads, taken at its median.
    const lowered = lambda === 0
      ? 0
      : lambda * (weight * deviation(trace.varK) + (1 - weight) * deviation(trace.varV));
    return {
      name: `at the median threshold${varies ? ` and the ${which} of the weights` : ""}`,
      ...straight(weight, theta + lowered),
    };
  });
}

/** The line w x + (1-w) y = theta within the square [-1, 1] x [-1, 1]; empty where it passes by. */
function straight(w: number, theta: number): { x: number[]; y: number[] } {
  const points: [number, number][] = [];
  for (const edge of [-1, 1]) {
    if (w < 1) points.push([edge, (theta - w * edge) / (1 - w)]);
    if (w > 0) points.push([(theta - (1 - w) * edge) / w, edge]);
  }
  const inside = points.filter((point) => point.every((c) => Math.abs(c) <= 1 + 1e-12))
    .sort(([a, b], [c, d]) => a - c || b - d);
  const ends = inside.length === 0 ? [] : [inside[0]!, inside.at(-1)!];
  return { x: ends.map(([x]) => x), y: ends.map(([, y]) => y) };
}

/** Where the rules that bend decide; undefined for the others. */
function boundaryOfRule(rule: string | undefined, theta: number): { x: number[]; y: number[] } | undefined {
  if (rule === "min") return { x: [theta, theta, 1], y: [1, theta, theta] };
  if (rule === "max") return { x: [-1, theta, theta], y: [theta, theta, -1] };
  if (rule !== "product") return undefined;
  if (theta <= 0) return { x: [], y: [] };
  // x y = theta, the branch where both are positive.
  const steps = 64, x = Array.from({ length: steps + 1 }, (_, i) => theta ** (1 - i / steps));
  return { x, y: x.map((x) => theta / x) };
}

/**
 * Draws one layer at a time.
 *
 * @example
 * ```ts
 * import { TokenFilter } from "@tokenfilter/tokenfilter";
 * import { collectSimilarityScatter, plotSimilarityScatter } from "@tokenfilter/tokenfilter/plot";
 * const shape = { numLayers: 1, numHeads: 1, numKvHeads: 1, headDim: 2, hiddenSize: 2 };
 * const keys = Float32Array.of(1, 0, 1, 1, 0, 1, 1, 2), values = keys.map((x) => x + 1);
 * const rows = new TokenFilter(shape, { tail: 1, warmup: 1 }).start().scan(0, keys, values);
 * const scatter = collectSimilarityScatter([{ layer: 0, ...rows }]);
 * console.assert(scatter.layers[0]!.muK.length === 3); // the first token has no similarity
 * console.assert(plotSimilarityScatter(scatter).data.length > 2);
 * ```
 */
export function plotSimilarityScatter({ layers, inverted }: SimilarityScatter): Figure {
  const bounded = layers.some(({ boundaries }) => boundaries.some(({ x }) => x.length > 0));
  const title = `Key against value similarity${bounded ? ", and where the rule decides" : ""}`;
  if (layers.every(({ muK }) => muK.length === 0)) {
    return emptyFigure(title, missingTokens("similarities"));
  }
  const drawn = layers.filter(({ muK }) => muK.length > 0);
  const shown = drawn.length >> 1;
  const { data, layout } = choose(
    "layer",
    drawn.map((layer) => ({
      label: String(layer.layer),
      traces: tracesOf(layer),
      layout: { "xaxis.range": rangeOf(layer.muK), "yaxis.range": rangeOf(layer.muV) },
    })),
    { shown },
  );
  const varies = drawn.some(({ boundaries }) => boundaries.length > 1);
  return chart({
    title,
    caption: "A point a token: means over heads of the cosines of its keys and values with their anchors." +
      (bounded
        ? describeBoundary(varies, inverted)
        : " The rule goes by more than these two, or by neither."),
    height: 470,
    data,
    xaxis: axis("key similarity, mean over heads (cosine)", { range: rangeOf(drawn[shown]!.muK) }),
    yaxis: axis("value similarity, mean over heads (cosine)", { range: rangeOf(drawn[shown]!.muV) }),
    ...layout,
  });
}

function describeBoundary(varies: boolean, inverted: boolean): string {
  const side = inverted ? "Down and left" : "Up and right", weights = varies ? " and weights" : "";
  const line = varies ? " and weight; the dotted ones, of the 10% and 90% quantiles of the weights" : "";
  return ` ${side} of the line a token is skipped. The line is that of the median threshold${line}. Thresholds${weights} ` +
    "move with every token, so points may lie on the other side of the line than their mark says.";
}

/** The range of an axis that shows all of some cosines. */
function rangeOf(values: readonly number[]): [number, number] {
  const low = values.reduce((a, b) => Math.min(a, b)), high = values.reduce((a, b) => Math.max(a, b));
  const pad = 0.04 * (high - low) + 0.01;
  return [Math.max(-1.02, low - pad), Math.min(1.02, high + pad)];
}

function tracesOf(layer: SimilarityLayer): JsonObject[] {
  const points = (keep: boolean) => {
    const rows = layer.keep.map((_, t) => t).filter((t) => layer.keep[t] === keep);
    return trace({
      name: keep ? "kept" : "skipped",
      x: shorten(rows.map((t) => layer.muK[t]!)),
      y: shorten(rows.map((t) => layer.muV[t]!)),
      customdata: rows.map((t) => layer.position[t]!),
      text: shorten(rows.map((t) => layer.redundancy[t]!)).map((s) => s === null ? "none" : String(s)),
      hover: "token %{customdata}<br>keys %{x:.3f} · values %{y:.3f}<br>score %{text}",
      marker: decisionMark(keep, 7),
    });
  };
  const lines = layer.boundaries.filter(({ x }) => x.length > 0).map(({ name, x, y }, i) =>
    trace({
      name: i === 0 ? "decision boundary" : name,
      showlegend: i === 0,
      x: shorten(x, 6),
      y: shorten(y, 6),
      line: { color: "@ink", width: i === 0 ? 2 : 1, dash: i === 0 ? "solid" : "dot" },
    })
  );
  return [points(true), points(false), ...lines];
}
