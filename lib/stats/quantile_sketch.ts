/** Quantiles of a stream of numbers in bounded memory: a merging t-digest (Dunning, Ertl 2019), scale function k1. */
import { expectInstance } from "../errors.ts";

/**
 * Most clusters. A cluster around the fraction q holds at most 2*pi/1000 * sqrt(q(1-q)) of all numbers, 0.31% at the
 * median and less towards the ends. So a quantile is off by less than 0.5% of rank, also after merges.
 */
const CLUSTERS = 1000;
/** Numbers that wait to be merged in. */
const BUFFER = 4096;

/**
 * Collects numbers and estimates any quantile within 0.5% of rank. It is exact for the smallest and the largest number,
 * and for every quantile of up to 1000 numbers. Sketches of parts can be merged.
 *
 * @example
 * ```ts
 * import { QuantileSketch } from "@tokenfilter/tokenfilter/stats";
 * const sketch = new QuantileSketch();
 * for (let i = 0; i <= 100_000; i++) sketch.add((i * 7919) % 100_001);
 * console.assert(Math.abs(sketch.quantile(0.5) - 50_000) < 500);
 * ```
 */
export class QuantileSketch {
  #means = new Float64Array(0);
  #weights = new Float64Array(0);
  #merged = 0;
  #buffer: Float64Array<ArrayBuffer> = new Float64Array(64);
  #waiting = 0;
  #min = Infinity;
  #max = -Infinity;

  /** Numbers taken in. */
  get count(): number {
    return this.#merged + this.#waiting;
  }

  /** Clusters that stand for these numbers: never more than 1000. */
  get clusters(): number {
    this.#compress();
    return this.#means.length;
  }

  /** Takes a finite number in. @throws {RangeError} If it is not finite. */
  add(x: number): void {
    if (!Number.isFinite(x)) throw new RangeError(`Cannot sketch: found ${x}, expected a finite number`);
    if (this.#waiting === BUFFER) this.#compress();
    if (this.#waiting === this.#buffer.length) {
      const grown = new Float64Array(2 * this.#waiting);
      grown.set(this.#buffer);
      this.#buffer = grown;
    }
    this.#buffer[this.#waiting++] = x;
    if (x < this.#min) this.#min = x;
    if (x > this.#max) this.#max = x;
  }

  /** Adds all numbers of another sketch, which keeps its own. */
  merge(other: QuantileSketch): void {
    expectInstance("other", other, QuantileSketch);
    other.#compress();
    this.#compress();
    const means = Float64Array.of(...this.#means, ...other.#means);
    const weights = Float64Array.of(...this.#weights, ...other.#weights);
    const order = Uint32Array.from(means.keys()).sort((a, b) => means[a]! - means[b]!);
    this.#cluster(Float64Array.from(order, (i) => means[i]!), Float64Array.from(order, (i) => weights[i]!));
    this.#merged += other.#merged;
    this.#min = Math.min(this.#min, other.#min);
    this.#max = Math.max(this.#max, other.#max);
  }

  /**
   * The q quantile, interpolated between the middles of clusters.
   *
   * @param q In [0, 1].
   * @returns NaN where no number was taken in.
   * @throws {RangeError} If q is out of range.
   */
  quantile(q: number): number {
    if (!(q >= 0 && q <= 1)) throw new RangeError(`Cannot take quantile ${q}: expected a number in [0, 1]`);
    if (this.count === 0) return NaN;
    this.#compress();
    const target = q * (this.#merged - 1);
    let low = this.#min, lowAt = 0, before = 0;
    for (let i = 0; i < this.#means.length; i++) {
      const at = before + (this.#weights[i]! - 1) / 2; // rank of the cluster's middle number, from 0
      if (target <= at) return between(low, this.#means[i]!, lowAt, at, target);
      [low, lowAt] = [this.#means[i]!, at];
      before += this.#weights[i]!;
    }
    return between(low, this.#max, lowAt, this.#merged - 1, target);
  }

  /** Merges the waiting numbers into the clusters. */
  #compress(): void {
    if (this.#waiting === 0) return;
    const fresh = this.#buffer.slice(0, this.#waiting).sort();
    const total = this.#means.length + fresh.length;
    const means = new Float64Array(total), weights = new Float64Array(total);
    for (let i = 0, old = 0, next = 0; i < total; i++) {
      const takeOld = next === fresh.length ||
        (old < this.#means.length && this.#means[old]! <= fresh[next]!);
      means[i] = takeOld ? this.#means[old]! : fresh[next]!;
      weights[i] = takeOld ? this.#weights[old++]! : (next++, 1);
    }
    this.#merged += fresh.length;
    this.#waiting = 0;
    this.#cluster(means, weights);
  }

  /** Joins neighbours, ascending, while their cluster stays within one unit of the scale function. */
  #cluster(means: Float64Array, weights: Float64Array): void {
    if (means.length <= CLUSTERS) {
      [this.#means, this.#weights] = [Float64Array.from(means), Float64Array.from(weights)];
      return;
    }
    const total = weights.reduce((a, b) => a + b, 0);
    const outMeans: number[] = [], outWeights: number[] = [];
    let mean = means[0]!, weight = weights[0]!, before = 0, limit = endOfCluster(0);
    for (let i = 1; i < means.length; i++) {
      const joined = weight + weights[i]!;
      if ((before + joined) / total <= limit) {
        mean += (means[i]! - mean) * weights[i]! / joined;
        weight = joined;
        continue;
      }
      outMeans.push(mean);
      outWeights.push(weight);
      before += weight;
      limit = endOfCluster(before / total);
      [mean, weight] = [means[i]!, weights[i]!];
    }
    outMeans.push(mean);
    outWeights.push(weight);
    [this.#means, this.#weights] = [Float64Array.from(outMeans), Float64Array.from(outWeights)];
  }
}

/** The fraction at which a cluster that begins at fraction q ends: one unit further on k1(q) = CLUSTERS/(2 pi) asin(2q-1). */
function endOfCluster(q: number): number {
  const angle = Math.asin(Math.min(1, Math.max(-1, 2 * q - 1))) + 2 * Math.PI / CLUSTERS;
  return angle >= Math.PI / 2 ? 1 : (Math.sin(angle) + 1) / 2;
}

function between(low: number, high: number, lowAt: number, highAt: number, at: number): number {
  return highAt <= lowAt ? high : low + (high - low) * (at - lowAt) / (highAt - lowAt);
}
