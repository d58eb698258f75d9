/** Score and threshold, token by token, with the skipped tokens marked. */
import { chooseLayer } from "../../figure/choice_slider.ts";
import { axis, emptyFigure, escapeText, type Figure, type JsonObject } from "../../figure/figure.ts";
import { chart, decisionMark, missingTokens, shorten, trace } from "../../figure/parts.ts";
import { type LayerTrace, numbersOf, positionsOf } from "./layer_trace.ts";

export interface TimelineLayer {
  readonly layer: number;
  readonly position: readonly number[];
  /** Score S; null where there was none. */
  readonly redundancy: readonly (number | null)[];
  readonly threshold: readonly (number | null)[];
  readonly keep: readonly boolean[];
  /** Fraction of the tokens past the warm-up that was skipped; null of none. */
  readonly skipped: number | null;
}

const GROUND = "Grey ground: the warm-up, where every token is kept.";
const WORDS: {
  readonly [D in ScoreTimeline["of"]]: {
    readonly title: string;
    readonly gone: string;
    readonly caption: string;
  };
} = {
  queries: {
    title: "Score and threshold over time",
    gone: "skipped",
    caption:
      "A token is skipped where its score lies above the threshold, which follows the scores so that the " +
      `requested ratio is skipped. ${GROUND}`,
  },
  keys: {
    title: "Score and threshold over time",
    gone: "evicted",
    caption:
      "Key and value are evicted where the token's score lies above the threshold, which follows the scores " +
      `so that the requested ratio is evicted. ${GROUND}`,
  },
  ranks: {
    title: "Last score of each token",
    gone: "evicted",
    caption:
      "The cached tokens are ranked again at every block start, and those of lowest score are evicted. The " +
      `plot shows the last score of each. ${GROUND}`,
  },
};

/** @internal The numbers of the plot. */
export interface ScoreTimeline {
  /** What is decided: queries to skip, keys and values to evict by a threshold, or those of lowest rank. */
  readonly of: "queries" | "keys" | "ranks";
  readonly layers: readonly TimelineLayer[];
  readonly texts: readonly string[] | undefined;
  /** Tokens at the start of the sequence that were kept whatever their score. */
  readonly warmup: number;
}

/**
 * Gathers decisions of one sequence.
 *
 * @param options `texts`: one per token; `warmup`: tokens at the start of the sequence that were kept (default 0); `of`:
 * what was decided (default: queries).
 */
export function collectScoreTimeline(
  traces: readonly Pick<LayerTrace, "layer" | "position" | "redundancy" | "threshold" | "keep">[],
  { texts, warmup = 0, of = "queries" }: {
    readonly texts?: readonly string[];
    readonly warmup?: number;
    readonly of?: ScoreTimeline["of"];
  } = {},
): ScoreTimeline {
  return {
    of,
    texts,
    warmup,
    layers: traces.map((trace) => {
      const position = positionsOf(trace), keep = Array.from(trace.keep, (k) => k === 1);
      const decided = keep.filter((_, t) => position[t]! >= warmup);
      return {
        layer: trace.layer,
        position,
        redundancy: numbersOf(trace.redundancy),
        threshold: numbersOf(trace.threshold),
        keep,
        skipped: decided.length === 0 ? null : decided.filter((k) => !k).length / decided.length,
      };
    }),
  };
}

/**
 * Draws one layer at a time.
 *
 * @example
 * ```ts
 * import { collectScoreTimeline, plotScoreTimeline } from "@tokenfilter/tokenfilter/plot";
 * const trace = { layer: 5, redundancy: [NaN, 0.9, 0.1], threshold: [NaN, 0.5, 0.6], keep: [1, 0, 1] };
 * const figure = plotScoreTimeline(collectScoreTimeline([trace], { texts: ["One", " two", " three"] }));
 * const skipped = figure.data.find(({ name }) => name === "skipped")!;
 * console.assert(String(skipped.x) === "1" && String(skipped.y) === "0.9");
 * ```
 */
export function plotScoreTimeline(timeline: ScoreTimeline): Figure {
  const { layers, warmup, of } = timeline, { title, caption } = WORDS[of];
  if (layers.every(({ redundancy }) => redundancy.every((s) => s === null))) {
    return emptyFigure(title, missingTokens("a score"));
  }
  const { data, layout } = chooseLayer(layers, (layer) => tracesOf(layer, timeline));
  const first = layers[0]!.position[0] ?? 0;
  return chart({
    title,
    caption,
    height: 440,
    data,
    xaxis: axis("token, index in its sequence", { tickformat: "d" }),
    yaxis: axis("score S"),
    shapes: warmup <= first ? [] : [{
      type: "rect",
      layer: "below",
      yref: "paper",
      x0: first - 0.5,
      x1: warmup - 0.5,
      y0: 0,
      y1: 1,
      fillcolor: "@band",
      line: { width: 0 },
    }],
    ...layout,
  });
}

function tracesOf(layer: TimelineLayer, { texts, of }: ScoreTimeline): JsonObject[] {
  const points = (keep: boolean) => {
    const rows = layer.keep.map((_, t) => t)
      .filter((t) => layer.keep[t] === keep && layer.redundancy[t] !== null);
    const name = keep ? "kept" : WORDS[of].gone;
    return trace({
      name,
      x: rows.map((t) => layer.position[t]!),
      y: shorten(rows.map((t) => layer.redundancy[t]!)),
      text: rows.map((t) => hoverToken(texts?.[t])),
      hover: `<b>%{text}</b> (%{x}) ${name}<br>score %{y:.4f}`,
      marker: decisionMark(keep, 6),
    });
  };
  return [
    trace({
      name: "score",
      showlegend: false,
      x: layer.position,
      y: shorten(layer.redundancy),
      line: { color: "@grid", width: 1 },
    }),
    points(true),
    points(false),
    ...(of === "ranks" ? [] : [trace({
      name: "threshold",
      x: layer.position,
      y: shorten(layer.threshold),
      hover: "threshold before token %{x}: %{y:.4f}",
      line: { color: "@ink", width: 2, shape: "hv" },
    })]),
  ];
}

/** A token's text for plotly; names of colours begin with `@`, which a text must not. */
export function hoverToken(text: string | undefined): string {
  return text === undefined ? "token" : escapeText(showToken(text)).replaceAll("@", "&#64;");
}

/** A token's text on one line: line breaks and spaces at its ends are seen. */
export function showToken(text: string): string {
  return text.replaceAll("\n", "⏎").replaceAll("\t", "⇥").replace(/^ | $/g, "␣") || "(empty)";
}
