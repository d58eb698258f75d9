/** The report of a sweep: one HTML page that needs nothing but itself. */
import type { SweepSummary } from "../sweep/trial.ts";
import type { Figure } from "./figure.ts";
import { collectLayerSkips, plotLayerSkips } from "./layer_skips.ts";
import { collectQuality, plotQuality } from "./quality.ts";
import { escapeHtml, inlineScript, SCRIPT, scriptJson, STYLE } from "./report_page.ts";
import { DARK, LIGHT } from "./theme.ts";
import { tabulateTrials } from "./trial_table.ts";

/** The figures of a sweep's report, in order. */
export function plotSweep(summary: SweepSummary): Figure[] {
  const quality = collectQuality(summary);
  return [
    plotQuality(quality, "perplexity"),
    plotQuality(quality, "kl"),
    plotLayerSkips(collectLayerSkips(summary)),
  ];
}

/**
 * Renders a sweep as a self-contained page: perplexity and KL against the achieved ratio, skips per layer, the table.
 *
 * @param options `plotly`: the text of plotly's browser bundle (`plotly.min.js`), which is put in once.
 * @returns HTML that loads nothing from anywhere.
 */
export function renderSweepReport(summary: SweepSummary, options: { readonly plotly: string }): string {
  const figures = plotSweep(summary);
  const places = figures.map((figure, i) =>
    `<section><h2>${escapeHtml(figure.title)}</h2><p class="muted">${escapeHtml(figure.caption)}</p>
<div class="plot" id="figure${i}"></div>
<p class="detail muted" id="detail${i}" hidden>Tap a point to see its configuration here.</p></section>`
  );
  const { model, text } = summary.environment;
  return `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:">
<title>Token Filtering sweep: ${escapeHtml(model)} on ${escapeHtml(text)}</title>
<style>${STYLE}</style>
</head>
<body>
<main>
<h1>Token Filtering sweep: ${escapeHtml(model)} on ${escapeHtml(text)}</h1>
<p class="muted">How much skipped attention costs, for ${
    count(summary.trials.length, "configuration")
  } of the filter.</p>
${facts(summary)}
${places.join("\n")}
<section><h2>All trials</h2>
<p class="muted">* and a tinted row: on the Pareto front of on-line trials. ^ looks ahead: an upper bound. A column's
head sorts by it and says what it holds when pointed at.</p>
${table(summary)}</section>
<section><details><summary>Environment and protocol</summary>
<p class="muted">${escapeHtml(summary.environment.protocol)}</p>
<pre>${escapeHtml(JSON.stringify({ dense: summary.dense, environment: summary.environment }, null, 2))}</pre>
</details></section>
</main>
<script type="application/json" id="figures">${
    scriptJson(figures.map(({ data, layout, height }) => ({ data, layout, height })))
  }</script>
<script type="application/json" id="themes">${scriptJson({ light: LIGHT, dark: DARK })}</script>
<script>${inlineScript(options.plotly)}</script>
<script>${SCRIPT}</script>
</body>
</html>
`;
}

/** A number and what it counts: `1 chunk`, `2 chunks`. */
function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

function facts({ dense, environment }: SweepSummary): string {
  const entries = [
    ["dense perplexity", dense.perplexity.toFixed(2)],
    [
      "text",
      `${environment.text}, ${dense.tokens} tokens in ${count(dense.chunks, "chunk")} of ${dense.context}`,
    ],
    ["backend", environment.backendDescription],
    ["version", environment.version],
    ["when", environment.startedAt.slice(0, 16).replace("T", " ") + " UTC"],
  ];
  const items = entries.map(([name, value]) =>
    `<div><dt>${escapeHtml(name!)}</dt><dd>${escapeHtml(value!)}</dd></div>`
  );
  return `<dl class="facts">${items.join("")}</dl>`;
}

function table(summary: SweepSummary): string {
  const { columns, hints, rows, left } = tabulateTrials(summary.trials);
  const side = (i: number) => left[i] ? ' class="left"' : "";
  const head = columns.map((name, i) =>
    `<th${side(i)} title="${escapeHtml(hints[i]!)}"><button type="button">${escapeHtml(name)}</button></th>`
  );
  const body = rows.map((cells, i) =>
    `<tr${summary.trials[i]!.pareto ? ' class="pareto"' : ""}>${
      cells.map((cell, j) => `<td${side(j)}>${escapeHtml(cell)}</td>`).join("")
    }</tr>`
  );
  return `<div class="scroll"><table><thead><tr>${head.join("")}</tr></thead><tbody>${
    body.join("\n")
  }</tbody></table></div>`;
}
