/** Looks at pages of plots in a real browser, and makes pages and images for who has none. */
export { addStaticImages, inlinePlotly, type NotebookFile } from "./notebook.ts";
export { type CheckOptions, checkPage, openBrowser, type PageCheck } from "./page.ts";
