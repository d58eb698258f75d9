/** Samples of memory, handles and speed over a long run, and whether they stay flat. */
import { chart, type Figure, trace } from "../../../lib/plot/mod.ts";

/** A look at a process. */
export interface Sample {
  /** Seconds since the run began. */
  readonly seconds: number;
  /** Resident bytes. */
  readonly rss: number;
  /** Open files and connections. */
  readonly handles: number;
  /** Tokens per second since the last look. */
  readonly speed: number;
}

/** The evaluation of a process over a run. */
export interface Verdict {
  readonly name: string;
  /** Growth of resident memory after the warm-up, MB per hour, and half the width of its 95% interval. */
  readonly slope: number;
  readonly margin: number;
  readonly handles: readonly [first: number, last: number];
  /** Speed in the last third over that in the first one. */
  readonly speed: number;
  /** Whether it was fast enough at first: heaps that fill late, since other processes had the cores, show nothing. */
  readonly isSteady: boolean;
  readonly isFlat: boolean;
}

/** The first part of a run, in which caches fill. */
const WARM_UP = 1 / 3;
/** Growth that is certain, in MB per hour; more handles at the end than after the warm-up; speed at the end, of that at first. */
const BARS = { slope: 1, handles: 2, speed: 1 / 3 };

const mean = (numbers: readonly number[]) => numbers.reduce((a, b) => a + b, 0) / numbers.length;

/**
 * The slope of a line through points, and half the width of its 95% interval. Memory of a process with a garbage collector
 * is a sawtooth: neighbors lie on the same side of the line, and count for less by their correlation.
 */
export function fitLine(x: readonly number[], y: readonly number[]): { slope: number; margin: number } {
  const middle = mean(x), level = mean(y), spread = x.reduce((sum, own) => sum + (own - middle) ** 2, 0);
  const slope = x.reduce((sum, own, i) => sum + (own - middle) * (y[i]! - level), 0) / spread;
  const rests = x.map((own, i) => y[i]! - level - slope * (own - middle));
  const rest = rests.reduce((sum, own) => sum + own ** 2, 0);
  const alike = rests.slice(1).reduce((sum, own, i) => sum + own * rests[i]!, 0) / (rest || 1);
  const correlation = Math.min(Math.max(alike, 0), 0.99), wider = (1 + correlation) / (1 - correlation);
  return { slope, margin: 1.96 * Math.sqrt(wider * rest / Math.max(x.length - 2, 1) / spread) };
}

/** Evaluates a process: it grows where that is certain, and too fast. @throws {RangeError} On fewer than 6 samples. */
export function evaluate(name: string, samples: readonly Sample[]): Verdict {
  if (samples.length < 6) {
    throw new RangeError(
      `Cannot evaluate ${name}: found ${samples.length} samples, expected 6 or more (take more --minutes)`,
    );
  }
  const kept = samples.slice(Math.ceil(samples.length * WARM_UP)), third = Math.floor(samples.length / 3);
  const { slope, margin } = fitLine(
    kept.map(({ seconds }) => seconds / 3600),
    kept.map(({ rss }) => rss / 1e6),
  );
  const handles = [kept[0]!.handles, kept.at(-1)!.handles] as const;
  const speedOf = (part: readonly Sample[]) => mean(part.map(({ speed }) => speed));
  const speed = speedOf(samples.slice(-third)) / speedOf(samples.slice(0, third));
  const isSteady = speed <= 1 / BARS.speed;
  const isFlat = isSteady && slope - margin <= BARS.slope && handles[1] - handles[0] <= BARS.handles &&
    speed >= BARS.speed;
  return { name, slope, margin, handles, speed, isSteady, isFlat };
}

/** Draws memory, handles and speed of processes over time. */
export function plotSamples(processes: ReadonlyMap<string, readonly Sample[]>): Figure[] {
  const measures = [
    ["Resident memory", "MB", ({ rss }: Sample) => rss / 1e6],
    ["Open handles", "handles", ({ handles }: Sample) => handles],
    ["Speed", "tokens per second", ({ speed }: Sample) => speed],
  ] as const;
  return measures.map(([title, unit, of]) =>
    chart({
      title,
      caption: "Of each process, over the run.",
      height: 300,
      data: Array.from(processes, ([name, samples], i) =>
        trace({
          name,
          x: samples.map(({ seconds }) => seconds / 60),
          y: samples.map(of),
          line: { color: `@series${i}`, width: 2 },
          hover: `${name}: %{y:.1f} ${unit} after %{x:.1f} min`,
        })),
      xaxis: { title: { text: "minutes" } },
      yaxis: { title: { text: unit }, rangemode: "tozero" },
    })
  );
}
