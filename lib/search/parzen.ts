/** Mixtures of kernels over the axes of a space, each kernel a product over the axes: the densities of TPE. */
import { normalCdf } from "../math/normal.ts";
import { normalMass, normalQuantile } from "../stats/normal.ts";
import { type Axis, type ChoiceAxis, isChoice, type NumberAxis, rangeOf, snap } from "./axis.ts";
import type { RandomStream } from "./random_stream.ts";

/** The kernels of a mixture along one axis. */
export interface Kernels {
  /** Adds each kernel's log density at a value to `logs`, [kernels]. */
  addLogDensities(x: number, logs: Float64Array): void;
  sample(kernel: number, random: RandomStream): number;
}

/** Kernels of choices: a distribution over the choices each. */
export class ChoiceKernels implements Kernels {
  readonly #shares: readonly Float64Array[];

  /**
   * @param places Observed choices, a kernel each; the prior, which is even, comes last.
   */
  constructor({ choices: { length } }: Pick<ChoiceAxis, "choices">, places: readonly number[]) {
    // Each kernel gives a weight of 1, over the number of kernels, to all choices alike.
    const even = 1 / (places.length + 1), sum = 1 + even * length;
    const shares = places.map((place) =>
      new Float64Array(length).fill(even / sum).with(place, (1 + even) / sum)
    );
    this.#shares = [...shares, new Float64Array(length).fill(1 / length)];
  }

  addLogDensities(x: number, logs: Float64Array): void {
    this.#shares.forEach((shares, k) => logs[k]! += Math.log(shares[x]!));
  }

  sample(kernel: number, random: RandomStream): number {
    const shares = this.#shares[kernel]!;
    let left = random.uniform(), place = 0;
    while (place < shares.length - 1 && left > shares[place]!) left -= shares[place++]!;
    return place;
  }
}

/** Normal kernels cut to the range of an axis of numbers; of steps, a kernel's mass over each. */
export class NumberKernels implements Kernels {
  readonly #low: number;
  readonly #high: number;
  /** Per kernel: the log of its mass in range, plus that of its width where values have a density. */
  readonly #logs: Float64Array;
  private readonly axis: NumberAxis;
  private readonly means: Float64Array;
  private readonly widths: Float64Array;

  /** @param means And widths in logarithms where those count. */
  constructor(axis: NumberAxis, means: Float64Array, widths: Float64Array) {
    this.axis = axis;
    this.means = means;
    this.widths = widths;
    [this.#low, this.#high] = rangeOf(axis);
    this.#logs = means.map((mean, k) => {
      const width = widths[k]!;
      const mass = Math.log(normalMass((this.#low - mean) / width, (this.#high - mean) / width));
      return mass + (axis.step === 0 ? Math.log(width) + Math.log(2 * Math.PI) / 2 : 0);
    });
  }

  /** Kernels as TPE has them: as wide as the greater distance to a neighbour, and the prior, as wide as the range. */
  static around(axis: NumberAxis, observed: readonly number[]): NumberKernels {
    const [low, high] = rangeOf(axis), count = observed.length;
    const means = Float64Array.from([...observed.map(axis.log ? Math.log : (x) => x), (low + high) / 2]);
    const order = observed.map((_, i) => i).sort((a, b) => means[a]! - means[b]!);
    const at = (i: number) => i < 0 ? low : i >= count ? high : means[order[i]!]!;
    const least = (high - low) / Math.min(100, count + 2), widths = means.map(() => high - low);
    for (const [i, own] of order.entries()) {
      const left = at(i) - at(i - 1), right = at(i + 1) - at(i);
      // The first and the last look at their one neighbour, and not at the end of the range.
      const width = count < 2
        ? Math.max(left, right)
        : i === 0
        ? right
        : i === count - 1
        ? left
        : Math.max(left, right);
      widths[own] = Math.min(high - low, Math.max(least, width));
    }
    return new NumberKernels(axis, means, widths);
  }

  addLogDensities(x: number, logs: Float64Array): void {
    const { means, widths } = this, { step, log } = this.axis;
    const inner = log ? Math.log : (x: number) => x;
    const at = inner(x), from = inner(x - step / 2), to = inner(x + step / 2);
    for (let k = 0; k < means.length; k++) {
      const mean = means[k]!, width = widths[k]!, z = (at - mean) / width;
      const density = step === 0
        ? -z * z / 2
        : Math.log(normalMass((from - mean) / width, (to - mean) / width));
      logs[k]! += density - this.#logs[k]!;
    }
  }

  sample(kernel: number, random: RandomStream): number {
    const mean = this.means[kernel]!, width = this.widths[kernel]!;
    const below = normalCdf((this.#low - mean) / width), share = random.uniform();
    const upTo = normalCdf((this.#high - mean) / width);
    const p = Math.min(1 - 2 ** -53, Math.max(Number.MIN_VALUE, below + share * (upTo - below)));
    const x = Math.min(this.#high, Math.max(this.#low, mean + width * normalQuantile(p)));
    return snap(this.axis, this.axis.log ? Math.exp(x) : x);
  }
}

export class Mixture {
  readonly #logWeights: Float64Array;
  readonly #weights: readonly number[];
  private readonly axes: readonly Kernels[];

  /**
   * @param weights One a kernel, of whatever sum.
   * @param axes The kernels along each axis.
   */
  constructor(weights: readonly number[], axes: readonly Kernels[]) {
    this.axes = axes;
    const sum = weights.reduce((a, b) => a + b, 0);
    this.#weights = weights.map((weight) => weight / sum);
    this.#logWeights = Float64Array.from(this.#weights, Math.log);
  }

  /** The mixture of TPE over observations, [observations, axes]: a kernel each with its weight, and a prior that weighs 1. */
  static around(
    space: readonly Axis[],
    observed: readonly (readonly number[])[],
    weights: readonly number[],
  ): Mixture {
    const axes = space.map((axis, i) => {
      const column = observed.map((row) => row[i]!);
      return isChoice(axis) ? new ChoiceKernels(axis, column) : NumberKernels.around(axis, column);
    });
    return new Mixture([...weights, 1], axes);
  }

  /** Log density at a point, a number an axis. */
  logPdf(point: readonly number[]): number {
    const logs = this.#logWeights.slice();
    this.axes.forEach((kernels, i) => kernels.addLogDensities(point[i]!, logs));
    let most = -Infinity, sum = 0;
    for (const log of logs) if (log > most) most = log;
    if (most === -Infinity) return most;
    for (const log of logs) sum += Math.exp(log - most);
    return Math.log(sum) + most;
  }

  sample(random: RandomStream): number[] {
    let left = random.uniform(), kernel = 0;
    while (kernel < this.#weights.length - 1 && left > this.#weights[kernel]!) {
      left -= this.#weights[kernel++]!;
    }
    return this.axes.map((kernels) => kernels.sample(kernel, random));
  }
}
