/** Pages of figures: style, sections, and how plotly gets in. Every report is one of them. */
import type { Environment } from "../../environment.ts";
import { DRAW } from "./draw.ts";
import { contentPolicy, Html, type HtmlPart, markup } from "./html.ts";
import type { FigureParts } from "./layout.ts";
import { DARK, LIGHT } from "./theme.ts";

/** Plotly's text, which the page then holds; or the relative address of a file next to the page. */
export type PlotlySource = string | { readonly src: string };

interface PageParts {
  /** Title of the browser's tab, and the first heading. */
  readonly title: string;
  /** Below the heading: the subject of the page. */
  readonly intro?: HtmlPart;
  /** Above the heading: links to other pages. */
  readonly nav?: Html | undefined;
  /** Figures, and HTML that gets a frame of its own, in order; `false` is none. */
  readonly sections: readonly (FigureParts | Html | false)[];
  readonly plotly: PlotlySource;
  /** Files that the page holds, to be saved from it. */
  readonly downloads?: readonly { readonly name: string; readonly text: string }[];
}

/** @internal Options of every report's page. */
export interface ReportOptions {
  /** Text of plotly's browser bundle (`plotly.min.js`), which is put in once; or where it lies next to the page. */
  readonly plotly: PlotlySource;
  readonly nav?: Html | undefined;
}

const STYLE = markup`<style>
:root { color-scheme: light dark; --ink: #1b1f24; --muted: #59636e; --page: #f6f7f9; --card: #fff; --line: #dfe3e8;
  --mark: #eef4fb; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --muted: #9aa4af; --page: #12161a; --card: #1a1f25;
  --line: #2c333b; --mark: #1d2936; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 24px 16px 48px; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; line-height: 1.3; margin: 0 0 4px; }
p { margin: 0 0 12px; max-width: 100ch; }
a { color: inherit; }
nav { display: flex; flex-wrap: wrap; gap: 4px 16px; margin: 0 0 16px; font-size: 0.9rem; }
nav [aria-current] { font-weight: 600; text-decoration: none; }
section > p:last-child { margin-bottom: 0; }
.muted { color: var(--muted); }
.facts { display: flex; flex-wrap: wrap; gap: 8px 28px; margin: 14px 0 20px; padding: 0; }
.facts div { min-width: 0; }
.facts dt { color: var(--muted); font-size: 0.8rem; }
.facts dd { margin: 0; overflow-wrap: anywhere; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 16px; margin: 0 0 16px; }
.plot { width: 100%; min-height: 100px; }
.verdict { font-size: 1.15rem; }
.tools { display: flex; flex-wrap: wrap; gap: 6px; margin: 0 0 12px; font-size: 0.8rem; }
.tools button, .tools input { font: inherit; color: inherit; background: none; border: 1px solid var(--line);
  border-radius: 6px; padding: 2px 10px; }
.tools button { cursor: pointer; }
.tools input { flex: 0 1 24em; min-width: 0; }
section > .tools { justify-content: flex-end; margin: 4px 0 0; }
.detail { font-size: 0.8rem; margin: 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.85rem; width: 100%; }
th, td { padding: 3px 9px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th.left, td.left { text-align: left; }
thead th { position: sticky; top: 0; background: var(--card); white-space: normal; vertical-align: bottom; }
th button { all: unset; cursor: pointer; font-weight: 600; }
th[aria-sort=ascending] button::after { content: " ▲" / ""; }
th[aria-sort=descending] button::after { content: " ▼" / ""; }
th button:focus-visible { outline: 2px solid currentColor; outline-offset: 2px; }
tr.pareto td { background: var(--mark); }
pre { overflow-x: auto; font-size: 0.8rem; margin: 8px 0 0; }
@media (max-width: 600px) { main { padding: 14px 8px 32px; } section { padding: 12px 8px; border-radius: 6px; } }
</style>`;

/** The program of a page: draws the figures, and sorts tables by the column whose head is pressed. */
export const PAGE_PROGRAM = `(function () {
${DRAW}
var read = function (id) { return document.getElementById(id).textContent; };
var themes = JSON.parse(read("themes"));
JSON.parse(read("figures")).forEach(function (figure, i) {
  var at = function (name) { return document.getElementById(name + i); };
  drawFigure(Plotly, at("figure"), at("detail"), figure, themes, {});
});
function save(name, url) {
  var link = document.createElement("a");
  link.download = name;
  link.href = url;
  link.click();
}
document.querySelectorAll("[data-save]").forEach(function (button) {
  button.addEventListener("click", function () {
    var file = JSON.parse(read("downloads"))[button.dataset.save], url = URL.createObjectURL(new Blob([file.text]));
    save(file.name, url);
    setTimeout(function () { URL.revokeObjectURL(url); }, 60000);
  });
});
document.querySelectorAll("[data-image]").forEach(function (button) {
  button.addEventListener("click", function () {
    var place = button.closest("section").querySelector(".plot"), ground = getComputedStyle(place.parentNode).backgroundColor;
    var layout = Object.assign({}, place.layout, { paper_bgcolor: ground, plot_bgcolor: ground });
    var format = button.dataset.image, size = { width: place.clientWidth, height: place.layout.height };
    Plotly.toImage({ data: place.data, layout: layout }, Object.assign({ format: format, scale: 2 }, size))
      .then(function (url) { save(place.dataset.name + "." + format, url); });
  });
});
document.querySelectorAll("table").forEach(function (table) {
  var filter = table.closest("section").querySelector("input[type=search]"), box = table.parentNode, note = box.previousElementSibling;
  filter.addEventListener("input", function () {
    var words = filter.value.toLowerCase().split(/\\s+/);
    Array.from(table.tBodies[0].rows).forEach(function (row) {
      var cells = Array.from(row.cells).map(function (cell) { return cell.textContent.toLowerCase(); });
      row.hidden = !words.every(function (word) { return cells.some(function (cell) { return cell.includes(word); }); });
    });
  });
  new ResizeObserver(function () { note.hidden = box.scrollWidth <= box.clientWidth; }).observe(box);
  table.querySelectorAll("th button").forEach(function (button, column) {
    var descending = false;
    button.addEventListener("click", function () {
      var body = table.tBodies[0], rows = Array.from(body.rows);
      var value = function (row) { return row.cells[column].textContent.replace("[", ""); };
      rows.sort(function (a, b) {
        var x = parseFloat(value(a)), y = parseFloat(value(b));
        var order = isNaN(x) || isNaN(y) ? value(a).localeCompare(value(b)) : x - y;
        return descending ? -order : order;
      });
      table.querySelectorAll("th").forEach(function (head) { head.removeAttribute("aria-sort"); });
      button.parentNode.setAttribute("aria-sort", descending ? "descending" : "ascending");
      descending = !descending;
      rows.forEach(function (row) { body.appendChild(row); });
    });
  });
});
})();`;

/**
 * Renders a page of figures, in the reader's light or dark.
 *
 * @returns HTML that loads nothing from anywhere, but for plotly where it lies next to the page.
 */
export function renderPage({ title, intro, nav, sections, plotly, downloads = [] }: PageParts): string {
  const figures: FigureParts[] = [];
  const framed = sections.filter((section) => section !== false).map((section) => {
    if (section instanceof Html) return markup`<section>${section}</section>`;
    const i = figures.push(section) - 1;
    const caption = section.caption && markup`<p class="muted">${section.caption}</p>`;
    const fileName = section.title.toLowerCase().replaceAll(/[^a-z0-9]+/g, "_").replaceAll(/^_|_$/g, "");
    return markup`<section><h2>${section.title}</h2>${caption}
<div class="plot" id="figure${i}" data-name="${fileName}"></div>
<p class="detail muted" id="detail${i}" hidden>Tap a point to see its values here.</p>
<div class="tools"><button type="button" data-image="png">PNG</button><button type="button" data-image="svg">SVG</button></div></section>`;
  });
  const saves = downloads.map(({ name }, i) =>
    markup`<button type="button" data-save="${i}">${name}</button>`
  );
  const tools = saves.length > 0 && markup`\n<div class="tools">Save: ${saves}</div>`;
  const inside = typeof plotly === "string";
  const isStill = figures.length === 0 && framed.every((section) => !String(section).includes("<button"));
  const scripts = !isStill && markup`
${Html.data("figures", figures.map(({ data, layout, height }) => ({ data, layout, height })))}
${downloads.length > 0 && markup`${Html.data("downloads", downloads)}\n`}${
    Html.data("themes", { light: LIGHT, dark: DARK })
  }
${inside ? Html.program(plotly) : markup`<script src="${plotly.src}"></script>`}
${Html.program(PAGE_PROGRAM)}`;
  const body = markup`<body>
<main>
${nav && markup`<nav>${nav}</nav>\n`}<h1>${title}</h1>
${intro}${tools}
${framed.map((section, i) => [i > 0 && "\n", section])}
</main>${scripts}
</body>`;
  const policy = contentPolicy(body.programs, inside ? "" : "'self' file:");
  return String(markup`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<title>${title}</title>
${STYLE}
</head>
${body}
</html>
`);
}

/** Names and values in a row: the subject of a page. */
export function renderFacts(facts: readonly (readonly [name: string, value: string])[]): Html {
  const items = facts.map(([name, value]) => markup`<div><dt>${name}</dt><dd>${value}</dd></div>`);
  return markup`<dl class="facts">${items}</dl>`;
}

export function formatTime(startedAt: string): string {
  return `${startedAt.slice(0, 16).replace("T", " ")} UTC`;
}

export function runFacts(
  { backendDescription, cacheDType, calibration, dtype, version, startedAt }: Environment,
): [string, string][] {
  return [
    ["backend", backendDescription],
    ...(dtype === undefined ? [] : [["weights", dtype] as [string, string]]),
    ["KV cache", cacheDType ?? "f32"],
    ...(calibration === undefined ? [] : [["calibration text", calibration] as [string, string]]),
    ["version", version],
    ["when", formatTime(startedAt)],
  ];
}

interface PageTable {
  readonly columns: readonly string[];
  /** Meaning of each column, shown when its head is pointed at. */
  readonly hints?: readonly string[];
  readonly rows: readonly (readonly string[])[];
  /** Whether a column holds text and is set left. */
  readonly left: readonly boolean[];
  readonly marked?: (row: number) => boolean;
}

/** A table as text: the result of {@linkcode tabulate}. */
export type TextTable = Required<Omit<PageTable, "marked">>;

/** A column: its name, its meaning, the cell of a row, and whether it holds text. */
export type TableColumn<Row> = readonly [
  name: string,
  hint: string,
  cell: (row: Row) => string,
  left?: boolean,
];

/** Lays things out in columns, one row each; a column that is `false` is none. */
export function tabulate<Row>(
  rows: readonly Row[],
  columns: readonly (TableColumn<Row> | false)[],
): TextTable {
  const shown = columns.filter((column) => column !== false);
  return {
    columns: shown.map(([name]) => name),
    hints: shown.map(([, hint]) => hint),
    rows: rows.map((row) => shown.map(([, , cell]) => cell(row))),
    left: shown.map(([, , , left = false]) => left),
  };
}

/** A table that is filtered by words, and sorted by the column whose head is pressed. */
export function renderTable({ columns, hints, rows, left, marked }: PageTable): Html {
  const side = (i: number) => left[i] && markup` class="left"`;
  const head = columns.map((name, i) =>
    markup`<th${side(i)}${hints && markup` title="${hints[i]}"`}><button type="button">${name}</button></th>`
  );
  const body = rows.map((cells, i) => {
    const shown = cells.map((cell, j) => markup`<td${side(j)}>${showBold(cell)}</td>`);
    return markup`${i > 0 && "\n"}<tr${marked?.(i) && markup` class="pareto"`}>${shown}</tr>`;
  });
  const example = rows.at(-1)?.[left.indexOf(true)];
  return markup`<div class="tools"><input type="search" placeholder="Filter rows: ${example}" aria-label="Filter rows by words"></div>
<p class="muted" hidden>The table goes on to the right: it scrolls sideways.</p>
<div class="scroll"><table><thead><tr>${head}</tr></thead><tbody>${body}</tbody></table></div>`;
}

/** Text between two stars, as in Markdown, is bold. */
function showBold(cell: string): HtmlPart {
  const [, bold] = cell.match(/^\*\*(.*)\*\*$/) ?? [];
  return bold === undefined ? cell : markup`<b>${bold}</b>`;
}

export function tableSection(heading: string, note: HtmlPart, table: PageTable): Html {
  return markup`<h2>${heading}</h2>\n<p class="muted">${note}</p>\n${renderTable(table)}`;
}

export const SORT_NOTE = "A column's head sorts by it and says what it holds when pointed at.";

/** A record behind a fold, below the protocol that it was made by. @param json of the record */
export function recordSection(heading: string, protocol: string, json: string): Html {
  return markup`<details><summary>${heading}</summary>
<p class="muted">${protocol}</p>
<pre>${json}</pre>
</details>`;
}

/** Sentences of which the first is the verdict. */
export function renderVerdict([first, ...rest]: readonly string[], isList = false): Html {
  const more = isList
    ? markup`<ul>${rest.map((line) => markup`<li>${line}</li>\n`)}</ul>\n`
    : markup`<p>${rest.join(" ")}</p>\n`;
  return markup`<p class="verdict">${first}</p>\n${rest.length > 0 && more}`;
}
