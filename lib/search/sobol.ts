/** Sobol points, plain and scrambled. */
import { JOE_KUO } from "./joe_kuo.ts";
import { RandomStream } from "./random_stream.ts";

/** Most dimensions there are direction numbers for. */
const MAX_DIMENSIONS: number = JOE_KUO.length + 1;
const BITS = 32;

/** Direction numbers of a dimension, [32], as fractions of 2^32. */
function directionsOf(dimension: number): Uint32Array {
  const v = new Uint32Array(BITS);
  if (dimension === 0) return v.map((_, i) => 2 ** (BITS - 1 - i));
  const [polynomial, ...initial] = JOE_KUO[dimension - 1]! as [number, ...number[]], degree = initial.length;
  for (let i = 0; i < BITS; i++) {
    if (i < degree) {
      v[i] = initial[i]! * 2 ** (BITS - 1 - i);
      continue;
    }
    let bits = v[i - degree]! ^ (v[i - degree]! >>> degree);
    for (let k = 1; k < degree; k++) {
      if ((polynomial >> (degree - k)) & 1) bits ^= v[i - k]!;
    }
    v[i] = bits;
  }
  return v;
}

/** Bits of a number that are set, mod 2. */
function parity(bits: number): number {
  for (let shift = 16; shift > 0; shift >>= 1) bits ^= bits >>> shift;
  return bits & 1;
}

/**
 * Points of a Sobol sequence by their number, in the order of Gray's code. Scrambling uses a random lower triangular
 * matrix of bits and a random shift per dimension (Matousek 1998). Every point is then uniform in [0, 1), and of the
 * first 2^m points exactly one still lies in each of 2^m equal slices of every axis.
 */
export class SobolPoints {
  readonly #directions: readonly Uint32Array[];
  readonly #shifts: Uint32Array;

  /**
   * @param dimensions At most {@linkcode MAX_DIMENSIONS}.
   * @param seed Seed of the scrambling; undefined = none.
   * @throws {RangeError} If there are more dimensions than direction numbers.
   */
  constructor(dimensions: number, seed?: number) {
    if (dimensions > MAX_DIMENSIONS) {
      throw new RangeError(
        `Cannot make Sobol points of ${dimensions} dimensions: expected at most ${MAX_DIMENSIONS}`,
      );
    }
    this.#shifts = new Uint32Array(dimensions);
    this.#directions = Array.from({ length: dimensions }, (_, dimension) => {
      const plain = directionsOf(dimension);
      if (seed === undefined) return plain;
      const random = new RandomStream(seed, dimension);
      this.#shifts[dimension] = random.bits();
      // Row i of the matrix, from the highest bit: ones on the diagonal, random bits before it.
      const rows = Array.from({ length: BITS }, (_, i) => {
        const diagonal = 2 ** (BITS - 1 - i), above = ~(2 * diagonal - 1);
        return ((random.bits() & above) | diagonal) >>> 0;
      });
      return plain.map((v) => rows.reduce((bits, row, i) => bits + parity(v & row) * 2 ** (BITS - 1 - i), 0));
    });
  }

  /** The point of a number from 0 on, below 2^32: a coordinate in [0, 1) for each dimension. */
  at(index: number): number[] {
    const gray = (index ^ (index >>> 1)) >>> 0;
    return this.#directions.map((v, dimension) => {
      let bits = this.#shifts[dimension]!;
      for (let i = 0; i < BITS; i++) if ((gray >>> i) & 1) bits ^= v[i]!;
      return (bits >>> 0) / 2 ** BITS;
    });
  }
}
