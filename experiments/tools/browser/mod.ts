/** Looks at pages of plots in a real browser. */
export { type CheckOptions, checkPage, openBrowser, type PageCheck } from "./page.ts";
