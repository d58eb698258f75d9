import { assertEquals, assertStringIncludes } from "@std/assert";
import { type BenchReport, plotBench, renderBenchReport } from "./bench.ts";

const report: BenchReport = {
  kernels: [],
  lengths: [],
  peers: [
    { engine: "tokenfilter", method: "dense", tokens: 128, prefillMs: 10, decodeMs: 2 },
    {
      engine: "llama.cpp (llama-cpp-python 0.3.36)",
      method: "dense",
      tokens: 128,
      prefillMs: 20,
      decodeMs: 3,
    },
    { engine: "PyTorch 2.15.0 (f32)", method: "dense", tokens: 128, prefillMs: 30, decodeMs: 8 },
    { engine: "tokenfilter", method: "paper, half skipped", tokens: 128, prefillMs: 9, decodeMs: 1 },
  ],
  peak: { flopsPerSecond: 1e11, bytesPerSecond: 1e10 },
  environment: {
    version: "0.1.0",
    backendDescription: "cpu",
    deno: "2",
    platform: "linux",
    startedAt: "2026-11-28T00:00:00Z",
  },
};

Deno.test("plotBench() draws what was measured, engines beside our methods", () => {
  const [prefill, decode, ...more] = plotBench(report);
  assertEquals(more, []);
  const names = ["dense", "llama.cpp", "PyTorch", "paper, half skipped"];
  assertEquals(
    prefill!.data.map(({ name, y }) => [name, y]),
    names.map((name, i) => [name, [[10, 20, 30, 9][i]]]),
  );
  assertEquals(
    decode!.data.map(({ name, y }) => [name, y]),
    names.map((name, i) => [name, [[2, 3, 8, 1][i]]]),
  );
  assertStringIncludes(prefill!.caption, "logits of its last token");
  assertEquals(plotBench({ ...report, peers: [] }), []);
});

Deno.test("renderBenchReport() has no panel of what was not measured", () => {
  const page = renderBenchReport(report, { plotly: "" });
  assertEquals([...page.matchAll(/<h2>(.*?)<\/h2>/g)].map(([, title]) => title), [
    "Prefill time compared with other engines",
    "Decode time compared with other engines",
    "Beside other engines",
  ]);
});
