/** Heat map layer x KV head: where a model retrieves, by the probe of `--whole auto`. */
import type { HeadReport } from "../../../heads/report.ts";
import { emptyFigure, type Figure, titleUnderScale } from "../../figure/figure.ts";
import { chart, colorScale, layerAxis, rowAxis, scaleAbove, shorten } from "../../figure/parts.ts";

/** @internal The numbers of the plot. */
export interface RetrievalScores {
  /** Names of the rows, top first: the layer, then its KV heads. */
  readonly names: readonly string[];
  /** Fraction of the summed score, [rows][numLayers]: the first row sums to 1, and so do all others together. */
  readonly shares: readonly (readonly number[])[];
  /** Whether the model copies: where it does not, the scores are a guess. */
  readonly copies: boolean;
}

/** Gathers scores from `findRetrievalLayers`; a report of `deno task heads` has them as `retrieval`. */
export function collectRetrieval({ retrieval }: Pick<HeadReport, "retrieval">): RetrievalScores {
  const { scores, heads, copies } = retrieval ?? { scores: [], heads: [], copies: true };
  const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) || 1;
  const total = sum(scores), ofHeads = sum(heads.flat());
  return {
    names: ["layer", ...(heads[0] ?? []).map((_, head) => `head ${head}`)],
    shares: [
      scores.map((score) => score / total),
      ...(heads[0] ?? []).map((_, head) => heads.map((own) => own[head]! / ofHeads)),
    ],
    copies,
  };
}

const ROW_PIXELS = 24;

/** Draws a row for layers and one for each KV head. */
export function plotRetrieval({ names, shares, copies }: RetrievalScores): Figure {
  const title = "Where the model retrieves", layers = shares[0]!.map((_, layer) => layer);
  if (layers.length === 0) {
    return emptyFigure(title, "No retrieval scores. deno task heads probes the model.");
  }
  const guess = copies ? "" : " The model does not copy random tokens: its scores are a guess.";
  return chart({
    title,
    caption:
      "Score: how far the attention output moves if it sees the first 32 and the last 64 keys only, on random " +
      `tokens and their repetition. Fractions of the sum over layers, and of that over KV heads.${guess}`,
    height: 130 + ROW_PIXELS * names.length,
    data: [{
      type: "heatmap",
      x: layers,
      y: names.map((_, row) => row),
      z: shares.map((row) => shorten(row)),
      text: shares.map((row, i) => row.map(() => names[i]!)),
      hovertemplate: "%{text} · layer %{x}<br>%{z:.1%} of the score<extra></extra>",
      xgap: 1,
      ygap: 1,
      zmin: 0,
      colorscale: colorScale("heat"),
      colorbar: scaleAbove({ tickformat: ".0%", nticks: 5 }),
    }],
    xaxis: layerAxis(layers, { title: titleUnderScale("layer") }),
    yaxis: rowAxis(names, { autorange: "reversed" }),
  });
}
