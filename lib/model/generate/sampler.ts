/** Which token comes next: from logits to an id, greedily or at random from a seed. */
import { checkOption, type Given, type OptionTable, type Resolved } from "../../filter/option.ts";
import { mix64, uniform } from "../../math/random.ts";

/** How the next token is chosen: the table of its options. */
export const SAMPLING = {
  temperature: {
    type: "number",
    default: 0,
    range: "[0, 100]",
    help: "logits are divided by it; 0 takes the likeliest token",
  },
  topK: {
    type: "integer",
    default: 0,
    range: "[0, 1000000000]", // more than any vocabulary holds
    help: "choose among this many of the likeliest tokens; 0: all",
  },
  topP: {
    type: "number",
    default: 1,
    range: "(0, 1]",
    help: "choose among the likeliest tokens whose probabilities sum up to it, {range}",
  },
  minP: {
    type: "number",
    default: 0,
    range: "[0, 1]",
    help: "leave out tokens below this fraction of the likeliest one's probability, {range}",
  },
  repetitionPenalty: {
    type: "number",
    default: 1,
    range: "(0, 100]",
    help: "logits of earlier tokens are divided by it where positive, else multiplied",
  },
  samplingSeed: { type: "seed", default: 0n, help: "64-bit seed of the choice of tokens" },
} as const satisfies OptionTable;

/** How the next token is chosen; omitted options have their defaults. */
export interface SamplingOptions {
  /** Logits are divided by it; 0 (default) takes the likeliest token. */
  readonly temperature?: number;
  /** Choose among this many of the likeliest tokens; 0 (default): all. */
  readonly topK?: number;
  /** Choose among the likeliest tokens whose probabilities sum up to it, (0, 1]; default 1. */
  readonly topP?: number;
  /** Leave out tokens below this fraction of the likeliest one's probability, [0, 1]; default 0. */
  readonly minP?: number;
  /** Logits of earlier tokens are divided by it where positive, else multiplied; default 1. */
  readonly repetitionPenalty?: number;
  /** 64-bit seed of the choice; default 0. */
  readonly samplingSeed?: number | bigint;
}

/** @internal Tokens that may come next. */
export interface Candidates {
  readonly ids: Int32Array<ArrayBuffer>;
  /** How likely each is, in the order of `ids`; the sum is 1. */
  readonly probabilities: Float64Array<ArrayBuffer>;
}

/** Keeps the streams of seeds apart from those of the `random` rule. */
const STREAM = 0x5A3D1E6B94C70F21n;

/**
 * Chooses tokens. The options apply in the order of Hugging Face transformers: repetition penalty, temperature, top-k,
 * top-p, min-p. The choice at a step depends only on the seed, the step and the logits. So two models with the same
 * logits generate the same text.
 *
 * @example
 * ```ts
 * import { Sampler } from "@tokenfilter/tokenfilter/model";
 * const logits = Float32Array.of(0, 2, 1, -1);
 * console.assert(new Sampler().next(logits, 0) === 1);
 * const { ids, probabilities } = new Sampler({ temperature: 0.5, topK: 2 }).candidates(logits);
 * console.assert(ids.join() === "1,2" && Math.abs(probabilities[0]! - 1 / (1 + Math.exp(-2))) < 1e-12);
 * ```
 */
export class Sampler {
  readonly #options: Resolved<typeof SAMPLING>;
  readonly #seed: bigint;
  readonly #seen = new Set<number>();

  /**
   * Before the first token.
   *
   * @throws {TypeError | RangeError} If an option is of the wrong type or out of its range; the message names it.
   */
  constructor(options: SamplingOptions = {}) {
    const given: Given<typeof SAMPLING> = options;
    this.#options = Object.fromEntries(
      Object.entries(SAMPLING).map(([name, option]) => {
        const value = given[name as keyof typeof SAMPLING] ?? option.default;
        checkOption(name, option, value);
        return [name, value];
      }),
    ) as Resolved<typeof SAMPLING>;
    this.#seed = mix64(BigInt(this.#options.samplingSeed) ^ STREAM);
  }

  /** Notes tokens that came before, for the repetition penalty. */
  accept(ids: Iterable<number>): void {
    for (const id of ids) this.#seen.add(id);
  }

  /**
   * The next token.
   *
   * @param logits Logits of every token, [vocabSize]; not changed.
   * @param step 0-based number of the choice: each has its own random number.
   * @param among Ids of which one is chosen, ascending, [n] i32, n >= 1; default: all.
   */
  next(logits: Float32Array, step: number, among?: Int32Array): number {
    const scores = this.#penalize(logits);
    if (among === undefined) return this.#draw(scores, step);
    return among[this.#draw(Float32Array.from(among, (id) => scores[id]!), step)]!;
  }

  #draw(scores: Float32Array, step: number): number {
    if (this.#options.temperature === 0) return indexOfMax(scores);
    const { ids, probabilities } = this.#choose(scores), at = uniform(this.#seed + BigInt(step));
    let sum = 0, i = 0; // the last one where rounding leaves the sum below the number
    while (i < ids.length - 1 && (sum += probabilities[i]!) <= at) i++;
    return ids[i]!;
  }

  /**
   * Candidates for the next token with their probabilities; with a temperature of 0 only the likeliest one.
   *
   * @param logits Logits of every token, [vocabSize]; not changed.
   */
  candidates(logits: Float32Array): Candidates {
    return this.#choose(this.#penalize(logits));
  }

  #choose(scores: Float32Array): Candidates {
    const { temperature, topK, topP, minP } = this.#options;
    const best = indexOfMax(scores), high = scores[best]!;
    if (temperature === 0) return { ids: Int32Array.of(best), probabilities: Float64Array.of(1) };
    const least = topK === 0 || topK >= scores.length ? -Infinity : kthLargest(scores, topK);
    const weights = new Float64Array(scores.length);
    let total = 0, count = 0;
    for (let id = 0; id < scores.length; id++) {
      if (scores[id]! < least) continue;
      weights[id] = Math.exp((scores[id]! - high) / temperature);
      total += weights[id]!;
      count++;
    }
    // The tokens that top-p excludes have at most 1 - topP together; so have all tokens less likely than this.
    const floor = Math.max(minP, topP === 1 ? 0 : (1 - topP) / count * total);
    let ids = new Int32Array(count), found = 0;
    for (let id = 0; id < scores.length; id++) {
      if (!(scores[id]! < least) && weights[id]! >= floor) ids[found++] = id;
    }
    ids = ids.subarray(0, found);
    if (topP < 1 || topK > 0) {
      ids.sort((a, b) => scores[b]! - scores[a]! || a - b);
      let sum = 0;
      const end = ids.findIndex((id) => (sum += weights[id]!) >= topP * total);
      if (topP < 1 && end >= 0) ids = ids.subarray(0, end + 1);
    }
    const probabilities = new Float64Array(ids.length);
    let sum = 0;
    for (const id of ids) sum += weights[id]!;
    for (let i = 0; i < ids.length; i++) probabilities[i] = weights[ids[i]!]! / sum;
    return { ids, probabilities };
  }

  #penalize(logits: Float32Array): Float32Array {
    const { repetitionPenalty: penalty } = this.#options;
    if (penalty === 1) return logits;
    const scores = logits.slice();
    for (const id of this.#seen) scores[id]! *= scores[id]! > 0 ? 1 / penalty : penalty;
    return scores;
  }
}

/** Index of the largest value, the first of equals. @param values [n] f32. */
export function indexOfMax(values: Float32Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i;
  return best;
}

/** The k-th largest value, 1 <= k <= n. @param values [n] f32. */
export function kthLargest(values: Float32Array, k: number): number {
  // Each of k parts has a largest value, so the k-th of all is not below the least of these: few are left to sort.
  let floor = Infinity;
  for (let part = 0; part < k; part++) {
    let high = -Infinity;
    for (let i = part; i < values.length; i += k) high = Math.max(high, values[i]!);
    floor = Math.min(floor, high);
  }
  return values.filter((value) => value >= floor).sort().at(-k)!;
}
