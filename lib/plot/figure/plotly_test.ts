import { assertEquals, assertStringIncludes } from "@std/assert";
import { PLOTLY_INTEGRITY, PLOTLY_URL, PLOTLY_VERSION, readPlotly } from "./plotly.ts";

Deno.test("PLOTLY_URL and PLOTLY_INTEGRITY are those of the pinned npm package", async () => {
  const { imports } = JSON.parse(await Deno.readTextFile(new URL("../../../imports.json", import.meta.url)));
  assertEquals(imports["plotly.js-cartesian-dist-min"], `npm:plotly.js-cartesian-dist-min@${PLOTLY_VERSION}`);
  assertStringIncludes(PLOTLY_URL, `plotly.js-cartesian-dist-min@${PLOTLY_VERSION}/plotly-cartesian.min.js`);
  const bytes = new TextEncoder().encode(await readPlotly());
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-384", bytes));
  assertEquals(PLOTLY_INTEGRITY, `sha384-${digest.toBase64()}`);
});
