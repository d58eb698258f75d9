import { assertAlmostEquals, assertEquals, assertMatch } from "@std/assert";
import { splitLayers } from "./layer_trace.ts";
import {
  type BoundaryOptions,
  collectSimilarityScatter,
  plotSimilarityScatter,
} from "./similarity_scatter.ts";
import { makeHeadReport } from "../../testing.ts";

const traces = splitLayers(makeHeadReport().sample);
const boundary = (more: object, rule?: string, options: BoundaryOptions = {}) =>
  collectSimilarityScatter([{ ...traces[0]!, ...more }], { rule, ...options }).layers[0]!.boundaries;

Deno.test("collectSimilarityScatter() leaves out tokens without similarities", () => {
  const { layers } = collectSimilarityScatter(traces);
  const { boundaries: _, ...first } = layers[0]!;
  assertEquals(first, {
    layer: 4,
    position: [1, 2, 3],
    muK: [0.5, 0.25, 0.75],
    muV: [0.25, 0.5, 0.5],
    redundancy: [0.375, 0.25, 0.625],
    keep: [true, true, false],
  });
});

Deno.test("collectSimilarityScatter() draws the line where the weighted mean is the threshold", () => {
  const lines = boundary({});
  assertEquals(lines.map(({ name }) => name.replace(/.* and /, "")), [
    "the median of the weights",
    "the 10% quantile of the weights",
    "the 90% quantile of the weights",
  ]);
  // Median threshold (0.375 + 0.3125) / 2, weights 0.5, 0.75, 1.
  for (const [i, weight] of [0.75, 0.55, 0.95].entries()) {
    const { x, y } = lines[i]!;
    assertEquals(x.length, 2);
    x.forEach((x, end) => assertAlmostEquals(weight * x + (1 - weight) * y[end]!, 0.34375, 1e-12));
  }
});

Deno.test("collectSimilarityScatter() knows lines that stand, lie, miss the square, and rules that bend", () => {
  const theta = { threshold: [0.25] };
  assertEquals(boundary({ ...theta, wK: [1, 1] })[0], {
    name: "at the median threshold",
    x: [0.25, 0.25],
    y: [-1, 1],
  });
  assertEquals(boundary({ ...theta, wK: [0] })[0], {
    name: "at the median threshold",
    x: [-1, 1],
    y: [0.25, 0.25],
  });
  assertEquals(boundary({ threshold: [3], wK: [0.5] })[0]!.x, []);
  assertEquals(boundary({ ...theta, wK: [NaN] }), []);
  assertEquals(boundary({ threshold: [NaN], wK: [0.5] }), []);
  assertEquals(boundary(theta, "min")[0], {
    name: "at the median threshold",
    x: [0.25, 0.25, 1],
    y: [1, 0.25, 0.25],
  });
  assertEquals(boundary(theta, "max")[0]!.y, [0.25, 0.25, -1]);
  const { x, y } = boundary(theta, "product")[0]!;
  x.forEach((x, i) => assertAlmostEquals(x * y[i]!, 0.25, 1e-12));
  assertEquals([x[0], x.at(-1)], [0.25, 1]);
  assertEquals(boundary({ threshold: [-0.1] }, "product")[0]!.x, []);
});

Deno.test("plotSimilarityScatter() draws kept, skipped and boundaries, one layer at a time", () => {
  const figure = plotSimilarityScatter(collectSimilarityScatter(traces));
  const shown = figure.data.filter(({ visible }) => visible === true);
  assertEquals(shown.map(({ name }) => name).slice(0, 3), ["kept", "skipped", "decision boundary"]);
  const looks = shown.slice(2).map(({ showlegend, line }) => {
    const { dash, width } = line as { dash: string; width: number };
    return [showlegend, dash, width];
  });
  assertEquals(looks[0], [true, "solid", 2], "only one boundary is in the legend");
  assertEquals(looks.slice(1), looks.slice(1).map(() => [false, "dot", 1]));
  assertEquals(figure.data.length, 2 * shown.length);
  const [slider] = figure.layout.sliders as { steps: { args: [unknown, Record<string, number[]>] }[] }[];
  const [low, high] = slider!.steps[0]!.args[1]["xaxis.range"]!;
  assertAlmostEquals(low!, 0.22, 1e-12); // Points at 0.25 to 0.75, 4% of that and 0.01 added.
  assertAlmostEquals(high!, 0.78, 1e-12);
  assertEquals(plotSimilarityScatter(collectSimilarityScatter([])).data, []);
});

Deno.test("collectSimilarityScatter() turns and shifts the boundary as the score is", () => {
  const one = { threshold: [0.25], wK: [0.75] };
  const at = ({ x, y }: { x: readonly number[]; y: readonly number[] }) =>
    x.map((x, i) => Number((0.75 * x + 0.25 * y[i]!).toFixed(12)));
  assertEquals(at(boundary(one)[0]!), [0.25, 0.25]);
  assertEquals(at(boundary(one, "variance", { invert: true })[0]!), [-0.25, -0.25]);
  // Deviations across heads 0.2 and 0.4, weighted to 0.25: twice that lowers the score by 0.5.
  const shifted = boundary({ ...one, varK: [0.04], varV: [0.16] }, "variance", { lambda: 2 });
  assertEquals(at(shifted[0]!), [0.75, 0.75]);
});

Deno.test("plotSimilarityScatter() says where tokens are skipped, if there is a boundary", () => {
  const caption = (wK: number[], options: BoundaryOptions = {}) => {
    const figure = plotSimilarityScatter(collectSimilarityScatter([{ ...traces[0]!, wK }], options));
    return `${figure.title}: ${figure.caption}`;
  };
  assertMatch(caption([0.5]), /where the rule decides: .*Up and right .* median threshold\. /);
  assertMatch(caption([0.5, 1], { invert: true }), /Down and left .* dotted/);
  assertMatch(caption([NaN]), /^Key against value similarity: .* or by neither\.$/);
});
