/** Random numbers of a stream, for samplers: the same from a seed everywhere. */
import { mix64 } from "../math/random.ts";

/** Two numbers as one counter of {@linkcode mix64}. */
const ODD = 0x9E3779B97F4A7C15n;

/** A stream of uniform numbers: sfc32 of PractRand, whose state comes from SplitMix64. */
export class RandomStream {
  readonly #state: Uint32Array;

  /**
   * @param seed A whole number.
   * @param stream Which of the seed's streams, for example that of a trial.
   */
  constructor(seed: number, stream: number) {
    const key = mix64(BigInt(seed)) + BigInt(stream) * ODD, a = mix64(key), b = mix64(key + ODD);
    this.#state = Uint32Array.of(Number(a >> 32n), Number(a & 0xffffffffn), Number(b & 0xffffffffn), 1);
    for (let i = 0; i < 12; i++) this.bits();
  }

  /** 32 random bits, as an unsigned number. */
  bits(): number {
    const s = this.#state, [a, b, c, counter] = s as unknown as [number, number, number, number];
    const drawn = (a + b + counter) >>> 0;
    s[3] = counter + 1;
    s[0] = b ^ (b >>> 9);
    s[1] = c + (c << 3);
    s[2] = ((c << 21) | (c >>> 11)) + drawn;
    return drawn;
  }

  /** Uniform in [0, 1), of 53 bits. */
  uniform(): number {
    return ((this.bits() >>> 5) * 2 ** 26 + (this.bits() >>> 6)) / 2 ** 53;
  }

  /** The numbers from 0 to `count - 1` in a random order (Fisher and Yates). */
  shuffle(count: number): number[] {
    const order = Array.from({ length: count }, (_, i) => i);
    for (let i = count - 1; i > 0; i--) {
      const j = Math.floor(this.uniform() * (i + 1));
      [order[i], order[j]] = [order[j]!, order[i]!];
    }
    return order;
  }
}
