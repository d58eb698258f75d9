/** The fixed parts of a report's page: style, and the script that draws figures in the reader's light or dark. */

/** Text as HTML. */
export function escapeHtml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll(
    '"',
    "&quot;",
  );
}

/** A value as the text of a `<script type="application/json">`, or as a literal inside a script. */
export function scriptJson(value: unknown): string {
  return JSON.stringify(value).replaceAll("<", "\\u003c").replaceAll("\u2028", "\\u2028").replaceAll(
    "\u2029",
    "\\u2029",
  );
}

/** A program's text so that it can stand inside a `<script>`. */
export function inlineScript(source: string): string {
  return source.replaceAll(/<\/(script)/gi, "<\\/$1").replaceAll("<!--", "<\\!--");
}

/** The page's style. */
export const STYLE = `
:root { color-scheme: light dark; --ink: #1b1f24; --muted: #59636e; --page: #f6f7f9; --card: #fff; --line: #dfe3e8;
  --mark: #eef4fb; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --muted: #9aa4af; --page: #12161a; --card: #1a1f25;
  --line: #2c333b; --mark: #1d2936; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 24px 16px 48px; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 4px; }
h2 { font-size: 1.1rem; line-height: 1.3; margin: 0 0 4px; }
p { margin: 0 0 12px; max-width: 100ch; }
.muted { color: var(--muted); }
.facts { display: flex; flex-wrap: wrap; gap: 8px 28px; margin: 14px 0 20px; padding: 0; }
.facts div { min-width: 0; }
.facts dt { color: var(--muted); font-size: 0.8rem; }
.facts dd { margin: 0; overflow-wrap: anywhere; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 16px; margin: 0 0 16px; }
.plot { width: 100%; min-height: 200px; }
.detail { font-size: 0.8rem; margin: 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.85rem; width: 100%; }
th, td { padding: 3px 10px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th.left, td.left { text-align: left; }
thead th { position: sticky; top: 0; background: var(--card); }
th button { all: unset; cursor: pointer; font-weight: 600; }
th button:focus-visible { outline: 2px solid currentColor; outline-offset: 2px; }
tr.pareto td { background: var(--mark); }
pre { overflow-x: auto; font-size: 0.8rem; margin: 8px 0 0; }
@media (max-width: 600px) { main { padding: 14px 8px 32px; } section { padding: 12px 8px; border-radius: 6px; } }
`;

/** The page's script: reads \`figures\` and \`themes\`, draws, draws again when the scheme changes, sorts the table. */
export const SCRIPT = `
(function () {
  var read = function (id) { return document.getElementById(id).textContent; };
  var figures = JSON.parse(read("figures")), themes = JSON.parse(read("themes"));
  var dark = matchMedia("(prefers-color-scheme: dark)");
  function paint(value, theme) {
    if (typeof value === "string") return value[0] === "@" ? theme[value] : value;
    if (Array.isArray(value)) return value.map(function (v) { return paint(v, theme); });
    if (value && typeof value === "object") {
      var out = {};
      Object.keys(value).forEach(function (key) { out[key] = paint(value[key], theme); });
      return out;
    }
    return value;
  }
  function draw(figure, i) {
    var place = document.getElementById("figure" + i), theme = dark.matches ? themes.dark : themes.light;
    var narrow = place.clientWidth < 560, layout = paint(figure.layout, theme);
    layout.height = figure.height;
    if (narrow) {
      layout.font.size = 11;
      layout.margin.t = 14;
      layout.yaxis.tickfont = Object.assign({}, layout.yaxis.tickfont, { size: 9 });
      layout.xaxis.tickfont = { size: 9 };
    }
    var data = paint(figure.data, theme), detail = document.getElementById("detail" + i);
    // A narrow page has no room for a box beside a point: what it would hold goes below the plot.
    detail.hidden = !narrow;
    if (narrow) {
      data.forEach(function (trace) {
        if (!trace.hovertemplate) return;
        delete trace.hovertemplate;
        trace.hoverinfo = "none";
      });
    }
    Plotly.react(place, data, layout, {
      responsive: true,
      displaylogo: false,
      displayModeBar: narrow ? false : "hover",
      modeBarButtonsToRemove: ["select2d", "lasso2d"]
    }).then(function () {
      fit(place, figure.height);
      place.removeAllListeners("plotly_hover");
      place.on("plotly_hover", function (event) {
        if (narrow && event.points[0].text) detail.innerHTML = event.points[0].text;
      });
    });
  }
  // The legend lies below the axes: the plot grows by its height, so that the axes keep theirs. Without one, a
  // second layout puts the axes' titles clear of their labels.
  function fit(place, height) {
    var legend = place._fullLayout.showlegend && place.querySelector(".legend");
    if (!legend) return Plotly.relayout(place, { height: height });
    var extra = Math.ceil(legend.getBoundingClientRect().height);
    var margins = place._fullLayout.margin, inner = height - margins.t - margins.b;
    Plotly.relayout(place, {
      height: height + extra + 16,
      "margin.b": margins.b + extra + 16,
      "legend.y": -(margins.b + 6) / inner
    });
  }
  function drawAll() { figures.forEach(draw); }
  drawAll();
  dark.addEventListener("change", drawAll);

  document.querySelectorAll("th button").forEach(function (button, column) {
    var descending = false;
    button.addEventListener("click", function () {
      var body = document.querySelector("tbody"), rows = Array.from(body.rows);
      var value = function (row) { return row.cells[column].textContent; };
      rows.sort(function (a, b) {
        var x = parseFloat(value(a)), y = parseFloat(value(b));
        var order = isNaN(x) || isNaN(y) ? value(a).localeCompare(value(b)) : x - y;
        return descending ? -order : order;
      });
      descending = !descending;
      rows.forEach(function (row) { body.appendChild(row); });
    });
  });
})();
`;
