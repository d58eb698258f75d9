/** A figure in a notebook: plotly's JSON, HTML that draws itself, and a line of text. */
import { DRAW } from "./draw.ts";
import { Html, markup, scriptJson } from "./html.ts";
import type { JsonObject } from "./json.ts";
import { drawnAlone, type FigureParts } from "./layout.ts";
import { PLOTLY_INTEGRITY, PLOTLY_URL, readPlotly } from "./plotly.ts";
import { DARK, LIGHT } from "./theme.ts";

/** Content that the kernel sends for a value, by MIME type. */
export type MediaBundle = { readonly [mime: string]: unknown };

/** Plotly's text where notebooks hold it themselves; undefined = they load it from {@linkcode PLOTLY_URL}. */
let inlined: string | undefined;
/** Whether a figure that was displayed holds it already. */
let carried = false;
/** Figures displayed so far: part of their names in the page. */
let displayed = 0;

/**
 * Sets where the figures of a notebook get plotly from.
 *
 * @param source `"cdn"` (the default): the page loads the pinned version once, and checks its digest. `"inline"`: the
 * next figure that is displayed holds it (1.5 MB) for all that follow, for machines without a network; run again, it
 * is held anew.
 * @throws {RangeError} If the source is another word.
 *
 * @example
 * ```ts
 * import { setPlotly } from "@tokenfilter/tokenfilter/plot";
 * await setPlotly("cdn");
 * ```
 */
export async function setPlotly(source: "cdn" | "inline"): Promise<void> {
  if (source !== "cdn" && source !== "inline") {
    throw new RangeError(`Cannot take plotly from ${JSON.stringify(source)}: expected "cdn" or "inline"`);
  }
  inlined = source === "inline" ? await readPlotly() : undefined;
  carried = false;
}

/** Marks around the content that a page shows while no script runs. */
export const STATIC_MARKS = ["<!-- static -->", "<!-- /static -->"] as const;

/** Environment variable with an address of plotly that is asked before the CDN: a server of this machine's own. */
const PLOTLY_VARIABLE = "TOKENFILTER_PLOTLY_URL";

/** Where a page gets plotly from, in the order in which it asks. */
function plotlySources(): string[] {
  const { state } = Deno.permissions.querySync({ name: "env", variable: PLOTLY_VARIABLE });
  const near = state === "granted" ? Deno.env.get(PLOTLY_VARIABLE) : undefined;
  return [...near ? [near] : [], PLOTLY_URL];
}

/** Text of a program that calls `done(Plotly)`, loading it first from the first source that has it where the page has none. */
const LOAD = `function loadPlotly(sources, done, failed) {
  if (window.Plotly) return done(window.Plotly);
  if (!window.tokenfilterPlotly) {
    window.tokenfilterPlotly = new Promise(function (resolve, reject) {
      // An AMD loader in the page would take what is meant for the window.
      var define = window.define;
      window.define = undefined;
      (function load(next) {
        var script = document.createElement("script");
        script.src = sources[next];
        script.integrity = ${JSON.stringify(PLOTLY_INTEGRITY)};
        script.crossOrigin = "anonymous";
        script.onload = function () { window.define = define; resolve(window.Plotly); };
        script.onerror = function () {
          if (next + 1 < sources.length) return load(next + 1);
          window.define = define;
          window.tokenfilterPlotly = undefined;
          reject();
        };
        document.head.appendChild(script);
      })(0);
    });
  }
  window.tokenfilterPlotly.then(done, failed);
}`;

/** A script that puts plotly in a page, whatever module loader the page has. */
export function plotlyScript(plotly: string): Html {
  return markup`${Html.program("window.tokenfilterDefine = window.define; window.define = undefined;")}
${Html.program(plotly)}
${Html.program("window.define = window.tokenfilterDefine;")}`;
}

/** The media of a figure. {@linkcode setPlotly} sets where its plotly comes from. */
export function displayFigure(figure: FigureParts): MediaBundle {
  const id = `tokenfilter-${++displayed}-${hash(JSON.stringify([figure.title, figure.data, figure.layout]))}`;
  const { title, caption, height, data, layout } = figure;
  const carrier = inlined !== undefined && !carried && plotlyScript(inlined);
  carried ||= carrier !== false;
  const html = markup`<div class="tokenfilter-figure" id="${id}" style="padding: 10px; border-radius: 6px">
<div style="font-weight: 600">${title}</div>
<div style="font-size: 0.85em; opacity: 0.8; max-width: 100ch">${caption}</div>
<div class="tokenfilter-plot"><!-- static -->${tabulateFigure(figure)}<!-- /static --></div>
<div class="tokenfilter-detail" style="font-size: 0.8em"></div>
</div>
${carrier}${
    Html.program(`(function () {
${LOAD}
${DRAW}
var figure = ${scriptJson({ height, data, layout })};
var themes = ${scriptJson({ light: LIGHT, dark: DARK })};
document.querySelectorAll(${JSON.stringify(`#${id}`)}).forEach(function (root) {
  var place = root.querySelector(".tokenfilter-plot"), detail = root.querySelector(".tokenfilter-detail");
  loadPlotly(${scriptJson(plotlySources())}, function (Plotly) {
    if (place.classList.contains("js-plotly-plot")) return;
    place.textContent = "";
    detail.textContent = "Tap a point to see its values here.";
    drawFigure(Plotly, place, detail, figure, themes, {
      theme: function (theme) {
        root.style.background = theme["@card"];
        root.style.color = theme["@ink"];
      }
    });
  }, function () {
    detail.textContent = "The interactive plot needs plotly.js, which could not be loaded: " +
      'without a network, run await setPlotly("inline") before the first plot.';
  });
});
})();`)
  }`;
  return {
    "application/vnd.plotly.v1+json": {
      ...drawnAlone(figure, LIGHT),
      config: { responsive: true, displaylogo: false },
    },
    "text/html": String(html),
    "text/plain": `${title}. ${caption}`.trim(),
  };
}

const MAX_ROWS = 12;

/** A small table of a figure's data: one row per trace, with the range of its numbers. */
export function tabulateFigure({ data }: Pick<FigureParts, "data">): Html | undefined {
  const rows = data.filter((trace) => trace["showlegend"] !== false).slice(0, MAX_ROWS).map((trace) => {
    const z = trace["z"] as readonly (readonly unknown[])[] | undefined;
    const cells = [
      trace["name"] ?? trace["type"] ?? "",
      z === undefined ? ((trace["x"] ?? trace["y"]) as unknown[] | undefined)?.length ?? "" : z.flat().length,
      ...["x", "y", "z"].map((key) => describeRange(trace, key)),
    ];
    return markup`<tr>${cells.map((cell) => markup`<td>${String(cell)}</td>`)}</tr>`;
  });
  const head = ["", "points", "x", "y", "z"].map((name) => markup`<th>${name}</th>`);
  return rows.length === 0
    ? undefined
    : markup`<table><thead><tr>${head}</tr></thead><tbody>${rows}</tbody></table>`;
}

function describeRange(trace: JsonObject, key: string): string {
  const values = [trace[key]].flat(2).filter((value) => typeof value === "number");
  if (values.length === 0) return "";
  const low = values.reduce((a, b) => Math.min(a, b)), high = values.reduce((a, b) => Math.max(a, b));
  const shown = (value: number) => String(Number(value.toPrecision(4)));
  return low === high ? shown(low) : `${shown(low)} to ${shown(high)}`;
}

/** FNV-1a in base 36: a short name for a text, the same on every run. */
export function hash(text: string): string {
  let state = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) state = Math.imul(state ^ text.charCodeAt(i), 0x01000193);
  return (state >>> 0).toString(36);
}
