/** Common parts of GPU races: numbers on the device, timing by events with a cold L2, nominal tensor-core rates. */
import { toBf16, toF16 } from "../../../lib/half.ts";
import { hostTensor, type Tensor } from "../../../lib/tensor.ts";
import type { CudaDevice, CudaMemory } from "../../../ffi/cuda/mod.ts";
import type { CudaBackend } from "../../../ffi/mod.ts";
import { median, numbers } from "../bench/run.ts";
import type { GpuBenchCase } from "./row.ts";

/** A GPU at work. */
export interface Gpu {
  readonly backend: CudaBackend;
  readonly device: CudaDevice;
  /** Milliseconds that enqueued work takes. */
  readonly time: CudaMemory["time"];
}

/** Element types of activations and caches. */
export type FloatType = "f32" | "f16" | "bf16";

/** Turns of each benchCase. */
export const TURNS = 30;
/** Values that are drawn; larger tensors repeat them. */
const DRAWN = 2 ** 20;

/** A tensor of random numbers of variance 1, made on the host in part and repeated on the device. */
export function randomTensor(
  { backend }: Gpu,
  dtype: FloatType,
  shape: readonly number[],
  seed: number,
): Tensor {
  const count = shape.reduce((a, b) => a * b, 1), drawn = Math.min(count, DRAWN);
  const next = numbers(seed);
  const values = Float32Array.from({ length: drawn }, () => next() + next() + next());
  const data = dtype === "f32" ? values : Uint16Array.from(values, dtype === "f16" ? toF16 : toBf16);
  const out = backend.alloc(dtype, shape);
  const bytesEach = data.BYTES_PER_ELEMENT;
  backend.memory.write(out.buffer, data);
  for (let filled = drawn; filled < count;) {
    const more = Math.min(filled, count - filled);
    backend.memory.copy(out.buffer, out.buffer, more * bytesEach, { from: 0, to: filled * bytesEach });
    filled += more;
  }
  return out;
}

/** Whole numbers on the device. */
export function i32(backend: CudaBackend, values: readonly number[] | Int32Array): Tensor {
  return backend.upload(hostTensor("i32", [values.length], Int32Array.from(values)));
}

/** Bytes of a value. */
export function bytesOf(dtype: FloatType): number {
  return dtype === "f32" ? 4 : 2;
}

/** Something that takes its turns. */
export type TimedWork = Pick<GpuBenchCase, "run" | "before" | "repeats">;

/** Least time that the device is kept busy before a turn, and most. */
const LEAD_MS = { least: 0.2, most: 5 } as const;
/** Turns that warm up: kernels are loaded, JavaScript is compiled, clocks go up. */
const WARM_UPS = 5;

/**
 * Median times in milliseconds. Cases take turns. Before each, a block of twice the size of the L2 cache is copied, so
 * that L2 contains none of the inputs. The copy is repeated until the host has enqueued the turn. So the device stays
 * busy, and the time between the events is the device's own.
 */
export function raceOnDevice(
  gpu: Gpu,
  timed: readonly TimedWork[],
  turns = TURNS,
): { medians: number[]; spreads: number[] } {
  const { backend: { memory }, device } = gpu;
  const bytes = Math.max(2 * device.l2Bytes, 2 ** 20);
  using from = memory.alloc(bytes);
  using to = memory.alloc(bytes);
  const tries = Array.from({ length: 3 }, () => gpu.time(() => memory.copy(from, to, bytes)));
  const copyMs = Math.max(1e-3, Math.min(...tries)); // the first is slow
  const copies = timed.map(({ run, before }) => {
    let hostMs = 0;
    for (let i = 0; i < WARM_UPS; i++) {
      before?.();
      gpu.time(() => {
        const began = performance.now();
        run();
        hostMs = performance.now() - began; // of the last
      });
    }
    return Math.ceil(Math.min(LEAD_MS.most, LEAD_MS.least + 3 * hostMs) / copyMs);
  });
  const times = timed.map((): number[] => []);
  for (let turn = 0; turn < turns; turn++) {
    for (const [i, { run, before, repeats = 1 }] of timed.entries()) {
      before?.();
      for (let copy = 0; copy < copies[i]!; copy++) memory.copy(from, to, bytes);
      times[i]!.push(gpu.time(run) / repeats);
    }
  }
  const spread = (list: number[]) => {
    const sorted = list.toSorted((a, b) => a - b);
    return sorted[Math.floor(0.9 * (sorted.length - 1))]! - sorted[Math.floor(0.1 * (sorted.length - 1))]!;
  };
  return { medians: times.map(median), spreads: times.map(spread) };
}

/** Bytes per second of copies in device memory, read and written, of more than a cache holds: the best of a few. */
export function copyRate({ backend: { memory }, device, time }: Gpu): number {
  const bytes = Math.max(8 * device.l2Bytes, 2 ** 20);
  using from = memory.alloc(bytes);
  using to = memory.alloc(bytes);
  const times = Array.from({ length: 6 }, () => time(() => memory.copy(from, to, bytes)));
  return 2 * bytes / (Math.min(...times) / 1000);
}

/** Least times between two events: with no kernel, and with one of a single thread. */
export interface Floor {
  /** Milliseconds. */
  readonly emptyMs: number;
  /** Milliseconds. */
  readonly kernelMs: number;
}

/** Measures the floor of all short times. */
export function floorOf(gpu: Gpu, turns = TURNS): Floor {
  const one = i32(gpu.backend, [0]);
  const run = () => gpu.backend.advance(one);
  const [emptyMs, kernelMs] = raceOnDevice(gpu, [{ run: () => {} }, { run }], turns).medians;
  return { emptyMs: emptyMs!, kernelMs: kernelMs! };
}

/**
 * Floating-point operations of 16-bit tensor cores a multiprocessor and clock, dense, with sums in f32; a GeForce does half of
 * them. Source: NVIDIA's white papers.
 */
const TENSOR_FLOPS_PER_CLOCK: { readonly [arch: number]: number } = {
  80: 2048,
  86: 1024,
  89: 1024,
  90: 4096,
  100: 8192,
  120: 1024,
};

/** Nominal rate of multiply-adds of f32 at the highest clock, each two operations, in FLOP/s. Source: as above. */
export function f32Rate({ arch, numSms, clockMHz }: CudaDevice): number {
  return (arch === 80 ? 128 : 256) * numSms * clockMHz * 1e6;
}

/** Nominal rate of the tensor cores at the highest clock, in FLOP/s; undefined for a device that is not known. */
export function tensorRate({ name, arch, numSms, clockMHz }: CudaDevice): number | undefined {
  const each = TENSOR_FLOPS_PER_CLOCK[arch], share = name.includes("GeForce") ? 0.5 : 1;
  return each === undefined ? undefined : share * each * numSms * clockMHz * 1e6;
}
