/** A benchCase of a race on a GPU, and its row in the table. */
import type { KernelRow } from "../../../lib/plot/mod.ts";
import { fractionOfPeak, rowOf, type Work } from "../bench/run.ts";

/** Something to time on a device. */
export interface GpuBenchCase extends Work {
  /** Enqueues the work once, or `repeats` times. */
  run(): void;
  /** Untimed work before each turn. */
  before?(): void;
  /** How often `run` does the work; 1 by default. */
  readonly repeats?: number;
  /** Computes once and compares with the truth. @throws {Error} If the result is wrong. */
  verify(): void;
}

/** A measured benchCase. */
export interface GpuRow extends KernelRow {
  /** Distance between the 10th and the 90th percentile of the turns. */
  readonly spreadMs: number;
}

/** The device's peak rates, in operations and bytes per second. */
export interface GpuPeak {
  /** Nominal, of multiply-adds of f32. */
  readonly f32Flops: number;
  /** Nominal, of 16-bit tensor cores; undefined for a device that is not known, whose peak is then only memory. */
  readonly tensorFlops: number | undefined;
  /** Measured: copying in device memory, bytes read and written. */
  readonly copyBytes: number;
}

/** Adds the rates to a time. */
export function gpuRow(work: Work, timeMs: number, spreadMs: number, peak: GpuPeak): GpuRow {
  // Products of a prefill run on tensor cores where the type allows; those of decode never bound it.
  const onTensorCores = work.dtype !== "f32" && work.phase === "prefill";
  const flopsPerSecond = onTensorCores ? peak.tensorFlops ?? Infinity : peak.f32Flops;
  const share = fractionOfPeak(work, timeMs, { flopsPerSecond, bytesPerSecond: peak.copyBytes });
  return { ...rowOf(work, timeMs, share), spreadMs };
}
