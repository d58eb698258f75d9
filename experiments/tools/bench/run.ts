/** Timing: cases of a race are verified, then take turns; each turn is compared with the device's peak then. */
import type { AttentionArgs, Backend } from "../../../lib/backend.ts";
import type { KernelRow, MachinePeak } from "../../../lib/plot/mod.ts";
import { quantile } from "../../../lib/math/quantile.ts";

/** The timed work, in words and counts. */
export interface Work {
  readonly op: string;
  /** Who computes: the device, or another library by name. */
  readonly impl: string;
  readonly phase: "prefill" | "decode";
  /** Sizes in words. */
  readonly shape: string;
  readonly dtype: string;
  /** Fraction of tokens skipped. */
  readonly skip: number;
  /** Recent window, where the op has one. */
  readonly recent?: number;
  /** Floating-point operations that the result needs. */
  readonly flops: number;
  /** Bytes that must be read and written once. */
  readonly bytes: number;
}

/** A computation of PyTorch: attention, or a product. */
export type TorchJob =
  & { readonly op: string; readonly dtype: string }
  & Readonly<Record<string, string | number>>;

/** What a clock needs. */
interface Timed {
  /** Computes once, or `repeats` times; on a GPU it only enqueues. */
  run(): void;
  readonly repeats?: number;
  /** Untimed work before each turn. */
  before?(): void;
  /** Milliseconds of one computation, of a library with a clock of its own. */
  time?(): Promise<number>;
}

/** Something to time. */
export interface BenchCase extends Work, Timed {
  /** Computes once and compares with the truth. @throws {Error} If the result is wrong. */
  verify(): void | Promise<void>;
  /** PyTorch's computation of the same, and the tensors that it takes; random ones where left out. */
  readonly job?: TorchJob;
  readonly args?: AttentionArgs;
}

/** Cases that take turns. They are made only before their start, so that the memory of the last race is free. */
export interface Race {
  readonly title: string;
  /** Whether PyTorch computes what the first case does. */
  readonly withTorch?: boolean;
  make(): BenchCase[];
}

/** What runs the cases, and its clock. */
export interface Device {
  readonly backend: Backend;
  /** Its name in the column "impl". */
  readonly impl: string;
  /** Turns of each case. */
  readonly turns: number;
  /** A clock for some work: each call gives the milliseconds of one computation. */
  clock(work: Timed): () => number | Promise<number>;
  /** Peak rates now, by work. */
  peak(): (work: Work) => MachinePeak;
  /** Peak rates of the device, for the report. */
  best(): MachinePeak;
  /** The device and its state, for the report. */
  readonly facts: { readonly [name: string]: unknown };
}

/** A measured case. */
export interface TimedRow extends KernelRow {
  /** Distance between the 10th and the 90th percentile of the turns, milliseconds. */
  readonly spreadMs: number;
}

const ascending = (values: readonly number[]) => values.toSorted((a, b) => a - b);

/** The median of some numbers. */
export function median(values: readonly number[]): number {
  return quantile(ascending(values), 0.5);
}

/** The least time that the peak allows, divided by the time of the work. */
export function fractionOfPeak({ flops, bytes }: Work, timeMs: number, peak: MachinePeak): number {
  return Math.max(flops / peak.flopsPerSecond, bytes / peak.bytesPerSecond) / (timeMs / 1000);
}

/** Verifies all cases, then lets them take turns with a measurement of the peak. @returns Medians. */
export async function race(device: Device, cases: readonly BenchCase[]): Promise<TimedRow[]> {
  for (const benchCase of cases) await benchCase.verify();
  const clocks = cases.map((benchCase) => device.clock(benchCase));
  const times = cases.map((): number[] => []), fractions = cases.map((): number[] => []);
  for (let turn = 0; turn < device.turns; turn++) {
    const peak = device.peak();
    for (const [i, benchCase] of cases.entries()) {
      const timeMs = await clocks[i]!();
      times[i]!.push(timeMs);
      fractions[i]!.push(fractionOfPeak(benchCase, timeMs, peak(benchCase)));
    }
  }
  return cases.map(({ op, impl, phase, shape, dtype, skip, recent = null, flops, bytes }, i) => {
    const sorted = ascending(times[i]!), timeMs = median(sorted), seconds = timeMs / 1000;
    return {
      ...{ op, impl, phase, shape, dtype, skip, recent, timeMs, peak: median(fractions[i]!) },
      gflops: flops / seconds / 1e9,
      gbps: bytes / seconds / 1e9,
      spreadMs: quantile(sorted, 0.9) - quantile(sorted, 0.1),
    };
  });
}
