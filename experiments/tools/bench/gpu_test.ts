/** The races of `bench --gpu` on the interpreter of PTX, with small sizes: every case verifies, and every row is whole. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { openTestDevice, testOnPtx } from "../../../ffi/cuda/testing.ts";
import type { BatchOps } from "../../../lib/batch_ops.ts";
import type { KernelRow } from "../../../lib/plot/mod.ts";
import { decodeCase } from "./attention.ts";
import { readBars } from "./bars.ts";
import { stepCase } from "./filter.ts";
import { f32Rate, type Gpu, gpuDevice, gpuRaces, type GpuSizes, tensorRate } from "./gpu.ts";
import { runRaces } from "./main.ts";
import type { TimedRow } from "./run.ts";

const SIZES: GpuSizes = {
  attention: { numHeads: 4, numKvHeads: 2, headDim: 32 },
  dtypes: ["bf16"],
  decode: { batch: 2, rows: 64 },
  prefill: [64],
  linear: { n: 70, k: 256, rows: [1, 72] },
  step: { batch: 2, hiddenSize: 64 },
  scan: { tokens: 48, chunks: [16, 48] },
  model: {
    ...{ architecture: "llama", numLayers: 1, numHeads: 2, numKvHeads: 1, headDim: 32, hiddenSize: 64 },
    ...{ intermediateSize: 64, vocabSize: 50, rope: { theta: 10000 }, rmsNormEps: 1e-5, contextLength: 64 },
    tieWordEmbeddings: false,
  },
  modelBatch: 2,
};
const DEVICE = {
  ...{
    ordinal: 0,
    name: "interpreted",
    arch: 90,
    numSms: 2,
    memoryBytes: 2 ** 30,
    l2Bytes: 4096,
    clockMHz: 1000,
  },
  ...{ exclusive: false, readsHost: false },
};

async function interpretedGpu(): Promise<Gpu> {
  const { backend } = await openTestDevice();
  const time = (work: () => void) => {
    const start = performance.now();
    work();
    return performance.now() - start;
  };
  return { backend, device: DEVICE, time };
}

/** A GPU's backend on which some ops are others. */
function withOps(changed: Partial<BatchOps>, backend: Gpu["backend"]): Gpu["backend"] {
  return new Proxy(backend, {
    get(target, name) {
      if (name in changed) return changed[name as keyof BatchOps];
      const value = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

Deno.test("f32Rate() and tensorRate() are nominal rates, of which a GeForce has half", () => {
  const f32 = (arch: number, numSms: number, clockMHz: number) =>
    (f32Rate({ ...DEVICE, arch, numSms, clockMHz }) / 1e12).toFixed(1);
  assertEquals([f32(80, 108, 1410), f32(90, 132, 1980), f32(89, 128, 2520)], ["19.5", "66.9", "82.6"]);
  const tensor = (name: string, arch: number, numSms: number, clockMHz: number) =>
    Math.round((tensorRate({ ...DEVICE, name, arch, numSms, clockMHz }) ?? NaN) / 1e12);
  // The figures of NVIDIA's data sheets.
  assertEquals(tensor("NVIDIA H100 80GB HBM3", 90, 132, 1830), 989);
  assertEquals(tensor("NVIDIA GeForce RTX 4090", 89, 128, 2520), 165);
  assertEquals(tensor("NVIDIA L40S", 89, 142, 2490), 362);
  assertEquals(tensor("another", 70, 80, 1000), NaN);
});

testOnPtx("every race of a GPU verifies and times, and tells of each target but PyTorch's", async () => {
  const gpu = await interpretedGpu(), device = gpuDevice(gpu, 2, {});
  const wgmma = gpu.backend.useWgmma(true), dependent = gpu.backend.useDependentLaunch(true);
  gpu.backend.useWgmma(false), gpu.backend.useDependentLaunch(false);
  const races = ["attention", "linear", "filter", "steps"].flatMap((part) => gpuRaces(device, part, SIZES));
  let found: readonly TimedRow[] = [];
  await runRaces(device, races, {
    line: () => {},
    onRows(rows, failures) {
      found = rows;
      assertEquals(failures, []);
      return Promise.resolve();
    },
  });
  assertEquals(races.map(({ title }) => title), [
    ...["decode attention, bf16", "prefill attention, 64 tokens", "linear, 1 rows", "linear, 72 rows"],
    ...["filter", "decode steps"],
  ]);
  const counts = Map.groupBy(found, ({ op }) => op);
  assertEquals(Array.from(counts, ([op, { length }]) => [op, length]), [
    ...[["attention_decode", 4], ["filtered_attention", wgmma ? 6 : 3], ["linear", 8], ["kv_filter_step", 3]],
    ...[["kv_key_step", 1], ["kv_filter_scan", 4], ["advance", 1], ["decode_step", dependent ? 6 : 3]],
  ]);
  for (const row of found) {
    for (const name of ["timeMs", "gflops", "gbps", "peak"] as const) {
      assert(row[name] > 0, `${row.op} ${name}`);
    }
  }
  assertEquals(readBars(found).map(({ found, holds }) => [found === null, holds === null]), [
    ...[[false, false], [true, true], [false, false], [false, false], [false, false], [false, false]],
  ]);
});

Deno.test("readBars() reads each target from the rows that tell it", () => {
  const row = (op: string, impl: string, shape: string, timeMs: number, more: Partial<KernelRow> = {}) => ({
    ...{ op, impl, shape, timeMs, phase: "prefill", dtype: "bf16", skip: 0, recent: null },
    ...{ gflops: 1, gbps: 1, peak: 0.5, ...more },
  });
  const heads = "heads=32", [mma, wgmma, torch] = ["tokenfilter", "tokenfilter wgmma", "torch 2, flash"];
  const decode = (impl: string, cache: string, more: Partial<KernelRow>) =>
    row("attention_decode", impl, `batch=32 cache=${cache} kept=32 ${heads}`, 1, {
      ...more,
      phase: "decode",
    });
  const prefill = (impl: string, tokens: number, timeMs: number, more: Partial<KernelRow> = {}) =>
    row("filtered_attention", impl, `T=${tokens} ${heads}`, timeMs, more);
  const bars = readBars([
    decode(mma, "8192", { peak: 0.9 }),
    decode(mma, "8192", { peak: 0.86, dtype: "f16" }),
    decode(mma, "4096", { peak: 0.3 }),
    decode(mma, "8192+16", { peak: 0.2 }),
    decode(mma, "8192", { peak: 0.1, skip: 0.5 }),
    decode(torch, "8192", { peak: 0.1 }),
    prefill(mma, 4096, 3),
    prefill(wgmma, 4096, 2),
    prefill(mma, 4096, 0.9, { skip: 0.5 }),
    prefill(wgmma, 4096, 0.8, { skip: 0.5 }),
    prefill(mma, 4096, 0.1, { skip: 0.5, recent: 16 }),
    prefill(torch, 4096, 1.6),
    prefill(mma, 8192, 8),
    row("kv_filter_step", mma, "batch=64 variance", 0.009),
    row("kv_filter_step", mma, "batch=64 variance, of 16 in a graph, warm", 0.0055),
    row("kv_key_step", mma, "batch=64 variance, and the step that caches", 0.0125),
    row("decode_step", mma, "dense: batch=8", 2),
    row("decode_step", mma, "filtered, nothing skipped: batch=8", 2.03),
    row("decode_step", mma, "filtered: batch=8", 1.5, { skip: 0.5 }),
  ]);
  assertEquals(bars.map(({ meant, found, holds }) => [meant, found && Number(found.toPrecision(4)), holds]), [
    ...[[0.85, 0.86, true], [1, 1.25, false], [0.35, 0.4, false], [1, null, null], [0.35, null, null]],
    ...[[6, 5.5, true], [12, 12.5, false], [0.02, 0.015, true]],
  ]);
  assertEquals(readBars([]).map(({ found, holds }) => found ?? holds), [null, null, null, null]);
});

testOnPtx("a case that computes something else is not timed", async () => {
  const { backend } = await interpretedGpu(), layer = { numKvHeads: 2, headDim: 32, hiddenSize: 64 };
  const still = withOps({ attentionDecode: () => {} }, backend);
  const decode = decodeCase(still, SIZES.attention, "bf16", { batch: 2, rows: 64, kept: 2, near: 0 });
  assertThrows(() => decode.verify(), Error, "Cannot trust decode attention");
  const confused = withOps({
    kvFilterObserveBatch: (states, decisions, output, residual) =>
      backend.kvFilterObserveBatch(states, decisions, residual, output),
  }, backend);
  const step = stepCase(confused, layer, { batch: 2, options: { fusion: "learned" } });
  assertThrows(() => step.verify(), Error, "Cannot trust kv_filter_step");
  const keys = { batch: 2, isKeySide: true, options: { recent: 32, warmup: 16 } };
  const idle = stepCase(withOps({ kvKeyStep: () => {} }, backend), layer, keys);
  assertThrows(() => idle.verify(), Error, "Cannot trust kv_key_step: found 0");
  const held = withOps({
    kvKeyStep: (own, cache, rows) => {
      const counts = backend.read(cache.counts);
      backend.kvKeyStep(own, cache, rows);
      backend.write(cache.counts, counts); // rows that end stay
    },
  }, backend);
  assertThrows(() => stepCase(held, layer, keys).verify(), Error, "Cannot trust kv_key_step: found the rows");
});

testOnPtx(
  "a GPU's clock times the work alone, and keeps the device busy until the host is done",
  async () => {
    const gpu = await interpretedGpu(), calls: string[] = [];
    const memory = new Proxy(gpu.backend.memory, {
      get(target, name) {
        if (name === "copy") return () => void calls.push("copy");
        const value = Reflect.get(target, name, target);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
    const backend = new Proxy(gpu.backend, {
      get: (target, name) => name === "memory" ? memory : Reflect.get(target, name),
    });
    const time = (work: () => void) => {
      calls.push("begin");
      work();
      calls.push("end");
      return 0.1;
    };
    const device = gpuDevice({ ...gpu, backend, time }, 3, {});
    const slow = device.clock({
      run() {
        calls.push("slow");
        for (const began = performance.now(); performance.now() - began < 0.4;);
      },
    });
    const quick = device.clock({
      run: () => void calls.push("run"),
      before: () => void calls.push("before"),
      repeats: 4,
    });
    const turn = (clock: typeof slow) => {
      calls.length = 0;
      const ms = clock(), copies = calls.filter((call) => call === "copy").length;
      return { ms, copies, others: calls.filter((call) => call !== "copy") };
    };
    const [one, other] = [turn(slow), turn(quick)];
    assertEquals([one.ms, one.others], [0.1, ["begin", "slow", "end"]]);
    assertEquals([other.ms, other.others], [0.025, ["before", "begin", "run", "end"]]);
    assertEquals(calls.indexOf("before"), 0);
    // At least 0.2 ms plus three times the host's time; a copy takes 0.1 ms.
    assert(one.copies >= 14 && other.copies >= 2 && other.copies < 14, `${one.copies} and ${other.copies}`);
  },
);

testOnPtx(
  "stepCase() begins its cache anew before it is full, also where steps are recorded",
  async () => {
    const { backend } = await interpretedGpu(), sizes = { numKvHeads: 1, headDim: 32, hiddenSize: 64 };
    for (const recorded of [1, 16]) {
      const benchCase = stepCase(backend, sizes, { batch: 1, options: { pruneRatio: 0 }, recorded });
      for (let turn = 0; turn < 2100 / recorded; turn++) {
        benchCase.before!();
        benchCase.run();
      }
      backend.synchronize();
    }
  },
);
