/** Substitutes for skipped outputs that come from computed ones: their mean, or the last of them. */
import { blockLength, type Blocks } from "../../../filter/blocks.ts";

/** First tokens of a sequence that stay out of the mean: their outputs are unlike all others. */
const FIRST_OF_MEAN = 4;

export class OutputMemory {
  /** The substitute for a skipped output now: zeros until there is one. */
  #current: Float64Array;
  /** For the mean: the sum over earlier blocks, then over the current one, and how many outputs are in them. */
  #sums: readonly [Float64Array, Float64Array];
  #counts: readonly [number, number] = [0, 0];
  #blockEnd: number;
  private readonly kind: "mean" | "last";
  private readonly blocks: Blocks;

  /** Before the first token. @param width Numbers in an output, hiddenSize. */
  constructor(kind: "mean" | "last", blocks: Blocks, width: number) {
    this.kind = kind;
    this.blocks = blocks;
    this.#current = new Float64Array(width);
    this.#sums = [new Float64Array(width), new Float64Array(width)];
    this.#blockEnd = blockLength(blocks, 0);
  }

  /**
   * Takes the next tokens in.
   *
   * @param position The first one's.
   * @param keep 1 = its attention was computed, 0 = it was skipped.
   * @param outputs Outputs of the computed tokens, [R, width].
   * @returns substitutes for the other outputs, [S, width], and for each computed one its distance from the substitute
   * that it would have had, [R]
   */
  take(position: number, keep: Uint8Array, outputs: Float32Array): {
    readonly substitutes: Float32Array<ArrayBuffer>;
    readonly errors: Float64Array<ArrayBuffer>;
  } {
    const width = this.#current.length, kept = outputs.length / width;
    const substitutes = new Float32Array((keep.length - kept) * width), errors = new Float64Array(kept);
    for (let i = 0, row = 0; i < keep.length; i++) {
      const t = position + i;
      if (t === this.#blockEnd) this.#startBlock(t);
      if (keep[i] === 0) {
        substitutes.set(this.#current, (i - row) * width);
        continue;
      }
      const output = outputs.subarray(row * width, (row + 1) * width);
      errors[row++] = Math.sqrt(output.reduce((sum, o, a) => sum + (o - this.#current[a]!) ** 2, 0));
      if (this.kind === "last") this.#current = Float64Array.from(output);
      else if (t >= FIRST_OF_MEAN) this.#note(output);
    }
    return { substitutes, errors };
  }

  clone(): OutputMemory {
    const copy = new OutputMemory(this.kind, this.blocks, this.#current.length);
    copy.#current = this.#current.slice();
    copy.#sums = [this.#sums[0].slice(), this.#sums[1].slice()];
    copy.#counts = this.#counts;
    copy.#blockEnd = this.#blockEnd;
    return copy;
  }

  #note(output: Float32Array): void {
    output.forEach((o, a) => this.#sums[1][a]! += o);
    this.#counts = [this.#counts[0], this.#counts[1] + 1];
  }

  #startBlock(t: number): void {
    this.#blockEnd = t + blockLength(this.blocks, t);
    if (this.kind === "last") return;
    const [earlier, own] = this.#sums, count = this.#counts[0] + this.#counts[1];
    own.forEach((sum, a) => earlier[a]! += sum);
    own.fill(0);
    this.#counts = [count, 0];
    if (count > 0) this.#current = earlier.map((sum) => sum / count);
  }
}
