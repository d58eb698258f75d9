import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { collectQuality, plotQuality } from "./quality.ts";
import { makeSummary, makeTrial } from "../../testing.ts";

const summary = makeSummary([
  makeTrial({ fusion: "learned", pruneRatio: 0.5 }, 0.501, 60),
  makeTrial({ fusion: "learned", pruneRatio: 0.3 }, 0.299, 50),
  makeTrial({ fusion: "variance", pruneRatio: 0.3 }, 0.3, 58),
  makeTrial({ preset: "paper", pruneRatio: 0.3 }, 0.3, 70),
  makeTrial({ fusion: "random", pruneRatio: 0.3, seed: 0 }, 0.3, 56),
  makeTrial({ fusion: "random", pruneRatio: 0.3, seed: 1 }, 0.3, 54),
  makeTrial({ fusion: "random", pruneRatio: 0.3, seed: 2 }, 0.303, 58),
  makeTrial({ fusion: "oracle", pruneRatio: 0.3 }, 0.3, 45),
  makeTrial({ fusion: "mean", pruneRatio: 0.3 }, null, 40),
]);

Deno.test("collectQuality() makes a curve of trials that differ in the ratio alone", () => {
  const { curves, front, dropped, dense } = collectQuality(summary);
  assertEquals(
    curves.map((curve) => [curve.name, curve.points.map((p) => [p.x, p.values.perplexity, p.values.kl])]),
    [
      ["learned", [[0.299, 50, 0.5], [0.501, 60, 0.6]]],
      ["variance", [[0.3, 58, 0.58]]],
      ["oracle", [[0.3, 45, 0.45]]],
      ["paper", [[0.3, 70, 0.7]]],
    ],
  );
  assertEquals(front.map((p) => p.values.perplexity), [50, 60]);
  assertEquals([dropped, dense], [1, 40]);
});

Deno.test("collectQuality() makes the random control a band over its seeds", () => {
  const { bands } = collectQuality(summary);
  assertEquals(bands.length, 1);
  const [point] = bands[0]!.points;
  assertEquals(point!.values.perplexity, { low: 54, mean: 56, high: 58 });
  assertEquals([point!.seeds, Math.round(1000 * point!.x)], [3, 301]);
  assertStringIncludes(point!.hover, "seeds 0, 1, 2");
});

Deno.test("collectQuality() keeps thresholds of the random control apart", () => {
  const trial = (theta: number, seed: number, ratio: number) =>
    makeTrial({ fusion: "random", threshold: "fixed", theta, seed }, ratio, 50);
  const fixed = [trial(0.4, 0, 0.45), trial(0.4, 1, 0.46), trial(0.8, 0, 0.15), trial(0.8, 1, 0.16)];
  const { bands } = collectQuality(makeSummary(fixed));
  assertEquals(bands.map(({ points }) => points.map(({ seeds }) => seeds)), [[2, 2]]);
});

Deno.test("collectQuality() shows a point's whole configuration on hover", () => {
  const { hover } = collectQuality(summary).curves[1]!.points[0]!;
  for (
    const part of [
      "requested 0.3",
      "queries skipped 0.300",
      "retained: queries 75%, pairs 75%, attn FLOPs 60%, KV cache 60%",
      "perplexity 58.00",
      "± 0.010",
      "tau 1",
      "gamma 0.9",
      "warmup 32",
      "tail 0.75",
    ]
  ) {
    assertStringIncludes(hover, part);
  }
});

Deno.test("plotQuality() draws every curve, the band, the front and the dense line", () => {
  const figure = plotQuality(collectQuality(summary), "perplexity");
  assertEquals(plotQuality(collectQuality(summary)).layout, figure.layout); // the headline
  const traces = figure.data.map((trace) => trace.name).filter((name) => name !== undefined);
  assertEquals(traces, [
    "random",
    "learned",
    "variance",
    "oracle",
    "paper",
    "Pareto front",
    "dense (40.00)",
  ]);
  const fills = figure.data.slice(0, 3).map(({ fill, showlegend, y }) => [fill, showlegend, y]);
  assertEquals(fills, [[undefined, false, [54]], ["tonexty", undefined, [56]], ["tonexty", false, [58]]]);
  const notes = figure.layout.annotations as { text: string; x: number; y: number }[];
  assertEquals(notes.map(({ text, x, y }) => [text, x, y]), [
    ["dense (40.00)", 0.501, 40],
    ["oracle", 0.3, 45],
    ["random", 0.301, 56],
    ["variance", 0.3, 58],
    ["learned", 0.501, 60],
    ["paper", 0.3, 70],
  ]);
  assertEquals(figure.data.at(-1)!.x, [0.299, 0.501]);
  assertEquals((figure.layout.yaxis as { range: number[] }).range, [38.5, 71.5]);
  assertStringIncludes(figure.caption, "1 trial without");
  assertStringIncludes(figure.caption, "grey band");
  const alone = makeSummary([makeTrial({ pruneRatio: 0.3 }, 0.3, 60)]);
  assert(!plotQuality(collectQuality(alone), "perplexity").caption.includes("grey band"));
  const styles = figure.data.slice(3, 7).map((trace) => JSON.stringify([trace.marker, trace.line]));
  assertEquals(new Set(styles).size, styles.length);
});

Deno.test("plotQuality() takes a log scale where perplexities lie far apart", () => {
  const yaxis = (high: number) => {
    const far = makeSummary([makeTrial({ pruneRatio: 0.3 }, 0.3, high)]);
    return (plotQuality(collectQuality(far), "perplexity").layout.yaxis as Record<string, unknown>).type;
  };
  assertEquals([yaxis(320), yaxis(321)], [undefined, "log"]);
  const { layout, data } = plotQuality(
    collectQuality(makeSummary([makeTrial({ pruneRatio: 0.3 }, 0.3, 400)])),
  );
  assertEquals((layout.annotations as { y: number }[]).map(({ y }) => y), [Math.log10(40), Math.log10(400)]);
  assertEquals(data.at(-1)!.x, [0, 0.3]);
});

Deno.test("plotQuality() names rules in the legend where curves are many", () => {
  const trials = Array.from({ length: 15 }, (_, tau) => makeTrial({ pruneRatio: 0.3, tau }, 0.3, 50 + tau));
  const layoutOf = (count: number) => plotQuality(collectQuality(makeSummary(trials.slice(0, count)))).layout;
  assertEquals([layoutOf(14).showlegend, layoutOf(15).showlegend], [false, undefined]);
  assertEquals(layoutOf(15).annotations, undefined);
});

Deno.test("plotQuality() says what is missing in an empty sweep", () => {
  const figure = plotQuality(collectQuality(makeSummary([])), "kl");
  assertEquals(figure.data, []);
  assertStringIncludes(JSON.stringify(figure.layout), "No trial here");
});

Deno.test("plotQuality() crosses out trials that missed the requested ratio, and counts them", () => {
  const rule = makeTrial({ fusion: "key", pruneRatio: 0.5 }, 0.479, 41);
  const quality = collectQuality(makeSummary([...summary.trials, rule]));
  assertEquals(quality.missed.map(({ x }) => x), [0.479]);
  assertEquals(quality.front.map(({ x }) => x), [0.299, 0.501]);
  assertStringIncludes(quality.missed[0]!.hover, "queries skipped 0.479 (requested 0.5: missed)");
  const { data, caption } = plotQuality(quality, "kl");
  const cross = data.find(({ name }) => name === "missed the requested ratio")!;
  assertEquals([cross.x, cross.y], [[0.479], [0.41]]);
  assertStringIncludes(
    caption,
    "CROSSED OUT: 1 trial that skipped more than 2 points more or fewer queries than requested",
  );
  const clean = plotQuality(collectQuality(summary));
  assert(!clean.caption.includes("CROSSED") && !clean.data.some(({ name }) => name === cross.name));
});
