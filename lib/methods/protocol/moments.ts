/** Statistics of the rows that enter a matrix. */

/** Moments of a matrix's inputs, one per channel. */
export class Moments {
  #count = 0;
  readonly #sums: Float64Array;
  readonly #squares: Float64Array;

  constructor(channels: number) {
    this.#sums = new Float64Array(channels);
    this.#squares = new Float64Array(channels);
  }

  /** Takes rows in, [count, channels]. */
  add(rows: Float32Array, count: number): void {
    const width = this.#sums.length;
    for (let row = 0; row < count; row++) {
      for (let j = 0; j < width; j++) {
        const x = rows[row * width + j]!;
        this.#sums[j]! += x;
        this.#squares[j]! += x * x;
      }
    }
    this.#count += count;
  }

  clone(): Moments {
    const copy = new Moments(this.#sums.length);
    copy.#count = this.#count;
    copy.#sums.set(this.#sums);
    copy.#squares.set(this.#squares);
    return copy;
  }

  get means(): Float64Array<ArrayBuffer> {
    return Float64Array.from(this.#sums, (sum) => sum / this.#count);
  }

  get meanSquares(): Float64Array<ArrayBuffer> {
    return Float64Array.from(this.#squares, (sum) => sum / this.#count);
  }

  get variances(): Float64Array<ArrayBuffer> {
    const { means } = this;
    return this.meanSquares.map((square, j) => Math.max(0, square - means[j]! ** 2));
  }
}
