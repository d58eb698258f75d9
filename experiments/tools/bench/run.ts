/** Timing: cases of a race are verified, then take turns; each turn is compared with the machine's peak then. */

import type { KernelRow, MachinePeak } from "../../../lib/plot/mod.ts";

/** The timed work, in words and counts. */
export interface Work {
  readonly op: string;
  /** The implementation: `cpu` with its level, or another library by name. */
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

/** Something to time. */
export interface BenchCase extends Work {
  /** Computes once and compares with the truth. @throws {Error} If the result is wrong. */
  verify(): void | Promise<void>;
  /** Computes `repeats` times; milliseconds in all. */
  time(repeats: number): number | Promise<number>;
}

/** Turns of each benchCase. */
const TURNS = 7;
/** A turn repeats a short computation for about this many milliseconds. */
const TURN_MS = 30;
/** Pause before a turn, so that another library's threads have stopped spinning. */
const PAUSE_MS = 20;

/** The median of some numbers. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** The least time that the peak allows, divided by the time of the work. */
export function fractionOfPeak({ flops, bytes }: Work, timeMs: number, peak: MachinePeak): number {
  return Math.max(flops / peak.flopsPerSecond, bytes / peak.bytesPerSecond) / (timeMs / 1000);
}

/** Adds the rates to a median time, and the fraction of the peak that was reached. */
export function rowOf(work: Work, timeMs: number, peak: number): KernelRow {
  const { op, impl, phase, shape, dtype, skip, recent = null, flops, bytes } = work;
  const seconds = timeMs / 1000;
  return {
    ...{ op, impl, phase, shape, dtype, skip, recent, timeMs, peak },
    gflops: flops / seconds / 1e9,
    gbps: bytes / seconds / 1e9,
  };
}

/** Verifies all cases, then lets them take turns with a measurement of the peak. @returns Medians. */
export async function race(
  cases: readonly BenchCase[],
  measurePeak: () => MachinePeak,
): Promise<KernelRow[]> {
  for (const benchCase of cases) await benchCase.verify();
  const repeats: number[] = [];
  for (const benchCase of cases) {
    const once = await benchCase.time(1);
    repeats.push(Math.max(1, Math.min(1000, Math.round(TURN_MS / once))));
  }
  const turns = cases.map(() => ({ times: [] as number[], shares: [] as number[] }));
  for (let turn = 0; turn < TURNS; turn++) {
    const peak = measurePeak();
    for (const [i, benchCase] of cases.entries()) {
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      const timeMs = await benchCase.time(repeats[i]!) / repeats[i]!;
      turns[i]!.times.push(timeMs);
      turns[i]!.shares.push(fractionOfPeak(benchCase, timeMs, peak));
    }
  }
  return turns.map(({ times, shares }, i) => rowOf(cases[i]!, median(times), median(shares)));
}

/** Times a function of this process. */
export function timed(run: () => void): (repeats: number) => number {
  return (repeats) => {
    const start = performance.now();
    for (let i = 0; i < repeats; i++) run();
    return performance.now() - start;
  };
}

/** @throws {Error} If two results differ by more than `tolerance` anywhere, or one holds NaN. */
export function expectClose(
  what: string,
  found: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: number,
): void {
  if (found.length !== expected.length) {
    throw new Error(`Cannot trust ${what}: found ${found.length} numbers, expected ${expected.length}`);
  }
  for (let i = 0; i < found.length; i++) {
    if (!(Math.abs(found[i]! - expected[i]!) <= tolerance)) {
      throw new Error(
        `Cannot trust ${what}: found ${found[i]} at index ${i}, expected ${expected[i]} within ${tolerance}`,
      );
    }
  }
}

/** Numbers in [-1, 1), the same on every run. */
export function numbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  };
}
