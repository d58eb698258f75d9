/** Which options of the filter decide a sweep's loss. */
import { measureImportance, type OptionImportance } from "../../../sweep/importance.ts";
import type { SweepSummary } from "../../../sweep/trial.ts";
import { axis, emptyFigure, type Figure } from "../../figure/figure.ts";
import { chart } from "../../figure/parts.ts";

/** Bars of the plot: later ones are too short to see. */
const MAX_BARS = 12;
const ROW_PIXELS = 26;
const TITLE = "Which options decide the loss";

/** Gathers the fractions; undefined where the trials cannot tell. */
export function collectImportance(summary: SweepSummary): OptionImportance | undefined {
  return measureImportance(summary.trials);
}

/** Draws a bar an option, and a bar a pair of options where the grid is whole. */
export function plotImportance(importance: OptionImportance | undefined): Figure {
  if (importance === undefined) {
    return emptyFigure(TITLE, "No option varies here: give one a list, as in --tau 0,1,4");
  }
  const { exact, effects, rest, points } = importance;
  const bars = [
    ...effects.slice(0, MAX_BARS).map(({ options, share }) => ({ name: options.join(" x "), share })),
    { name: "all else", share: rest },
  ].toReversed();
  const how = exact
    ? "Functional ANOVA over the whole grid: what an option's values explain by themselves, and pairs beyond that."
    : "The trials are no whole grid: variance of each option's effects in an additive fit. Where options go together, " +
      "fractions need not add up to 1.";
  return chart({
    title: TITLE,
    caption: `Fraction of the variance of the loss increase over ${points} points, seeds averaged. ${how}`,
    height: 110 + ROW_PIXELS * bars.length,
    data: [{
      type: "bar",
      orientation: "h",
      y: bars.map(({ name }) => name),
      x: bars.map(({ share }) => share),
      text: bars.map(({ name, share }) => `${name}: ${(100 * share).toFixed(1)}%`),
      textposition: "none",
      hovertemplate: "%{text}<extra></extra>",
      marker: { color: bars.map(({ name }) => name === "all else" ? "@muted" : "@series0") },
    }],
    xaxis: axis("fraction of variance", { rangemode: "tozero", tickformat: ".0%", nticks: 6 }),
    yaxis: axis("", { showgrid: false, tickfont: { size: 12 } }),
    bargap: 0.35,
  });
}
