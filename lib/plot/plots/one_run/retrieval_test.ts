import { assertEquals, assertStringIncludes } from "@std/assert";
import { makeHeadReport } from "../../testing.ts";
import { collectRetrieval, plotRetrieval } from "./retrieval.ts";

const report = makeHeadReport();

Deno.test("collectRetrieval() gives the fractions of layers and of KV heads", () => {
  assertEquals(collectRetrieval(report), {
    names: ["layer", "head 0", "head 1"],
    shares: [[0, 0.25, 0, 0, 0.75, 0], [0, 0.125, 0, 0, 0.75, 0], [0, 0.125, 0, 0, 0, 0]],
    copies: true,
  });
});

Deno.test("plotRetrieval() says where the scores are a guess, and where there are none", () => {
  const { data, caption } = plotRetrieval(collectRetrieval(report)),
    [{ z, y }] = data as [{ z: unknown; y: unknown }];
  assertEquals([z, y], [collectRetrieval(report).shares, [0, 1, 2]]);
  assertEquals(caption.includes("a guess"), false);
  const guess = plotRetrieval(collectRetrieval({ retrieval: { ...report.retrieval!, copies: false } }));
  assertStringIncludes(guess.caption, "its scores are a guess");
  const none = plotRetrieval(collectRetrieval({}));
  assertEquals(none.data, []);
  assertStringIncludes(JSON.stringify(none.layout.annotations), "deno task heads");
});
