/** Which plotly draws: its version, where browsers find it, and its text from the npm package. */

/** Version of `plotly.js-dist-min`, as pinned in deno.json. */
export const PLOTLY_VERSION = "4.1.2";

/** Where a notebook's page loads plotly from: the npm package's own file, byte for byte. */
export const PLOTLY_URL = `https://cdn.jsdelivr.net/npm/plotly.js-dist-min@${PLOTLY_VERSION}/plotly.min.js`;

/** Digest of that file: a browser runs nothing else in its place. */
export const PLOTLY_INTEGRITY = "sha384-hHv6D3tTUUBpp4tVv6t2Dc3oGuRhphmWOTKUR8jWyN0Pnon1g3iebKCNDNmKmxo8";

let text: Promise<string> | undefined;

/** The text of plotly's browser bundle (4.8 MB), from the npm package. */
export function readPlotly(): Promise<string> {
  text ??= import("plotly.js-dist-min/plotly.min.js", { with: { type: "text" } })
    .then(({ default: source }) => source as unknown as string);
  return text;
}
