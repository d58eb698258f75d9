/** A report as `deno task bench --only filter` prints one, for tests of pages: a run takes 8 s on one core. */
import type { BenchReport } from "../../../lib/plot/mod.ts";

const kernel = {
  op: "kv_filter_scan",
  impl: "cpu avx512",
  dtype: "f32",
  skip: 0.5,
  recent: null,
} as const;

/** The report of a run on one core. */
export const BENCH_REPORT: BenchReport = {
  kernels: [
    {
      ...kernel,
      phase: "prefill",
      shape: "T=4096 kvHeads=3 headDim=64 window=256",
      timeMs: 16.8,
      peak: 0.158,
      gflops: 0.84,
      gbps: 0.373,
    },
    {
      ...kernel,
      phase: "decode",
      shape: "T=1 kvHeads=3 headDim=64 window=256",
      timeMs: 0.225,
      peak: 0.0022,
      gflops: 0.0153,
      gbps: 0.0068,
    },
  ],
  lengths: [],
  model: "tiny",
  peak: { flopsPerSecond: 156e9, bytesPerSecond: 8.6e9 },
  environment: {
    version: "0.1.0",
    backendDescription: "cpu: avx512, 1 thread, built-in matrix product",
    deno: "2.9.6",
    platform: "linux x86_64",
    startedAt: "2026-01-02T03:04:05.678Z",
    load: 0.1,
  },
};
