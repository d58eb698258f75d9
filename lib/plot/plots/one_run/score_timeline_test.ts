import { assertEquals } from "@std/assert";
import { splitLayers } from "./layer_trace.ts";
import { collectScoreTimeline, hoverToken, plotScoreTimeline, showToken } from "./score_timeline.ts";
import { makeHeadReport } from "../../testing.ts";

const { excerpt } = makeHeadReport();
const traces = splitLayers(excerpt.columns);

Deno.test("collectScoreTimeline() counts skips past the warm-up alone", () => {
  const { layers, texts, warmup } = collectScoreTimeline(traces, { texts: excerpt.texts, warmup: 2 });
  assertEquals([texts, warmup], [excerpt.texts, 2]);
  assertEquals(layers[1], {
    layer: 5,
    position: [0, 1, 2, 3],
    redundancy: [null, 0.375, 0.5, 0.625],
    threshold: [null, null, 0.375, 0.4375],
    keep: [true, true, false, false],
    skipped: 1,
  });
  assertEquals(layers[0]!.skipped, 0.5);
  assertEquals(collectScoreTimeline(traces, { warmup: 9 }).layers[0]!.skipped, null);
});

Deno.test("plotScoreTimeline() marks skipped tokens, and the warm-up where it is seen", () => {
  const figure = plotScoreTimeline(collectScoreTimeline(traces, { texts: excerpt.texts, warmup: 2 }));
  const skipped = figure.data.find(({ name, visible }) => name === "skipped" && visible === true)!;
  assertEquals([skipped.x, skipped.y, skipped.text], [[2, 3], [0.5, 0.625], ["␣&#64;x", "⏎"]]);
  const kept = figure.data.find(({ name, visible }) => name === "kept" && visible === true)!;
  assertEquals([kept.x, kept.y], [[1], [0.375]]);
  const shapes = (warmup: number) =>
    plotScoreTimeline(collectScoreTimeline(traces, { warmup })).layout.shapes as Record<string, number>[];
  assertEquals(shapes(2).map(({ x0, x1, y0, y1 }) => [x0, x1, y0, y1]), [[-0.5, 1.5, 0, 1]]);
  assertEquals(shapes(0), []);
});

Deno.test("plotScoreTimeline() says what is missing where no token has a score", () => {
  const none = collectScoreTimeline([{ layer: 0, redundancy: [NaN], threshold: [NaN], keep: [1] }]);
  assertEquals([plotScoreTimeline(none).data, plotScoreTimeline(collectScoreTimeline([])).data], [[], []]);
});

Deno.test("showToken() shows what is not seen; hoverToken() lets no text become markup or a colour", () => {
  assertEquals([" a", "a b", "\n", "\t", ""].map(showToken), ["␣a", "a b", "⏎", "⇥", "(empty)"]);
  assertEquals([hoverToken("<b>"), hoverToken("@ink"), hoverToken(undefined)], [
    "&lt;b&gt;",
    "&#64;ink",
    "token",
  ]);
});
