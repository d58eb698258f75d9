/** Offline: heads and channels by the Optimal Brain Surgeon, the rest made good for them (after SlimGPT, arXiv 2412.18110). */
import { invertPositive } from "../cholesky.ts";
import { hostTensor } from "../tensor.ts";
import type { CalibratedModel } from "./calibration.ts";
import type { OfflineMethod } from "./offline.ts";
import { countGone, transpose } from "./width.ts";

/** Channels that go together; the paper's group shrinks down to this. */
const CHANNELS_AT_ONCE = 8;

/** Added to the diagonal, as a share of its mean. */
const DAMPING = 0.01;

/**
 * Layer by layer, each on what the pruned ones before it leave: with H the inverse of X^T X of what enters a matrix W, the
 * columns P of least tr(W_P (H_PP)^-1 W_P^T) go, and W -= W_P (H_PP)^-1 H_P. Style: every layer has the same share, where the
 * paper's grow with depth between two ends that it tunes for each budget; and heads go with their KV group.
 */
export const slimgptStyle: OfflineMethod<"slimgpt-style"> = {
  name: "slimgpt-style",
  help:
    "heads and MLP channels whose absence the rest makes good best on a calibration text (after SlimGPT: same share a layer)",
  offline: true,
  alter(model, { pruneRatio }) {
    const { numKvHeads, numHeads, headDim, intermediateSize } = model.config;
    const plan = {
      o: { columns: numHeads * headDim, together: numHeads / numKvHeads * headDim, atOnce: 1 },
      down: { columns: intermediateSize, together: 1, atOnce: CHANNELS_AT_ONCE },
    };
    const gone = countGone(model.config, pruneRatio);
    return model.walk(["o", "down"], (layer) => {
      const grams = {
        o: new Float64Array(plan.o.columns ** 2),
        down: new Float64Array(plan.down.columns ** 2),
      };
      const prune = (name: "o" | "down", count: number) => {
        const { columns, together, atOnce } = plan[name];
        model.step();
        const surgeon = new Surgeon(grams[name], model.matrix(layer, name).data as Float32Array, columns);
        return surgeon.prune(together, count, atOnce, () => model.step());
      };
      return {
        see: (name, rows, count) => addGram(model, grams[name as "o" | "down"], rows, count),
        close: () => {
          const o = prune("o", gone.groups),
            down = prune("down", gone.channels),
            { shape } = model.matrix(layer, "o");
          const tensor = (values: Float64Array) =>
            hostTensor("f32", [shape[0]!, values.length / shape[0]!], Float32Array.from(values));
          return {
            groups: o.stays,
            channels: down.stays,
            tensors: { o: tensor(o.weights), down: tensor(down.weights) },
          };
        },
      };
    });
  },
};

/** Adds X^T X of some rows, [count, columns]. */
function addGram(model: CalibratedModel, gram: Float64Array, rows: Float32Array, count: number): void {
  const columns = rows.length / count, turned = hostTensor("f32", [columns, count], transpose(rows, columns));
  model.products(turned, turned).forEach((x, i) => gram[i]! += x);
}

/** Removes columns of a matrix [rows, columns] one block after the other. */
class Surgeon {
  readonly #columns: number;
  readonly #weights: Float64Array;
  readonly #inverse: Float64Array;

  constructor(gram: Float64Array, weights: Float32Array, columns: number) {
    const damped = Float64Array.from(gram);
    let mean = 0;
    for (let i = 0; i < columns; i++) mean += gram[i * columns + i]! / columns;
    for (let i = 0; i < columns; i++) damped[i * columns + i]! += DAMPING * mean;
    this.#columns = columns;
    this.#weights = Float64Array.from(weights);
    this.#inverse = invertPositive(damped, columns);
  }

  /**
   * @param together Columns of a unit, side by side.
   * @param count Units that go.
   * @param atOnce Units that go before all are looked at again.
   * @param onStep Called before that.
   */
  prune(
    together: number,
    count: number,
    atOnce: number,
    onStep: () => void,
  ): { stays: number[]; weights: Float64Array } {
    let left = Array.from({ length: this.#columns / together }, (_, unit) => unit);
    const columnsOf = (unit: number) => Array.from({ length: together }, (_, i) => unit * together + i);
    for (let gone = 0; gone < count;) {
      onStep();
      const costs = new Map(left.map((unit) => [unit, this.#cost(columnsOf(unit))]));
      const block = left.toSorted((a, b) => costs.get(a)! - costs.get(b)! || a - b)
        .slice(0, Math.min(atOnce, count - gone));
      this.#remove(block.flatMap(columnsOf));
      left = left.filter((unit) => !block.includes(unit));
      gone += block.length;
    }
    return { stays: left, weights: this.#weights };
  }

  /** (H_PP)^-1. */
  #block(columns: readonly number[]): Float64Array {
    const n = this.#columns;
    const own = columns.flatMap((i) => columns.map((j) => this.#inverse[i * n + j]!));
    return invertPositive(Float64Array.from(own), columns.length);
  }

  #cost(columns: readonly number[]): number {
    const n = this.#columns, size = columns.length, block = this.#block(columns);
    let cost = 0;
    for (let row = 0; row < this.#weights.length; row += n) {
      for (let i = 0; i < size; i++) {
        let sum = 0;
        for (let j = 0; j < size; j++) sum += block[i * size + j]! * this.#weights[row + columns[j]!]!;
        cost += sum * this.#weights[row + columns[i]!]!;
      }
    }
    return cost;
  }

  #remove(columns: readonly number[]): void {
    const n = this.#columns, size = columns.length, block = this.#block(columns), inverse = this.#inverse;
    const rows = columns.map((column) => inverse.slice(column * n, (column + 1) * n));
    // (H_PP)^-1 H_P
    const steps = Array.from({ length: size }, (_, i) => {
      const step = new Float64Array(n);
      rows.forEach((row, j) => {
        const factor = block[i * size + j]!;
        for (let k = 0; k < n; k++) step[k]! += factor * row[k]!;
      });
      return step;
    });
    const subtract = (matrix: Float64Array) => {
      for (let at = 0; at < matrix.length; at += n) {
        const row = matrix.subarray(at, at + n), factors = columns.map((column) => row[column]!);
        steps.forEach((step, i) => {
          const factor = factors[i]!;
          if (factor !== 0) { for (let k = 0; k < n; k++) row[k]! -= factor * step[k]!; }
        });
        columns.forEach((column) => row[column] = 0);
      }
    };
    subtract(this.#weights);
    subtract(inverse);
    // What has gone takes no part any more.
    columns.forEach((column) => inverse[column * n + column] = 1);
  }
}
