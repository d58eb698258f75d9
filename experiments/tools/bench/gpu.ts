/** A GPU as a device, timed by events with a cold L2, and its races: sizes of a model of 8 billion parameters. */
import type { ModelConfig } from "../../../lib/model/mod.ts";
import type { MachinePeak } from "../../../lib/plot/mod.ts";
import { buildCuda } from "../../../build.ts";
import { ensureCublasLt } from "../../../ffi/build/cublaslt.ts";
import { buildArchOf, type CudaDevice, type CudaMemory, openDriver } from "../../../ffi/cuda/mod.ts";
import { type CudaBackend, openCuda } from "../../../ffi/mod.ts";
import { describeDriver } from "../gpu/driver.ts";
import { attentionCase, decodeCase, SKIPS } from "./attention.ts";
import { scanCase, stepCase } from "./filter.ts";
import { linearCase } from "./linear.ts";
import { decodeStepCases } from "./model.ts";
import type { BenchCase, Device, Race } from "./run.ts";
import { type FloatType, i32 } from "./tensors.ts";

/** A GPU at work. */
export interface Gpu {
  readonly backend: CudaBackend;
  readonly device: CudaDevice;
  /** Milliseconds that enqueued work takes. */
  readonly time: CudaMemory["time"];
}

/** Builds the CUDA library for a GPU, and opens it. */
export async function openGpuDevice(ordinal: number, onProgress: (message: string) => void): Promise<Device> {
  const driver = openDriver(), device = driver.device(ordinal);
  const { manifest } = await buildCuda({
    archs: [buildArchOf(device.arch)],
    driver: driver.version,
    onProgress,
  });
  await ensureCublasLt(manifest.nvcc, { onProgress });
  const backend = await openCuda({ device: device.ordinal, wgmma: false, dependentLaunch: false }); // races use them
  const memory = backend.memory as CudaMemory, gpu = { backend, device, time: memory.time.bind(memory) };
  const { cuda, release, state } = await describeDriver(driver, device);
  const { nvcc, git } = manifest;
  return gpuDevice(gpu, 30, { device, driver: { cuda, release: release ?? null }, state, nvcc, git });
}

/** Least time that the device is kept busy before a turn, and most. */
const LEAD_MS = { least: 0.2, most: 5 } as const;
/** Turns that warm up: kernels are loaded, JavaScript is compiled, clocks go up. */
const WARM_UPS = 5;

/**
 * A GPU as a device. Before each turn a block of twice the size of the L2 cache is copied, so that L2 contains none of
 * the inputs. The copy is repeated until the host has enqueued the turn. So the device stays busy, and the time between
 * the events is the device's own.
 */
export function gpuDevice({ backend, device, time }: Gpu, turns: number, facts: Device["facts"]): Device {
  const { memory } = backend, bytes = Math.max(8 * device.l2Bytes, 2 ** 20), flushed = bytes / 4;
  const from = memory.alloc(bytes), to = memory.alloc(bytes);
  const least = (copied: number) =>
    Math.max(1e-3, Math.min(...Array.from({ length: 6 }, () => time(() => memory.copy(from, to, copied)))));
  const copyMs = least(flushed), bytesPerSecond = 2 * bytes / (least(bytes) / 1000);
  const best: MachinePeak = { flopsPerSecond: f32Rate(device), bytesPerSecond }, tensor = tensorRate(device);
  return {
    ...{ backend, impl: "tokenfilter", turns, facts },
    clock({ run, before, repeats = 1, time: other }) {
      if (other !== undefined) return other;
      let hostMs = 0;
      for (let i = 0; i < WARM_UPS; i++) {
        before?.();
        time(() => {
          const began = performance.now();
          run();
          hostMs = performance.now() - began; // of the last
        });
      }
      const copies = Math.ceil(Math.min(LEAD_MS.most, LEAD_MS.least + 3 * hostMs) / copyMs);
      return () => {
        before?.();
        for (let copy = 0; copy < copies; copy++) memory.copy(from, to, flushed);
        return time(run) / repeats;
      };
    },
    // Products of a prefill run on tensor cores where the type allows; those of decode never bound it.
    peak: () => ({ dtype, phase }) =>
      dtype !== "f32" && phase === "prefill" ? { ...best, flopsPerSecond: tensor ?? Infinity } : best,
    best: () => best,
  };
}

/**
 * Floating-point operations of 16-bit tensor cores a multiprocessor and clock, dense, with sums in f32; a GeForce does half of
 * them. Source: NVIDIA's white papers.
 */
const TENSOR_FLOPS_PER_CLOCK: { readonly [arch: number]: number } = {
  ...{ 80: 2048, 86: 1024, 89: 1024 },
  ...{ 90: 4096, 100: 8192, 120: 1024 },
};

/** Nominal rate of multiply-adds of f32 at the highest clock, each two operations, in FLOP/s. Source: as above. */
export function f32Rate({ arch, numSms, clockMHz }: CudaDevice): number {
  return (arch === 80 ? 128 : 256) * numSms * clockMHz * 1e6;
}

/** Nominal rate of the tensor cores at the highest clock, in FLOP/s; undefined for a device that is not known. */
export function tensorRate({ name, arch, numSms, clockMHz }: CudaDevice): number | undefined {
  const each = TENSOR_FLOPS_PER_CLOCK[arch], part = name.includes("GeForce") ? 0.5 : 1;
  return each === undefined ? undefined : part * each * numSms * clockMHz * 1e6;
}

/** Sizes of all races: two layers of a model of 8 billion parameters, with a tiny vocabulary. */
const SIZES = {
  attention: { numHeads: 32, numKvHeads: 8, headDim: 128 },
  dtypes: ["bf16", "f16"] as FloatType[],
  decode: { batch: 32, rows: 8192 },
  prefill: [4096, 8192, 16384],
  linear: { n: 14336, k: 4096, rows: [1, 8, 16, 32, 64, 4096] },
  step: { batch: 64, hiddenSize: 4096 },
  scan: { tokens: 4096, chunks: [32, 128, 512] },
  model: {
    ...{ architecture: "llama", numLayers: 2, numHeads: 32, numKvHeads: 8, headDim: 128, hiddenSize: 4096 },
    ...{ intermediateSize: 14336, vocabSize: 256, rope: { theta: 500000 }, rmsNormEps: 1e-5 },
    ...{ contextLength: 8192, tieWordEmbeddings: false },
  } as ModelConfig,
  modelBatch: 8,
};
export type GpuSizes = typeof SIZES;

/** All races of a part. */
export function gpuRaces({ backend: opened, impl, turns }: Device, part: string, sizes = SIZES): Race[] {
  const backend = opened as CudaBackend,
    { attention, dtypes, decode: { batch, rows }, linear, step, scan } = sizes;
  const layer = { numKvHeads: attention.numKvHeads, headDim: attention.headDim, hiddenSize: step.hiddenSize };
  const hasWgmma = backend.useWgmma(true);
  backend.useWgmma(false);
  const kernels = [{ impl }, { impl: `${impl} wgmma`, use: (on: boolean) => void backend.useWgmma(on) }];
  const products = (["bf16", "q8_0", "q4_1", "q4_k"] as const).map((dtype) => ({
    dtype,
    n: linear.n,
    k: linear.k,
  }));
  const races: { [part: string]: Race[] } = {
    attention: [
      ...dtypes.map((dtype): Race => ({
        title: `decode attention, ${dtype}`,
        withTorch: true,
        make: () =>
          [
            ...[{ rows, kept: batch, near: 0 }, { rows: rows / 2, kept: batch, near: 0 }],
            ...[{ rows: rows / 2, kept: batch, near: 16 }, { rows: rows / 2, kept: batch / 2, near: 16 }],
          ].map((how) => decodeCase(backend, attention, dtype, { batch, ...how })),
      })),
      ...sizes.prefill.map((tokens): Race => ({
        title: `prefill attention, ${tokens} tokens`,
        withTorch: true,
        make: () =>
          SKIPS.flatMap((how) => kernels.slice(0, hasWgmma ? 2 : 1).map((kernel) => ({ ...how, ...kernel })))
            .map((how) =>
              attentionCase(backend, attention, { phase: "prefill", dtype: dtypes[0]!, tokens, ...how })
            ),
      })),
    ],
    linear: linear.rows.map((rows) => ({
      title: `linear, ${rows} rows`,
      withTorch: true,
      make: () => products.map((how) => linearCase(backend, impl, { ...how, rows })),
    })),
    filter: [{
      title: "filter",
      make: () => [
        stepCase(backend, layer, { batch: step.batch }),
        stepCase(backend, layer, { batch: step.batch, recorded: 16 }),
        stepCase(backend, layer, { batch: step.batch, options: { fusion: "learned" } }),
        stepCase(backend, layer, { batch: step.batch, isKeySide: true, options: { recent: 32, warmup: 16 } }),
        ...[false, true].flatMap((learned) =>
          scan.chunks.map((chunk) => scanCase(backend, layer, { impl, tokens: scan.tokens, chunk, learned }))
        ),
        smallestCase(backend, impl),
      ],
    }],
    steps: [{
      title: "decode steps",
      make: () =>
        decodeStepCases(backend, sizes.model, { batch: sizes.modelBatch, capacity: 4 * turns + 64 }),
    }],
  };
  return races[part]!;
}

/** The smallest kernel, by which short times are to be read. */
function smallestCase(backend: CudaBackend, impl: string): BenchCase {
  const one = i32(backend, [0]);
  return {
    ...{
      op: "advance",
      impl,
      phase: "decode",
      shape: "one number: the least time of a kernel",
      dtype: "i32",
      skip: 0,
    },
    ...{ flops: 1, bytes: 8, run: () => backend.advance(one), verify: () => {} },
  };
}
