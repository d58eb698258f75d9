/**
 * A figure that shows itself in notebooks, and saves itself as a page or an image.
 * @module
 */
export { ChromiumError, findChromium, openBrowser, PATIENCE_MS } from "./chromium.ts";
export { type MediaBundle, PLOTLY_VARIABLE, plotlyScript, setPlotly, STATIC_MARKS } from "./display.ts";
export {
  axis,
  baseLayout,
  emptyFigure,
  Figure,
  type FigureParts,
  type Json,
  type JsonObject,
  wrapText,
} from "./figure.ts";
export { contentPolicy, Html, markup } from "./html.ts";
export { type ImageOptions, printImages, renderImages } from "./image.ts";
export {
  PAGE_PROGRAM,
  type PageTable,
  type PlotlySource,
  renderFacts,
  renderPage,
  renderTable,
  type ReportOptions,
  type TableColumn,
  tabulate,
  type TextTable,
} from "./page.ts";
export { PLOTLY_URL, readPlotly } from "./plotly.ts";
export { chart, LEGEND, trace } from "./parts.ts";
export { DARK, LIGHT, type Theme } from "./theme.ts";
