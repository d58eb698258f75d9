/**
 * A figure that shows itself in notebooks, and saves itself as a page or an image.
 * @module
 */
export { CHROMIUM_FLAGS, ChromiumError, expectChromium, findChromium } from "./chromium.ts";
export { type MediaBundle, plotlyScript, readDisplayed, setPlotly, setStaticImage } from "./display.ts";
export {
  axis,
  baseLayout,
  emptyFigure,
  escapeText,
  Figure,
  type FigureParts,
  type Json,
  type JsonObject,
} from "./figure.ts";
export { type ImageOptions, renderImages } from "./image.ts";
export {
  type PageTable,
  type PlotlySource,
  renderFigurePage,
  type ReportOptions,
  type TableColumn,
  tabulate,
} from "./page.ts";
export { PLOTLY_INTEGRITY, PLOTLY_URL, PLOTLY_VERSION, readPlotly } from "./plotly.ts";
export { applyTheme, DARK, LIGHT, type Theme } from "./theme.ts";
export { ruleName } from "./trial_label.ts";
