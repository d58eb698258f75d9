import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { labelCurves } from "./curve_labels.ts";
import type { JsonObject } from "../figure/figure.ts";

const label = (ys: readonly number[], isLog = false, height = 186) => {
  const ends = ys.map((y, i) => ({ name: `curve <${i}>`, color: "@ink", x: 0.5, y }));
  const { layout, x, y } = labelCurves(ends, { x: [0.3, 0.5], y: [...ys, ys[0]! / 2] }, { height, isLog });
  const annotations = layout
    .annotations as readonly (JsonObject & { y: number; yshift?: number; ay?: number })[];
  const pixels = (height - 72) / (y[1] - y[0]);
  const shifts = annotations.map(({ yshift, ay }) => yshift ?? -ay!);
  return {
    layout,
    x,
    y,
    annotations,
    shifts,
    at: annotations.map((a, i) => (a.y - y[0]) * pixels + shifts[i]!),
  };
};

Deno.test("labelCurves() names each curve at its end, with room to the right and a legend for narrow pages", () => {
  const { layout, x, y, annotations } = label([10, 20]);
  assertEquals(annotations.map(({ text, y, yshift, x }) => [text, y, yshift, x]), [
    ["curve &lt;0&gt;", 10, 0, 0.5],
    ["curve &lt;1&gt;", 20, 0, 0.5],
  ]);
  assert(annotations.every(({ name }) => name === "curve"), "the name by which narrow pages leave them out");
  assertEquals(layout.showlegend, false);
  assertEquals(layout.margin, { l: 58, r: 20 + 7 * "curve <0>".length, t: 20, b: 52 });
  assertAlmostEquals(x[0], 0.29, 1e-9);
  assertAlmostEquals(x[1], 0.51, 1e-9);
  assertEquals(y, [4.25, 20.75]);
  assertEquals(label([10]).annotations.length, 1);
});

Deno.test("labelCurves() moves names apart, and none out of the plot", () => {
  const { at, annotations, shifts } = label([20, 19.9, 19.8, 10, 10.1]);
  // A name that had to leave its curve's end has a line to it.
  assertEquals(annotations.map(({ showarrow }) => showarrow), shifts.map((shift) => Math.abs(shift) >= 15));
  assert(annotations.some(({ showarrow }) => showarrow));
  assertEquals(annotations.map(({ y }) => y), [10, 10.1, 19.8, 19.9, 20]);
  for (let i = 1; i < at.length; i++) assert(at[i]! - at[i - 1]! >= 14.4, `${at}`);
  assert(at.at(-1)! <= 114.5 && at.at(-1)! > 100, `${at}`);
  assert(Math.abs(shifts[0]!) === 0, "the lowest stays where it is");
  const crowded = label(Array.from({ length: 7 }, (_, i) => 20 + i / 100), false, 186).at;
  assertEquals(Math.round(crowded.at(-1)!), 114);
  const full = label(Array.from({ length: 9 }, () => 20)).at;
  for (let i = 1; i < full.length; i++) assert(full[i]! - full[i - 1]! >= 14.4, `${full}`);
});

Deno.test("labelCurves() places names of a log axis by the logarithm", () => {
  const { y, annotations } = label([10, 1000], true);
  assertEquals(annotations.map((a) => a.y), [1, 3]);
  assertAlmostEquals(y[1], 3 + 0.05 * (3 - Math.log10(5)), 1e-12);
  assertAlmostEquals(y[0], Math.log10(5) - 0.05 * (3 - Math.log10(5)), 1e-12);
  assertEquals(
    labelCurves([{ name: "a", color: "@ink", x: 1, y: 2 }], { x: [1], y: [2] }, { height: 100, isLog: false })
      .y,
    [
      1.95,
      2.05,
    ],
  );
});
