/** Looks at pages of plots in a real browser. */
export { openBrowser } from "../../../lib/plot/mod.ts";
export { type CheckOptions, checkPage, type PageCheck, VIEWS } from "./page.ts";
