/** A contender of a race on a GPU, and its row in the table. */
import type { KernelRow } from "../../mod.ts";
import type { Work } from "../bench/run.ts";

/** Something to time on a device. */
export interface GpuContender extends Work {
  /** Enqueues the work once. */
  run(): void;
  /** Computes once and compares with the truth. @throws {Error} If the result is wrong. */
  verify(): void;
}

/** A measured contender. */
export interface GpuRow extends KernelRow {
  /** Distance between the 10th and the 90th percentile of the turns. */
  readonly spreadMs: number;
}

/** What the device can do, in operations and bytes a second. */
export interface GpuRoof {
  /** Measured: multiply-adds of f32. */
  readonly f32Flops: number;
  /** Nominal, of 16-bit tensor cores; undefined for a device that is not known, whose roof is then memory alone. */
  readonly tensorFlops: number | undefined;
  /** Measured: copying in device memory, bytes read and written. */
  readonly copyBytes: number;
}

/** Adds the rates to a time. */
export function gpuRow(
  { op, impl, phase, shape, dtype, skip, recent, flops, bytes }: Work,
  timeMs: number,
  spreadMs: number,
  roof: GpuRoof,
): GpuRow {
  const seconds = timeMs / 1000;
  // Products of a prefill run on tensor cores where the type allows; those of decode never bound it.
  const rate = dtype === "f32" || phase === "decode" ? roof.f32Flops : roof.tensorFlops ?? Infinity;
  return {
    op,
    impl,
    phase,
    shape,
    dtype,
    skip,
    recent: recent ?? null,
    timeMs,
    spreadMs,
    gflops: flops / seconds / 1e9,
    gbps: bytes / seconds / 1e9,
    roof: Math.max(flops / rate, bytes / roof.copyBytes) / seconds,
  };
}
