/** Which plotly draws: its version, where browsers find it, and its text from the npm package. */

/** Where a notebook's page loads plotly from: the file of the npm package that deno.json pins, byte for byte. */
export const PLOTLY_URL =
  "https://cdn.jsdelivr.net/npm/plotly.js-cartesian-dist-min@4.1.1/plotly-cartesian.min.js";

/** Digest of that file: a browser runs nothing else instead of it. */
export const PLOTLY_INTEGRITY = "sha384-zc4SwKObGL/W0M3RUI09UPWjlgIZHfbwMgcZO6713mRh78tfUmIQKhzCyE2LIiUg";

let text: Promise<string> | undefined;

/** The text of plotly's browser bundle (1.5 MB: traces on two axes, such as scatter, bar, heatmap and contour), from the npm package. */
export function readPlotly(): Promise<string> {
  text ??= import("plotly.js-cartesian-dist-min/plotly-cartesian.min.js", { with: { type: "text" } })
    .then(({ default: source }) => source as unknown as string);
  return text;
}
