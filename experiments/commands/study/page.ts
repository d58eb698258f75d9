/** A study as a page: its progress, its workers, its best trials, and plots. */
import { formatMetric } from "../../../lib/eval/metrics.ts";
import { emptyFigure, type Figure } from "../../../lib/plot/figure/figure.ts";
import { markup } from "../../../lib/plot/figure/html.ts";
import { axis } from "../../../lib/plot/figure/layout.ts";
import { type PlotlySource, renderPage, renderTable, tabulate } from "../../../lib/plot/figure/page.ts";
import { chart, trace } from "../../../lib/plot/figure/parts.ts";
import { plotBestSoFar } from "../../../lib/plot/reports/best_so_far.ts";
import { styleRule } from "../../../lib/plot/trials/rule_style.ts";
import { plural } from "../../../lib/plural.ts";
import type { StudyStore } from "../../../lib/sweep/trials/store.ts";
import { bestFirst, describeBest, listShort, type ShortStudy, type ShortTrial } from "./open.ts";

/** Rows of the table of best trials. */
const BEST = 20;

/** Milliseconds since a worker's last heartbeat, in words. */
function ago(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 120) return `${seconds} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

/** A study's progress, in words. */
export function describeCounts(counts: ReturnType<StudyStore["count"]>): string {
  const { complete, running, waiting, pruned, failed } = counts;
  const total = complete + running + waiting + pruned + failed;
  const rest = Object.entries({ running, waiting, pruned, failed })
    .flatMap(([state, n]) => n > 0 ? [`${n} ${state}`] : []);
  return [`${complete} of ${plural(total, "trial")}`, ...rest].join(", ");
}

export function renderStudy(store: StudyStore, plotly: PlotlySource): string {
  const study = listShort(store), { headline, varying } = study, { model, text } = store.conditions;
  const best = bestFirst(study).slice(0, BEST), now = Date.now();
  const workers = tabulate(store.workers(), [
    ["worker", "its process, a name that was drawn, and its machine", ({ owner }) => owner, true],
    ["finished", "trials that it has finished", ({ finished }) => String(finished)],
    ["at trial", "the one that it is at", ({ trial }) => trial === null ? "-" : String(trial)],
    ["heard of", "how long ago it last said something", ({ seenMs }) => ago(now - seenMs)],
  ]);
  const rows = tabulate(best, [
    ["trial", "its number", ({ number }) => String(number)],
    [
      "method",
      "preset or rule, and the requested ratio",
      ({ method, asked }) => `${method} at ${asked}`,
      true,
    ],
    ...varying.map((name) =>
      [name, `option ${name}`, (trial: typeof best[number]) => String(trial.options[name] ?? "-")] as const
    ),
    [headline.label, headline.help, ({ value }) => formatMetric(headline, value!)],
    [
      "attn FLOPs",
      "operations of attention, in % of the full model's",
      ({ spent }) => spent === undefined ? "-" : `${(100 * spent).toFixed(0)}%`,
    ],
  ]);
  return renderPage({
    title: `Study ${store.facts.name}: ${model} on ${text}`,
    intro: markup`<p class="verdict">${describeCounts(store.count())}; best ${describeBest(study)}.</p>`,
    sections: [
      plotStudy(study),
      ...(best.length === 0 ? [] : [plotBestSoFar(study)]),
      markup`<h2>Best trials</h2>${renderTable({ ...rows, marked: (row) => best[row]?.pareto === true })}`,
      markup`<h2>Workers</h2>${renderTable(workers)}`,
    ],
    plotly,
  });
}

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
