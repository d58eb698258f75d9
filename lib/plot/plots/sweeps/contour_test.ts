import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { collectContour, plotContour } from "./contour.ts";
import { makeSummary, makeTrial } from "../../testing.ts";

const trial = (tau: number, recent: number, pruneRatio: number, loss: number) => ({
  ...makeTrial({ tau, recent, pruneRatio }, pruneRatio, 50),
  nllDelta: loss,
});
const summary = makeSummary([
  trial(1, 0, 0.3, 1),
  trial(1, 0, 0.5, 3),
  trial(2, 0, 0.3, 1.5),
  trial(1, 16, 0.3, 0.25),
]);

Deno.test("collectContour() takes the two numbers that explain most, and averages over the rest", () => {
  assertEquals(collectContour(summary, { x: "tau", y: "recent" }), {
    unit: "nats per token",
    x: { name: "tau", values: [1, 2] },
    y: { name: "recent", values: [0, 16] },
    loss: [[2, 1.5], [0.25, null]],
    trials: [[2, 1], [1, 0]],
  });
  const { x, y } = collectContour(summary)!;
  assertEquals([x.name, y.name], ["pruneRatio", "recent"]);
  assertThrows(() => collectContour(summary, { x: "gamma" }), RangeError, 'over "gamma"');
});

Deno.test("plotContour() marks where there are trials", () => {
  const figure = plotContour(collectContour(summary, { x: "tau", y: "recent" }));
  assertEquals(figure.data[1]!.x, [1, 2, 1]);
  assertEquals(figure.data[1]!.y, [0, 0, 16]);
  const stops = figure.data[0]!.colorscale as [number, string][]; // plotly needs 0 to 1
  assertEquals(stops, [0, 0.25, 0.5, 0.75, 1].map((stop, i) => [stop, `@heat${i}`]));
  assertStringIncludes((figure.data[1]!.text as string[])[0]!, "loss increase 2.0000<br>2 trials");
});

Deno.test("plotContour() says what is missing", () => {
  const one = makeSummary([trial(1, 0, 0.3, 1), trial(2, 0, 0.3, 2)]);
  assertStringIncludes(JSON.stringify(plotContour(collectContour(one)).layout), "No two options vary");
});
