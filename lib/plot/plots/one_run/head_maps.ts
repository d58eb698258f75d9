/** Heat maps layer x head: how alike each head's keys and values are to the past, and how much that varies. */
import type { Distribution } from "../../../stats/distribution.ts";
import { choose } from "../../figure/choice_slider.ts";
import { axis, emptyFigure, type Figure, type JsonObject } from "../../figure/figure.ts";
import { chart, colorScale, layerAxis, shorten } from "../../figure/parts.ts";

/** @internal Moments of one head's similarities over tokens. */
export type HeadMoments = Pick<Distribution, "mean" | "variance">;

/** @internal Heads of one layer; a layer of a view of `deno task heads` is one. */
export interface HeadLayer {
  readonly layer: number;
  /** KV heads, ascending: similarities of keys (sK) and of values (sV). */
  readonly heads: readonly { readonly sK: HeadMoments; readonly sV: HeadMoments }[];
}

interface HeadGrid {
  /** The keys and the anchors of the measurement, such as `post-rope, ema`. */
  readonly name: string;
  /** Similarities of the keys and of the values, [numKvHeads][layers]. */
  readonly keys: readonly (readonly (number | null)[])[];
  readonly values: readonly (readonly (number | null)[])[];
}

/** @internal The numbers of the plot. */
export interface HeadMaps {
  readonly moment: keyof HeadMoments;
  readonly layers: readonly number[];
  readonly numKvHeads: number;
  readonly grids: readonly HeadGrid[];
}

/**
 * Gathers one moment of the heads' similarities.
 *
 * @param views Views to choose from; all of the same layers.
 */
export function collectHeadMaps(
  views: readonly { readonly name: string; readonly layers: readonly HeadLayer[] }[],
  moment: keyof HeadMoments,
): HeadMaps {
  const layers = views[0]?.layers ?? [];
  const numKvHeads = Math.max(0, ...layers.map(({ heads }) => heads.length));
  const grid = (own: readonly HeadLayer[], side: "sK" | "sV") =>
    Array.from(
      { length: numKvHeads },
      (_, head) => own.map(({ heads }) => heads[head]?.[side][moment] ?? null),
    );
  return {
    moment,
    layers: layers.map(({ layer }) => layer),
    numKvHeads,
    grids: views.map(({ name, layers }) => ({ name, keys: grid(layers, "sK"), values: grid(layers, "sV") })),
  };
}

/** Pixels of a row of cells: few heads have high ones. */
const rowPixels = (heads: number) => Math.max(9, Math.min(26, Math.round(420 / Math.max(1, heads))));
/** Pixels between the panels, where the name of the lower one stands. */
const NAME_PIXELS = 26;
/** Pixels around the panels: the name of the upper one, the axis, the scale of colours. */
const MARGIN_PIXELS = 124;
/** Pixels from the panels to the scale's own room, for the axis. */
const AXIS_PIXELS = 56;
const SLIDER_PIXELS = 76;
const WORDS = {
  mean: {
    title: "Similarity with the past, head by head",
    caption:
      "Mean over tokens of the cosine of each KV head's key or value with its anchor. 1 = every token points " +
      "where the average of the past points; 0 = nothing in common.",
    label: "mean cosine",
  },
  variance: {
    title: "How much a head's similarity varies from token to token",
    caption:
      "Population variance over tokens of the cosine of each KV head's key or value with its anchor. A head " +
      "that hardly varies says nothing about which token is redundant.",
    label: "variance of the cosine",
  },
};

/** Draws keys above values, one colour scale for both and for all views. */
export function plotHeadMaps({ moment, layers, numKvHeads, grids }: HeadMaps): Figure {
  const { title, caption, label } = WORDS[moment];
  const numbers = grids.flatMap(({ keys, values }) => [...keys, ...values].flat()).filter((x) => x !== null);
  if (numbers.length === 0) {
    return emptyFigure(title, "No head was measured. deno task heads measures all of them.");
  }
  const panel = (z: HeadGrid["keys"], side: string, yaxis: string): JsonObject => ({
    type: "heatmap",
    name: side,
    x: layers,
    y: z.map((_, head) => head),
    z: z.map((row) => shorten(row)),
    xaxis: "x",
    yaxis,
    xgap: 1,
    ygap: 1,
    coloraxis: "coloraxis",
    hoverongaps: false,
    hovertemplate: `${side} · layer %{x} · head %{y}<br>${label} %{z:.4f}<extra></extra>`,
  });
  const { data, layout } = choose(
    "keys and anchors:",
    grids.map(({ name, keys, values }) => ({
      label: name,
      traces: [panel(keys, "keys", "y2"), panel(values, "values", "y")],
    })),
    { shown: 0, gap: NAME_PIXELS + 4 },
  );
  const panelPixels = Math.max(60, numKvHeads * rowPixels(numKvHeads)), inner = 2 * panelPixels + NAME_PIXELS;
  const split = panelPixels / inner;
  const heads = (domain: readonly number[]) =>
    axis("head", {
      domain,
      showgrid: false,
      ticks: "",
      autorange: "reversed",
      tickformat: "d",
      ...(numKvHeads <= 8 ? { dtick: 1 } : { nticks: 6 }),
    });
  const name = (text: string, y: number): JsonObject => ({
    text,
    xref: "paper",
    yref: "paper",
    x: 0,
    y,
    xanchor: "left",
    yanchor: "bottom",
    showarrow: false,
    font: { size: 12 },
  });
  return chart({
    title,
    caption,
    height: inner + MARGIN_PIXELS + (grids.length > 1 ? SLIDER_PIXELS : 0),
    data,
    ...layout,
    xaxis: layerAxis(layers, { anchor: "y", title: { text: "layer", standoff: 8 } }),
    yaxis: heads([0, split]),
    yaxis2: heads([1 - split, 1]),
    annotations: [name("values", split), name("keys", 1)],
    coloraxis: {
      cmin: Math.min(...numbers),
      cmax: Math.max(...numbers),
      colorscale: colorScale("heat"),
      colorbar: {
        title: { text: label, side: "top", font: { size: 11 } },
        orientation: "h",
        y: -AXIS_PIXELS / inner,
        yanchor: "top",
        thickness: 8,
        outlinewidth: 0,
        nticks: 5,
        tickfont: { size: 11 },
      },
    },
  });
}
