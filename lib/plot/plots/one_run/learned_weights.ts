/** The `learned` rule's weights on standardised features, layer by layer. */
import { emptyFigure, type Figure, titleUnderScale } from "../../figure/figure.ts";
import { chart, colorScale, layerAxis, rowAxis, scaleAbove, shorten } from "../../figure/parts.ts";

/** @internal The numbers of the plot. */
export interface LearnedWeights {
  readonly layers: readonly number[];
  /** Features, top first. The bias is left out: it ranks no token above another. */
  readonly features: readonly string[];
  /** Weights, [features][layers]; null where a layer has no fit. */
  readonly weights: readonly (readonly (number | null)[])[];
}

/**
 * Gathers weights.
 *
 * @param features Names, in the order of each layer's `learnedWeights`.
 * @throws {RangeError} If a layer has another number of weights than there are features, and not none.
 */
export function collectLearnedWeights(
  layers: readonly { readonly layer: number; readonly learnedWeights: readonly number[] }[],
  features: readonly string[],
): LearnedWeights {
  for (const { layer, learnedWeights } of layers) {
    if (learnedWeights.length !== 0 && learnedWeights.length !== features.length) {
      throw new RangeError(
        `Cannot gather weights of layer ${layer}: found ${learnedWeights.length}, expected ${features.length}`,
      );
    }
  }
  const rows = features.map((_, row) => row).filter((row) => features[row] !== "bias");
  return {
    layers: layers.map(({ layer }) => layer),
    features: rows.map((row) => features[row]!),
    weights: rows.map((row) => layers.map(({ learnedWeights }) => learnedWeights[row] ?? null)),
  };
}

/** Draws a row a feature. */
export function plotLearnedWeights({ layers, features, weights }: LearnedWeights): Figure {
  const title = "What the learned rule goes by";
  const sizes = weights.flat().filter((w) => w !== null).map(Math.abs);
  if (sizes.length === 0) {
    return emptyFigure(title, "No fit: the rule learns when the warm-up of at least 8 tokens is over.");
  }
  const most = Math.max(...sizes) || 1;
  return chart({
    title,
    caption:
      "Weights of the regression that predicts ln(norm(o)/norm(x)) from standardised features. Above 0: the " +
      "larger the feature, the more the attention adds, so the token is kept; below 0: it is skipped. Near 0: the " +
      "feature says nothing that the others do not say.",
    height: 120 + 19 * features.length,
    data: [{
      type: "heatmap",
      x: layers,
      y: features.map((_, row) => row),
      z: weights.map((row) => shorten(row)),
      text: weights.map((row, i) => row.map(() => features[i]!)),
      hovertemplate: "%{text} · layer %{x}<br>weight %{z:.3f}<extra></extra>",
      hoverongaps: false,
      xgap: 1,
      ygap: 1,
      zmin: -most,
      zmax: most,
      colorscale: colorScale("diverge"),
      colorbar: scaleAbove({ nticks: 5 }),
    }],
    xaxis: layerAxis(layers, { title: titleUnderScale("layer") }),
    yaxis: rowAxis(features, { title: { text: "" }, autorange: "reversed" }),
  });
}
