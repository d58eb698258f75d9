/** A study of any size as one figure: the headline against the cost. */
import { axis, chart, emptyFigure, type Figure, styleRule, trace } from "../../../lib/plot/mod.ts";
import type { ShortStudy, ShortTrial } from "./open.ts";

/** Cells per side of the plot: of the trials in a cell, the first is drawn. */
const PLACES = 160;

/** The points that are drawn: all of the front, and one of the others per cell. */
export function thinTrials(trials: readonly ShortTrial[]): ShortTrial[] {
  const known = trials.filter(({ value, spent }) => value !== undefined && spent !== undefined);
  const range = (of: (trial: ShortTrial) => number) => {
    const low = known.reduce((low, trial) => Math.min(low, of(trial)), Infinity);
    const high = known.reduce((high, trial) => Math.max(high, of(trial)), -Infinity);
    return (trial: ShortTrial) => Math.round(PLACES * (of(trial) - low) / (high - low || 1));
  };
  const x = range(({ spent }) => spent!), y = range(({ value }) => value!), taken = new Set<number>();
  return known.filter((trial) => {
    const place = x(trial) * (PLACES + 1) + y(trial), isFirst = !taken.has(place);
    taken.add(place);
    return isFirst || trial.pareto;
  });
}

export function plotStudy({ headline, trials, varying }: ShortStudy): Figure {
  const title = `${headline.label} against attention spent`;
  const drawn = thinTrials(trials);
  if (drawn.length === 0) return emptyFigure(title, "No trial has a result yet.");
  const marks = (name: string, some: readonly ShortTrial[], marker: Record<string, string | number>) =>
    trace({
      name,
      x: some.map(({ spent }) => spent!),
      y: some.map(({ value }) => value!),
      text: some.map(({ number, method, options }) =>
        [`trial ${number}`, method, ...varying.map((name) => `${name} ${options[name] ?? "-"}`)].join(", ")
      ),
      hover: "%{text}<br>%{x:.0%} spent, %{y}",
      marker,
    });
  const names = [...new Set(drawn.map(({ method }) => method))].map((name) => ({ name, ...styleRule(name) }))
    .sort((a, b) => a.rank - b.rank);
  const finished = trials.filter(({ value }) => value !== undefined).length;
  const left = drawn.length < finished
    ? ` Of ${finished} trials ${drawn.length} are drawn: one where several lie together.`
    : "";
  const front = { color: "@ink", size: 13, symbol: "circle-open" };
  return chart({
    title,
    caption:
      `Rings mark the Pareto front, controls left out; ${headline.better} is better, and so is further right.${left}`,
    height: 420,
    data: [
      ...names.map(({ name, color, symbol }) =>
        marks(name, drawn.filter(({ method }) => method === name), { color, symbol, size: 7, opacity: 0.7 })
      ),
      marks("Pareto front", drawn.filter(({ pareto }) => pareto), front),
    ],
    xaxis: axis("attn FLOPs retained", { tickformat: ".0%", autorange: "reversed" }),
    yaxis: axis(headline.label),
    showlegend: true,
  });
}
