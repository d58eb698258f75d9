/** Functions to be searched, for tests: those of `testdata/make_golden.py`. */
import type { Axis, Observation, Point, SearchSpace } from "./axis.ts";
import { hypervolume } from "./hypervolume.ts";
import { RandomStream } from "./random_stream.ts";
import type { Sampler } from "./sampler.ts";

/** A function, its space, and a score of its best trial. */
export interface TestFunction {
  readonly space: SearchSpace;
  /** The objectives to minimize, and how far the constraint is broken. */
  readonly measure: (point: Point) => Pick<Observation, "values" | "violation">;
  readonly best: (trials: readonly Observation[]) => number;
}

const range = (name: string, low: number, high: number, rest: Partial<Axis> = {}) =>
  ({ name, low, high, log: false, step: 0, ...rest }) as Axis;
const numbers = (point: Point) => Object.values(point) as number[];
const least = (trials: readonly Observation[]) =>
  Math.min(10, ...trials.filter(({ violation }) => violation === 0).map(({ values }) => values[0]!));
const single = (space: SearchSpace, f: (point: Point) => number): TestFunction => ({
  space,
  measure: (point) => ({ values: [f(point)], violation: 0 }),
  best: least,
});

const A = [
  [10, 3, 17, 3.5, 1.7, 8],
  [0.05, 10, 17, 0.1, 8, 14],
  [3, 3.5, 1.7, 10, 17, 8],
  [17, 8, 0.05, 10, 0.1, 14],
];
const P = [
  [1312, 1696, 5569, 124, 8283, 5886],
  [2329, 4135, 8307, 3736, 1004, 9991],
  [2348, 1451, 3522, 2883, 3047, 6650],
  [4047, 8828, 8732, 5743, 1091, 381],
];

/** The functions, by the names of the golden file. */
export const FUNCTIONS: { readonly [name: string]: TestFunction } = {
  branin: single([range("x", -5, 10), range("y", 0, 15)], (point) => {
    const [x, y] = numbers(point) as [number, number];
    const a = y - 5.1 / (4 * Math.PI ** 2) * x * x + 5 / Math.PI * x - 6;
    return a * a + 10 * (1 - 1 / (8 * Math.PI)) * Math.cos(x) + 10;
  }),
  hartmann: single(Array.from({ length: 6 }, (_, i) => range(`x${i}`, 0, 1)), (point) => {
    const x = numbers(point);
    return -[1, 1.2, 3, 3.2].reduce(
      (sum, weight, i) =>
        sum + weight * Math.exp(-x.reduce((all, xj, j) => all + A[i]![j]! * (xj - 1e-4 * P[i]![j]!) ** 2, 0)),
      0,
    );
  }),
  mixed: single([
    { name: "kind", choices: ["a", "b", "c"] },
    range("n", 1, 32, { step: 1 }),
    range("rate", 1e-5, 1, { log: true }),
    range("tau", 0, 8, { when: { kind: ["a"] } }),
  ], ({ kind, n, rate, tau }) => {
    const loss = (Math.log10(rate as number) + 2.5) ** 2 + Math.abs(n as number - 21) / 8;
    return loss + (kind === "a" ? (tau as number - 5.5) ** 2 / 4 : kind === "b" ? 1 : 2);
  }),
  front: {
    space: Array.from({ length: 4 }, (_, i) => range(`x${i}`, 0, 1)),
    measure(point) {
      const [x, ...rest] = numbers(point) as [number, ...number[]];
      const g = 1 + 3 * rest.reduce((a, b) => a + b, 0);
      return { values: [x, g * (1 - Math.sqrt(x / g))], violation: 0 };
    },
    best(trials) {
      const reference = [1.1, 3], costs = trials.map(({ values }) => values);
      return -hypervolume(costs.filter((cost) => cost.every((x, i) => x <= reference[i]!)), reference);
    },
  },
  bounded: {
    space: [range("x", 0, 6), range("y", 0, 6)],
    measure(point) {
      const [x, y] = numbers(point) as [number, number];
      const broken = Math.cos(x) * Math.cos(y) - Math.sin(x) * Math.sin(y) + 0.5;
      return { values: [Math.sin(x) + y], violation: Math.max(0, broken) };
    },
    best: least,
  },
};

/** The best that a sampler finds in the given number of trials. */
export function search({ measure, best }: TestFunction, sampler: Sampler, count: number): number {
  const trials: Observation[] = [];
  for (let i = 0; i < count; i++) {
    const point = sampler(trials)!;
    trials.push({ point, state: "finished", ...measure(point) });
  }
  return best(trials);
}

/** The middle of some numbers. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b), half = sorted.length / 2;
  return (sorted[Math.ceil(half) - 1]! + sorted[Math.floor(half)]!) / 2;
}

/** How often two groups of values drawn from both together have medians as far apart: the p value of a permutation test. */
export function medianTest(a: readonly number[], b: readonly number[], draws = 2000): number {
  const both = [...a, ...b], random = new RandomStream(0, 0);
  const apart = (own: readonly number[]) =>
    Math.abs(median(own.slice(0, a.length)) - median(own.slice(a.length)));
  const found = apart(both);
  let count = 1;
  for (let i = 0; i < draws; i++) {
    count += Number(apart(random.shuffle(both.length).map((j) => both[j]!)) >= found);
  }
  return count / (draws + 1);
}
