import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { withFolder } from "../../../testing.ts";
import { splitLayers } from "./layer_trace.ts";
import { makeHeadReport } from "../../testing.ts";
import { collectTokenMap, plotTokenMap } from "./token_map.ts";

const { excerpt } = makeHeadReport();
const parts = collectTokenMap(splitLayers(excerpt.columns), excerpt.texts, { warmup: 1 });

Deno.test("collectTokenMap() ranks scores within a layer and counts the layers that skip", () => {
  assertEquals(parts.skips, [0, 0, 1, 2]);
  assertEquals(parts.layers[0], {
    layer: 4,
    redundancy: [null, 0.375, 0.25, 0.625],
    rank: [null, 0.5, 0, 1],
    threshold: [null, null, 0.375, 0.3125],
    keep: [true, true, true, false],
  });
  const rank = (redundancy: (number | null)[]) =>
    collectTokenMap(
      [{ layer: 0, redundancy, threshold: [], keep: redundancy.map(() => 1) }],
      redundancy.map(String),
    )
      .layers[0]!.rank;
  assertEquals(rank([1, 2, 2, 3]), [0, 0.5, 0.5, 1]);
  assertEquals(rank([NaN, 4]), [null, 0.5]);
});

Deno.test("collectTokenMap() wants a text for every token", () => {
  assertThrows(
    () => collectTokenMap(splitLayers(excerpt.columns), ["a"]),
    RangeError,
    "layer 4: found 4 tokens, expected 1",
  );
});

Deno.test("plotTokenMap() counts decisions past the warm-up", () => {
  assertStringIncludes(plotTokenMap(parts).caption, "50% of the decisions shown skip"); // 3 of 6
});

Deno.test("TokenMap shows texts as texts, and data that ends no script", () => {
  const map = plotTokenMap({ ...parts, texts: ["A", " <b>", " </script>", "\n"] });
  const html = String(map.toHtml());
  assertStringIncludes(html, "&lt;b&gt;</span>");
  assertStringIncludes(html, "<s>⏎\n</s></span>");
  assertEquals([html.includes("<b>"), html.match(/<\/script>/g)!.length], [false, 1]);
  const [, first] = html.match(/<div class="text">(<span[^>]*>)/)!;
  assertEquals(
    first,
    '<span class="warm" style="--a: 0.000" title="token 0, “A”: skipped in 0 of 2 layers">',
  );
  assertEquals(html.match(/<span class="skip" style="--a: 0.600" title="token 3/g)!.length, 1);
  assertEquals(map.toText(), "A <b> </script>[\n]");
});

Deno.test("TokenMap displays itself as HTML and as text, the same every time", () => {
  const show = () => {
    const map = plotTokenMap(parts) as unknown as Record<symbol, () => Record<string, string>>;
    return map[Symbol.for("Jupyter.display")]!();
  };
  assertEquals(show(), show());
  assertStringIncludes(show()["text/plain"]!, "[\n]");
  assertStringIncludes(show()["text/html"]!, String(plotTokenMap(parts).toHtml()));
});

Deno.test("TokenMap.saveHtml() writes a page that loads nothing", () =>
  withFolder(async (folder) => {
    await plotTokenMap(parts).saveHtml(`${folder}/map.html`);
    const html = await Deno.readTextFile(`${folder}/map.html`);
    assertStringIncludes(html, "<h1>Which tokens were skipped</h1>");
    assert(html.length < 2e4 && !/(src|href)=|url\(|https?:/.test(html));
  }));

Deno.test("TokenMap says what is missing where there are no decisions", () => {
  assertStringIncludes(String(plotTokenMap(collectTokenMap([], ["a"])).toHtml()), "No decisions");
  assertStringIncludes(String(plotTokenMap(collectTokenMap([], [])).toHtml()), "No decisions");
});
