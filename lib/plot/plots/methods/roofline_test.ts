import { assertEquals, assertStringIncludes } from "@std/assert";
import { collectRoofline, type KernelRow, plotRoofline } from "./roofline.ts";

const row = (more: Partial<KernelRow>): KernelRow => ({
  op: "linear",
  impl: "cpu avx2",
  phase: "prefill",
  shape: "M=1 <N=2>",
  dtype: "f32",
  skip: 0,
  recent: null,
  timeMs: 2,
  gflops: 120,
  gbps: 4,
  peak: 0.6,
  ...more,
});
const rows = [
  row({}),
  row({ gflops: 60, gbps: 1, skip: 0.5, recent: 16 }),
  row({ phase: "decode", gflops: 0.5, gbps: 1 }),
  row({ impl: "torch 2.0", gflops: 100 }),
  row({ op: "copy", gflops: 0 }),
];
const machine = { flopsPerSecond: 200e9, bytesPerSecond: 20e9 };

Deno.test("collectRoofline() places kernels by operations a byte, under a peak with its ridge", () => {
  const { groups, peak } = collectRoofline(rows, machine);
  assertEquals(
    groups.map((
      { op, phase, impl, points },
    ) => [op, phase, impl, ...points.map((p) => [p.intensity, p.gflops])]),
    [
      ["linear", "prefill", "cpu avx2", [30, 120], [60, 60]],
      ["linear", "decode", "cpu avx2", [0.5, 0.5]],
      ["linear", "prefill", "torch 2.0", [25, 100]],
    ],
  );
  assertEquals(peak, [[0.5 / 3, (0.5 / 3) * 20e9 / 1e9], [10, 200], [180, 200]]);
  assertStringIncludes(groups[0]!.points[1]!.hover, "0.5 skipped, recent 16");
  assertStringIncludes(groups[0]!.points[1]!.hover, "M=1 &lt;N=2&gt;");
});

Deno.test("plotRoofline() draws the peak and a trace a group, and says what is missing", () => {
  const figure = plotRoofline(collectRoofline(rows, machine));
  assertEquals(figure.data.map(({ name }) => name), [
    "peak",
    "linear, prefill",
    "linear, decode",
    "linear, prefill (torch 2.0)",
  ]);
  assertStringIncludes(
    JSON.stringify(plotRoofline(collectRoofline([], machine)).layout),
    "No kernel was measured",
  );
});
