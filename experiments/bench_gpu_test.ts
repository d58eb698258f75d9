/** The races of `bench:gpu` on the emulator, with small sizes: every contender verifies, and every row is whole. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { openEmulated } from "../ffi/cuda/testing.ts";
import { benchGpu, type GpuBenchSizes } from "./bench_gpu.ts";
import { decodeContender } from "./bench_gpu/attention.ts";
import type { Gpu } from "./bench_gpu/device.ts";

const SIZES: GpuBenchSizes = {
  attention: { numHeads: 4, numKvHeads: 2, headDim: 32 },
  dtypes: ["bf16"],
  decode: { batch: 2, rows: 64 },
  prefill: [64],
  step: { batch: 2, hiddenSize: 64 },
  scan: { tokens: 48, chunks: [16, 48] },
  model: {
    numLayers: 1,
    numHeads: 2,
    numKvHeads: 1,
    headDim: 32,
    hiddenSize: 64,
    intermediateSize: 64,
    vocabSize: 50,
    ropeTheta: 10000,
    rmsNormEps: 1e-5,
    contextLength: 64,
    tieWordEmbeddings: false,
  },
  modelBatch: 2,
  turns: 2,
};

async function emulatedGpu(): Promise<Gpu> {
  const { backend } = await openEmulated();
  const device = {
    ordinal: 0,
    name: "emulated",
    arch: 90,
    numSms: 2,
    memoryBytes: 2 ** 30,
    l2Bytes: 4096,
    clockMHz: 1000,
  };
  return {
    backend,
    device,
    time(work) {
      const start = performance.now();
      work();
      return performance.now() - start;
    },
  };
}

Deno.test("benchGpu() verifies and times every race", async () => {
  const titles: string[] = [];
  const options = { torch: false, onRace: (title: string) => void titles.push(title) };
  const { rows } = await benchGpu(await emulatedGpu(), SIZES, options);
  assertEquals(titles, [
    "decode attention, bf16",
    "prefill attention, 64 tokens, bf16",
    "filter",
    "decode steps",
  ]);
  const count = (op: string) => rows.filter((row) => row.op === op).length;
  assertEquals(
    ["attention_decode", "attention_prefill", "kv_filter_step", "kv_filter_scan", "decode_step"].map(count),
    [4, 3, 2, 2, 3],
  );
  for (const row of rows) {
    for (const name of ["timeMs", "gflops", "gbps", "roof"] as const) {
      assert(row[name] > 0, `${row.op} ${name}`);
    }
    assert(row.spreadMs >= 0);
  }
});

Deno.test("a contender that computes something else is not timed", async () => {
  const gpu = await emulatedGpu();
  const broken = new Proxy(gpu.backend, {
    get(target, name) {
      if (name === "decode") return { ...target.decode, attention: () => {} };
      const value = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  const sizes = { batch: 2, rows: 64, kept: 2, near: 0 };
  const contender = decodeContender({ ...gpu, backend: broken }, SIZES.attention, "bf16", sizes);
  assertThrows(() => contender.verify(), Error, "Cannot trust decode attention");
});
