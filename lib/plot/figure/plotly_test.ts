import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { PLOTLY_INTEGRITY, PLOTLY_URL, readPlotly } from "./plotly.ts";

Deno.test("PLOTLY_URL and PLOTLY_INTEGRITY are those of the pinned npm package", async () => {
  const { imports } = JSON.parse(await Deno.readTextFile(new URL("../../../deno.json", import.meta.url)));
  const pinned = imports["plotly.js-cartesian-dist-min"].replace("npm:", "");
  assertMatch(pinned, /^plotly\.js-cartesian-dist-min@\d+\.\d+\.\d+$/);
  assertStringIncludes(PLOTLY_URL, `/${pinned}/plotly-cartesian.min.js`);
  const bytes = new TextEncoder().encode(await readPlotly());
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-384", bytes));
  assertEquals(PLOTLY_INTEGRITY, `sha384-${digest.toBase64()}`);
});
