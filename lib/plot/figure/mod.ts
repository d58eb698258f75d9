/**
 * A figure that shows itself in notebooks, and saves itself as a page or an image.
 * @module
 */
export * from "./chromium.ts";
export * from "./display.ts";
export * from "./figure.ts";
export * from "./html.ts";
export * from "./image.ts";
export { axis, wrapText } from "./layout.ts";
export * from "./page.ts";
export * from "./plotly.ts";
export * from "./parts.ts";
export * from "./theme.ts";
