/** The CPU as a device, and its races: SmolLM2-135M's attention and products, and the filter's recurrence. */
import { UsageError } from "../../../lib/errors.ts";
import type { MachinePeak } from "../../../lib/plot/mod.ts";
import { buildCpu, ensureBlas } from "../../../build.ts";
import { cpuLevels, openCpu } from "../../../ffi/mod.ts";
import { attentionCase, SKIPS } from "./attention.ts";
import { scanCase } from "./filter.ts";
import { linearCase } from "./linear.ts";
import type { Device, Race } from "./run.ts";

/** A turn repeats a short computation for about this many milliseconds. */
const TURN_MS = 30;
/** Pause before a turn, so that another library's threads have stopped spinning. */
const PAUSE_MS = 20;

/** Opens the CPU library at a level, the best by default. */
export async function openCpuDevice(
  threads: number,
  level: string | undefined,
  onProgress: (message: string) => void,
): Promise<Device> {
  await Promise.all([buildCpu({ onProgress }), ensureBlas({ onProgress })]);
  const levels = await cpuLevels(), chosen = level ?? (Deno.env.get("TOKENFILTER_LEVEL") || levels.at(-1)!);
  if (!levels.includes(chosen)) {
    throw new UsageError(`Cannot use --level "${chosen}": this machine has ${levels.join(", ")}`);
  }
  return cpuDevice(await openCpu({ threads, level: chosen }), chosen);
}

/** A backend as a device. */
export function cpuDevice(backend: Awaited<ReturnType<typeof openCpu>>, level: string): Device {
  const peaks: MachinePeak[] = [];
  const measure = () => (peaks.push(backend.measureMachine()), peaks.at(-1)!);
  return {
    ...{ backend, impl: `cpu ${level}`, turns: 7, facts: {} },
    clock({ run, time, before }) {
      let repeats = 0;
      const timeRun = () => {
        before?.();
        const start = performance.now();
        for (let i = 0; i < (repeats || 1); i++) run();
        return (performance.now() - start) / (repeats || 1);
      };
      return async () => {
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
        if (time !== undefined) return await time();
        repeats ||= Math.max(1, Math.min(1000, Math.round(TURN_MS / timeRun())));
        return timeRun();
      };
    },
    peak() {
      const now = measure();
      return () => now;
    },
    best() {
      if (peaks.length === 0) measure();
      // Other work on the machine can only lower a measurement of the peak.
      return {
        flopsPerSecond: Math.max(...peaks.map((peak) => peak.flopsPerSecond)),
        bytesPerSecond: Math.max(...peaks.map((peak) => peak.bytesPerSecond)),
      };
    },
  };
}

const ATTENTION = { numHeads: 9, numKvHeads: 3, headDim: 64 }, TOKENS = 4096;
/** Rows of a cache of 805 MB of f32: more than a processor's caches hold. */
const LONG = 2 ** 19;
/** Rows and columns of weights: attention's projections, the MLP's, and the output layer. */
const WEIGHTS = [[576, 576], [1536, 576], [49152, 576]] as const;

/** All races of a part. */
export function cpuRaces({ backend, impl }: Device, part: string): Race[] {
  const attention = { impl, dtype: "f32", tokens: TOKENS } as const;
  const layer = { numKvHeads: 3, headDim: 64, hiddenSize: 576 };
  const races: { [part: string]: Race[] } = {
    attention: [
      ...(["prefill", "decode"] as const).map((phase): Race => ({
        title: `attention, ${phase} of ${TOKENS} tokens`,
        withTorch: true,
        make: () => SKIPS.map((how) => attentionCase(backend, ATTENTION, { ...attention, ...how, phase })),
      })),
      {
        title: `attention, decode over ${LONG} tokens`,
        make: () =>
          (["f32", "bf16"] as const).map((dtype) =>
            attentionCase(backend, ATTENTION, { impl, dtype, tokens: LONG, phase: "decode" })
          ),
      },
    ],
    filter: [{ tokens: TOKENS }, { tokens: 1, start: TOKENS }].map((how) => ({
      title: `filter, ${how.tokens} tokens`,
      make: () => [scanCase(backend, layer, { impl, chunk: TOKENS, ...how })],
    })),
    linear: WEIGHTS.flatMap(([n, k]) =>
      (["f32", "q4_1"] as const).map((dtype) => ({
        title: `linear, ${n} x ${k} of ${dtype}`,
        make: () => [1, 8, 512].map((rows) => linearCase(backend, impl, { dtype, n, k, rows })),
      }))
    ),
  };
  return races[part] ?? [];
}
