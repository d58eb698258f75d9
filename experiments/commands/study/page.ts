/** A study as a page: its progress, its workers, its best trials, and plots. */
import { formatMetric } from "../../../lib/eval/mod.ts";
import {
  markup,
  plotBestSoFar,
  type PlotlySource,
  renderPage,
  renderTable,
  tabulate,
} from "../../../lib/plot/mod.ts";
import { plural } from "../../../lib/plural.ts";
import type { StudyStore } from "../../../lib/sweep/mod.ts";
import { bestFirst, describeBest, listShort } from "./open.ts";
import { plotStudy } from "./plot.ts";

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
