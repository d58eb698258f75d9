/** Weight of the key side under the fusion rule, token by token. */
import { chooseLayer } from "../../figure/choice_slider.ts";
import { axis, emptyFigure, type Figure, type JsonObject } from "../../figure/figure.ts";
import { bandTraces, chart, dashedLine, shorten, trace } from "../../figure/parts.ts";
import { type LayerTrace, numbersOf, positionsOf, quantileOf } from "./layer_trace.ts";
import { hoverToken } from "./score_timeline.ts";

interface WeightLayer {
  readonly layer: number;
  /** Index in its sequence of each token that has a weight. */
  readonly position: readonly number[];
  readonly wK: readonly number[];
  /** Empty where unknown. */
  readonly texts: readonly string[];
  /** Quartiles over the window around each token: lower, median, upper. */
  readonly low: readonly number[];
  readonly middle: readonly number[];
  readonly high: readonly number[];
}

/** @internal The numbers of the plot. */
export interface FusionWeights {
  readonly window: number;
  readonly layers: readonly WeightLayer[];
}

/**
 * Gathers the weights of one sequence, and their quartiles over a window centred on each token (cut at the ends).
 *
 * @param options `texts`: one per token; `window`: an odd number of tokens, default 33.
 * @throws {RangeError} If the window is not an odd number from 1 on.
 */
export function collectFusionWeights(
  traces: readonly Pick<LayerTrace, "layer" | "position" | "wK" | "keep">[],
  { texts, window = 33 }: { readonly texts?: readonly string[]; readonly window?: number } = {},
): FusionWeights {
  if (!Number.isInteger(window) || window < 1 || window % 2 === 0) {
    throw new RangeError(
      `Cannot gather weights: found a window of ${window}, expected an odd number from 1 on`,
    );
  }
  return {
    window,
    layers: traces.map((trace) => {
      const weights = numbersOf(trace.wK), positions = positionsOf(trace);
      const rows = weights.map((_, t) => t).filter((t) => weights[t] !== null);
      const wK = rows.map((t) => weights[t]!), half = window >> 1;
      const around = wK.map((_, i) => wK.slice(Math.max(0, i - half), i + half + 1).sort((a, b) => a - b));
      const quantile = (q: number) => around.map((sorted) => quantileOf(sorted, q)!);
      return {
        layer: trace.layer,
        position: rows.map((t) => positions[t]!),
        wK,
        texts: rows.map((t) => texts?.[t]).filter((text) => text !== undefined),
        low: quantile(0.25),
        middle: quantile(0.5),
        high: quantile(0.75),
      };
    }),
  };
}

/** Draws one layer at a time. */
export function plotFusionWeights({ window, layers }: FusionWeights): Figure {
  const title = "Fusion weight of the keys over time";
  if (layers.every(({ wK }) => wK.length === 0)) {
    return emptyFigure(title, "No weights: the rule has none. variance, mean, static, key and value do.");
  }
  const { data, layout } = chooseLayer(layers, (layer) => tracesOf(layer, window));
  return chart({
    title,
    caption:
      "1 = the score is the keys' alone, 0 = the values' alone; at 0.5 both weigh the same. Under variance the " +
      `side on which the heads agree weighs more. Line and band: median and quartiles of ${window} tokens around.`,
    height: 400,
    data,
    xaxis: axis("token, index in its sequence", { tickformat: "d" }),
    yaxis: axis("weight of the keys, wK", { range: [-0.03, 1.03] }),
    shapes: [dashedLine("y", 0.5, "@muted")],
    ...layout,
  });
}

function tracesOf({ position, wK, texts, low, middle, high }: WeightLayer, window: number): JsonObject[] {
  return [
    ...bandTraces(position, { low: shorten(low), high: shorten(high) }, "@band"),
    trace({
      name: "token",
      x: position,
      y: shorten(wK),
      text: wK.map((_, i) => hoverToken(texts[i])),
      hover: "<b>%{text}</b> (%{x})<br>weight of the keys %{y:.3f}",
      marker: { color: "@series5", size: 4.5, symbol: "circle" },
    }),
    trace({
      name: `median of ${window} tokens`,
      x: position,
      y: shorten(middle),
      hover: "median around token %{x}: %{y:.3f}",
      line: { color: "@series1", width: 2.5 },
    }),
  ];
}
