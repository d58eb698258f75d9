/** Variance across heads against the position in the sequence, with bands. */
import type { PositionBand } from "../../../heads/report.ts";
import { type Distribution, QUANTILE_LEVELS } from "../../../stats/distribution.ts";
import { chooseLayer } from "../../figure/choice_slider.ts";
import { axis, emptyFigure, type Figure, type JsonObject } from "../../figure/figure.ts";
import { type Band, bandTraces, chart, missingTokens, shorten, trace } from "../../figure/parts.ts";

/** @internal Quantiles by band of position; a layer of a view of `deno task heads` is one. */
export interface BandedLayer {
  readonly layer: number;
  /** Variance across heads of the similarities of keys and of values, one entry a band. */
  readonly varK: { readonly bands: readonly Pick<Distribution, "quantiles">[] };
  readonly varV: { readonly bands: readonly Pick<Distribution, "quantiles">[] };
}

/** Quartiles of one side, one entry a band; null where a band has no token. */
interface VarianceCurve extends Band {
  readonly middle: readonly (number | null)[];
}

/** @internal The numbers of the plot. */
export interface VariancePosition {
  /** Bands of position, ascending. */
  readonly bands: readonly PositionBand[];
  readonly layers: readonly {
    readonly layer: number;
    readonly keys: VarianceCurve;
    readonly values: VarianceCurve;
  }[];
}

/** Gathers quartiles from a report's layers. */
export function collectVariancePosition(
  layers: readonly BandedLayer[],
  bands: readonly PositionBand[],
): VariancePosition {
  const curve = (own: readonly Pick<Distribution, "quantiles">[]): VarianceCurve => {
    const at = (level: typeof QUANTILE_LEVELS[number]) =>
      own.map(({ quantiles }) => quantiles[QUANTILE_LEVELS.indexOf(level)] ?? null);
    return { low: at(0.25), middle: at(0.5), high: at(0.75) };
  };
  return {
    bands,
    layers: layers.map(({ layer, varK, varV }) => ({
      layer,
      keys: curve(varK.bands),
      values: curve(varV.bands),
    })),
  };
}

/** Draws one layer at a time. */
export function plotVariancePosition({ bands, layers }: VariancePosition): Figure {
  const title = "Disagreement of heads against position";
  const all = layers.flatMap(({ keys, values }) => [...keys.high, ...values.high]).filter((x) => x !== null);
  if (all.length === 0) {
    return emptyFigure(title, missingTokens("similarities"));
  }
  const seen = bands.map((_, i) => i)
    .filter((i) => layers.some(({ keys, values }) => keys.middle[i] !== null || values.middle[i] !== null));
  const names = seen.map((i) => {
    const { from, to } = bands[i]!;
    return to - from === 1 ? String(from) : `${from}–${to - 1}`;
  });
  const { data, layout } = chooseLayer(
    layers,
    (layer) => (["keys", "values"] as const).flatMap((side) => tracesOf(side, layer[side], seen, names)),
  );
  return chart({
    title,
    caption:
      "Population variance across heads of the similarities of keys and of values: median and quartiles over " +
      "the tokens at these positions. Under variance the side with the lower curve weighs more.",
    height: 430,
    data,
    xaxis: axis("position in the sequence", {
      tickmode: "array",
      tickvals: names.map((_, i) => i),
      ticktext: names,
    }),
    yaxis: axis("variance across heads (cosine²)", { rangemode: "tozero" }),
    ...layout,
  });
}

function tracesOf(
  side: "keys" | "values",
  { low, middle, high }: VarianceCurve,
  seen: readonly number[],
  names: readonly string[],
): JsonObject[] {
  const [color, band] = side === "keys" ? ["@series0", "@band0"] : ["@series1", "@band1"];
  const at = (curve: VarianceCurve["low"]) => shorten(seen.map((i) => curve[i]!));
  return [
    ...bandTraces(seen.map((_, n) => n), { low: at(low), high: at(high) }, band, { legendgroup: side }),
    trace({
      name: side,
      legendgroup: side,
      x: seen.map((_, n) => n),
      y: at(middle),
      hover: seen.map((i, n) =>
        `${side}, positions ${names[n]}<br>median ${shown(middle[i])}, quartiles ${shown(low[i])} to ${
          shown(high[i])
        }`
      ),
      line: { color, width: 2, dash: side === "keys" ? "solid" : "dash" },
      marker: { color, size: 7, symbol: side === "keys" ? "circle" : "square" },
    }),
  ];
}

const shown = (x: number | null | undefined) => x === null || x === undefined ? "none" : x.toPrecision(3);
