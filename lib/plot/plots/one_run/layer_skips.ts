/** Fraction of queries skipped per layer, as a heat map: a row a configuration. */
import { readRecord } from "../../../methods/bind/options.ts";
import { filtersQueries } from "../../../methods/bind/sides.ts";
import type { SweepSummary } from "../../../sweep/trial.ts";
import { emptyFigure, type Figure, titleUnderScale } from "../../figure/figure.ts";
import { chart, colorScale, layerAxis, NO_DECISION, rowAxis, scaleAbove } from "../../figure/parts.ts";
import { curveKey, nameCurves, pointKey } from "../../trials/trial_label.ts";

/** @internal The numbers of the plot. */
export interface LayerSkips {
  /** Names of the rows, top first. */
  readonly names: readonly string[];
  /** Fraction of queries skipped after warm-up, [rows][numLayers]; mean over seeds where trials differ in only the seed. */
  readonly ratios: readonly (readonly number[])[];
  /** Rows that were left out, so that the plot stays readable. */
  readonly dropped: number;
}

/** More rows than this cannot be read on one page. */
const MAX_ROWS = 120;
const ROW_PIXELS = 19;
/** Height below which the buttons would lie upon the scale of colours. */
const MIN_PIXELS = 200;

/** Gathers the plot's numbers, in the summary's order: by ratio, then perplexity. */
export function collectLayerSkips(summary: SweepSummary): LayerSkips {
  const decided = summary.trials.filter((trial) =>
    trial.achievedRatio !== null && filtersQueries(readRecord(trial))
  );
  const curves = [...Map.groupBy(decided, curveKey)];
  const names = new Map(
    nameCurves(curves.map(([, group]) => group[0]!)).map((name, i) => [curves[i]![0], name]),
  );
  const rows = [...Map.groupBy(decided, pointKey).values()];
  const shown = rows.slice(0, MAX_ROWS);
  return {
    names: shown.map(([trial]) => {
      const asked = trial!.schedule === "explicit"
        ? ""
        : trial!.threshold === "fixed"
        ? ` · theta ${trial!.theta}`
        : ` · ${trial!.pruneRatio}`;
      return `${names.get(curveKey(trial!))}${asked}`;
    }),
    ratios: shown.map((group) =>
      group[0]!.skipRatioPerLayer.map((_, layer) =>
        group.reduce((sum, trial) => sum + trial.skipRatioPerLayer[layer]!, 0) / group.length
      )
    ),
    dropped: rows.length - shown.length,
  };
}

/** Draws the heat map. */
export function plotLayerSkips({ names, ratios, dropped }: LayerSkips): Figure {
  const title = "Queries skipped per layer";
  if (ratios.length === 0) {
    return emptyFigure(title, NO_DECISION);
  }
  const layers = ratios[0]!.map((_, layer) => layer);
  const lost = dropped === 0 ? "" : ` The first ${names.length} of ${names.length + dropped} rows are shown.`;
  return chart({
    title,
    caption:
      "Fraction of queries skipped after warm-up; layers that are not filtered stay at 0. The number " +
      `after a name is the ratio asked for over all layers; seeds are averaged.${lost}`,
    height: Math.max(MIN_PIXELS, 90 + ROW_PIXELS * names.length),
    data: [{
      type: "heatmap",
      x: layers,
      y: names.map((_, row) => row),
      z: ratios,
      text: ratios.map((row, i) =>
        row.map((ratio, layer) => `${names[i]}<br>layer ${layer}: ${ratio.toFixed(3)}`)
      ),
      hovertemplate: "%{text}<extra></extra>",
      zmin: 0,
      zmax: 1,
      xgap: 1,
      ygap: 1,
      colorscale: colorScale("heat"),
      colorbar: scaleAbove({ tickformat: ".0%" }),
    }],
    xaxis: layerAxis(layers, { title: titleUnderScale("layer") }),
    yaxis: rowAxis(names, { autorange: "reversed" }),
  });
}
