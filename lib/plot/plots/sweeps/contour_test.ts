import { assertAlmostEquals, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { collectContour, isScattered, plotContour } from "./contour.ts";
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

Deno.test("scattered trials of a search are rounded to steps, and contours go on between them", () => {
  const many = makeSummary(
    Array.from({ length: 60 }, (_, i) => trial(0.1 * 1.1 ** i, i * 7 % 61, 0.5, i)),
  );
  const contour = collectContour(many, { x: "tau", y: "recent" })!, { x, y, trials } = contour;
  assertEquals([x.values.length, y.values.length, trials.flat().reduce((a, b) => a + b)], [24, 24, 60]);
  // Far apart: each step is the last one times a factor.
  assertAlmostEquals(x.values[2]! / x.values[1]!, x.values[23]! / x.values[22]!, 1e-9);
  const { data, layout } = plotContour(contour);
  assertEquals([isScattered(contour), data[0]!.connectgaps], [true, true]);
  assertEquals((layout.xaxis as { type?: string }).type, "log");
  const grid = collectContour(summary, { x: "tau", y: "recent" })!;
  assertEquals([isScattered(grid), plotContour(grid).data[0]!.connectgaps], [false, false]);
});

Deno.test("plotContour() says what is missing", () => {
  const one = makeSummary([trial(1, 0, 0.3, 1), trial(2, 0, 0.3, 2)]);
  assertStringIncludes(JSON.stringify(plotContour(collectContour(one)).layout), "No two options vary");
});
