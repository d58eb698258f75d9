/** Measures, as tokens pass by, how much each part of each layer turns the residual stream. */
import type { PartImportance } from "../../methods/model_pruning/calibration.ts";

/** A cosine that is undefined counts as this, as in ShortGPT's code. */
const UNDEFINED_COSINE = 0.5;

/** Sums of cosines over tokens. */
export class PartMeter {
  readonly #sums: { readonly attention: number[]; readonly mlp: number[]; readonly block: number[] };
  #tokens = 0;
  #before = new Float32Array(0);
  #between = new Float32Array(0);

  /** @param numLayers Layers of the model. */
  constructor(numLayers: number) {
    const zeros = () => new Array<number>(numLayers).fill(0);
    this.#sums = { attention: zeros(), mlp: zeros(), block: zeros() };
  }

  /** Whether it is to be shown what goes by a name. */
  static reads(name: string): boolean {
    return name === "attention" || name === "mlp";
  }

  /** Takes the stream before a part of a layer, [rows, hiddenSize], or after the last layer as of the next one; in order. */
  see(layer: number, name: string, stream: Float32Array<ArrayBuffer>, rows: number): void {
    if (name === "mlp") {
      this.#sums.attention[layer]! += sumCosines(this.#before, stream, rows);
      this.#between = stream;
      return;
    }
    if (layer > 0) {
      this.#sums.mlp[layer - 1]! += sumCosines(this.#between, stream, rows);
      this.#sums.block[layer - 1]! += sumCosines(this.#before, stream, rows);
    } else this.#tokens += rows;
    this.#before = stream;
  }

  /** 1 less the mean cosines. */
  get importance(): PartImportance {
    const of = (sums: readonly number[]) => sums.map((sum) => 1 - sum / this.#tokens);
    return { attention: of(this.#sums.attention), mlp: of(this.#sums.mlp), block: of(this.#sums.block) };
  }
}

function sumCosines(a: Float32Array, b: Float32Array, rows: number): number {
  const width = a.length / rows;
  let sum = 0;
  for (let row = 0; row < rows; row++) {
    let dot = 0, aa = 0, bb = 0;
    for (let i = row * width; i < (row + 1) * width; i++) {
      dot += a[i]! * b[i]!;
      aa += a[i]! * a[i]!;
      bb += b[i]! * b[i]!;
    }
    sum += aa * bb === 0 ? UNDEFINED_COSINE : dot / Math.sqrt(aa * bb);
  }
  return sum;
}
