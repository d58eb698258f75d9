/** The program that draws a figure in a page, in the reader's light or dark; the same for reports and notebooks. */

/**
 * Text of a function `drawFigure(Plotly, place, detail, figure, themes, hooks)`. All hooks may be left out: `theme`
 * receives the colours in use, `drawn` is called when a drawing is complete, `image` keeps the wide layout.
 *
 * It draws when `place` has a width. It draws again when the page's scheme changes, or when the width passes from
 * narrow to wide. The scheme is the system's, or that of JupyterLab or VS Code, which mark it on the body. A narrow
 * page has no room for a box next to a point: the text of the box goes to `detail`.
 */
export const DRAW = `function drawFigure(Plotly, place, detail, figure, themes, hooks) {
  var media = matchMedia("(prefers-color-scheme: dark)"), drawn = null;
  function isDark() {
    var lab = document.body.getAttribute("data-jp-theme-light");
    if (lab !== null) return lab === "false";
    if (/\\bvscode-/.test(document.body.className)) return !/\\bvscode-(high-contrast-)?light\\b/.test(document.body.className);
    return media.matches;
  }
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
  function draw() {
    var width = place.clientWidth;
    if (width === 0) return;
    var dark = isDark(), narrow = width < 560 && !hooks.image, state = dark + " " + narrow;
    if (drawn === state) return;
    drawn = state;
    var theme = dark ? themes.dark : themes.light, layout = paint(figure.layout, theme), data = paint(figure.data, theme);
    if (hooks.theme) hooks.theme(theme);
    layout.height = figure.height;
    var named = (layout.annotations || []).filter(function (note) { return note.name === "curve"; });
    if (narrow) {
      // Curves have no room for their names next to them: the legend has them.
      if (named.length > 0) {
        layout.annotations = layout.annotations.filter(function (note) { return note.name !== "curve"; });
        layout.showlegend = true;
        layout.margin.r = 14;
      }
      layout.font.size = 11;
      layout.margin.t = Math.min(layout.margin.t, 14);
      Object.keys(layout).forEach(function (key) {
        if (/^[xy]axis\\d*$/.test(key)) layout[key].tickfont = Object.assign({}, layout[key].tickfont, { size: 9 });
      });
      data.forEach(function (trace) {
        if (!trace.hovertemplate) return;
        delete trace.hovertemplate;
        trace.hoverinfo = "none";
      });
    }
    detail.hidden = !narrow || !figure.data.some(function (trace) { return trace.hovertemplate; });
    Plotly.react(place, data, layout, {
      displaylogo: false,
      displayModeBar: narrow ? false : "hover",
      modeBarButtonsToRemove: ["select2d", "lasso2d"]
    }).then(fit).then(function () {
      if (hooks.drawn) hooks.drawn(place);
      place.removeAllListeners("plotly_hover");
      place.on("plotly_hover", function (event) {
        if (narrow) detail.innerHTML = describe(event.points[0]) || detail.innerHTML;
      });
    });
  }
  // The content of a box next to a point: names in %{} are its entries, formats are .2f and .1% and the like. Of HTML
  // it holds bold words and line breaks.
  function describe(point) {
    var template = figure.data[point.curveNumber].hovertemplate || "";
    var entry = /%\\{(\\w+)(?::\\.(\\d+)([f%]))?\\}/g;
    return template.replace(/<extra>.*<\\/extra>/, "").replace(entry, function (_, name, digits, kind) {
      var value = point[name];
      if (digits === undefined || typeof value !== "number") return value;
      return kind === "%" ? (100 * value).toFixed(digits) + "%" : value.toFixed(digits);
    }).replace(/<(?!(\\/?b|br)>)/g, "&lt;");
  }
  // A legend lies below the axes: the plot grows by its height, so that the axes keep theirs. Without one, a second
  // layout puts the axes' titles clear of their labels.
  function fit() {
    var height = figure.height, legend = place._fullLayout.showlegend && place.querySelector(".legend");
    if (!legend) return Plotly.relayout(place, { height: height });
    var extra = Math.ceil(legend.getBoundingClientRect().height);
    var margins = place._fullLayout.margin, inner = height - margins.t - margins.b;
    return Plotly.relayout(place, {
      height: height + extra + 16,
      "margin.b": margins.b + extra + 16,
      "legend.y": -(margins.b + 6) / inner
    });
  }
  var waiting = 0, width = 0;
  new ResizeObserver(function () {
    if (place.clientWidth === width || place.clientWidth === 0) return;
    width = place.clientWidth;
    clearTimeout(waiting);
    waiting = setTimeout(function () {
      var before = drawn;
      draw();
      if (drawn === before && place._fullLayout) Plotly.Plots.resize(place);
    }, 80);
  }).observe(place);
  media.addEventListener("change", draw);
  new MutationObserver(draw).observe(document.body, { attributes: true });
  width = place.clientWidth;
  draw();
}`;
