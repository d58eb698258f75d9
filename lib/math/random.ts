/** Seeded randomness that every backend computes alike: a hash of a counter, so that no stream has to be kept. */

const MASK = (1n << 64n) - 1n;
const GOLDEN = 0x9E3779B97F4A7C15n;

/**
 * SplitMix64's finalizer: a well-mixed 64-bit value for each 64-bit counter (Steele, Lea, Flood 2014).
 *
 * @param counter Taken mod 2^64.
 * @returns An unsigned 64-bit integer.
 */
export function mix64(counter: bigint): bigint {
  let z = counter & MASK;
  z = ((z ^ (z >> 30n)) * 0xBF58476D1CE4E5B9n) & MASK;
  z = ((z ^ (z >> 27n)) * 0x94D049BB133111EBn) & MASK;
  return z ^ (z >> 31n);
}

/** The top 53 bits of a counter's mixed value over 2^53: uniform in [0, 1). */
export function uniform(counter: bigint): number {
  return Number(mix64(counter) >> 11n) / 2 ** 53;
}

/**
 * Score of a token under the `random` rule, uniform in [0, 1).
 *
 * @param seed 64-bit seed.
 * @param chunk 0-based index of the sequence in a text that is scored in chunks, else 0.
 * @param layer 0-based index of the layer in the model.
 * @param t 0-based index of the token in its sequence.
 */
export function randomScore(seed: bigint, chunk: number, layer: number, t: number): number {
  return uniform((seed + BigInt(chunk)) * GOLDEN + (BigInt(layer) << 40n) + BigInt(t));
}

/**
 * The random signs of the `learned` rule's projections, [size, count]: -1 or 1.
 *
 * @param seed 64-bit seed.
 * @param layer 0-based index of the layer in the model.
 * @param size Length of the vectors to project, the model's hidden size.
 * @param count Projections, at most 256.
 */
export function projectionSigns(
  seed: bigint,
  layer: number,
  size: number,
  count: number,
): Int8Array<ArrayBuffer> {
  const base = seed * GOLDEN + (BigInt(layer) << 40n);
  const signs = new Int8Array(size * count);
  for (let a = 0; a < size; a++) {
    for (let j = 0; j < count; j++) {
      signs[a * count + j] = mix64(base + BigInt(a * 256 + j)) >> 63n === 0n ? 1 : -1;
    }
  }
  return signs;
}
