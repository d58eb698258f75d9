/** The computations of one transformer block, without any state of a sequence. */
import type { Backend } from "../backend.ts";
import type { DType } from "../dtype.ts";
import { hostTensor, type Tensor } from "../tensor.ts";
import type { CachedRows } from "./kv_cache.ts";
import type { Llama } from "./llama.ts";

/** Runs parts of a model's blocks in scratch tensors: a result lasts until the same part runs again. */
export class LlamaBlock {
  readonly #llama: Llama;
  readonly #backend: Backend;
  readonly #scratch = new Map<string, Tensor>();

  constructor(llama: Llama) {
    this.#llama = llama;
    this.#backend = llama.backend;
  }

  /** Input of the attention block after its norm, [T, hiddenSize]. */
  attentionInput(layer: number, x: Tensor): Tensor {
    return this.#norm(x, this.#llama.weights.layers[layer]!.attnNorm);
  }

  /** Keys before rotary embedding and values, [T, numKvHeads * headDim] each. */
  keysAndValues(layer: number, h: Tensor): { keys: Tensor; values: Tensor } {
    const { k, v } = this.#llama.weights.layers[layer]!;
    return { keys: this.#linear("keys", h, k), values: this.#linear("values", h, v) };
  }

  /** Rotated queries, [T, numHeads * headDim]. */
  queries(layer: number, h: Tensor, positions: Int32Array<ArrayBuffer>): Tensor {
    const q = this.#linear("queries", h, this.#llama.weights.layers[layer]!.q);
    this.rotate(q, positions);
    return q;
  }

  /** Rotary embedding in place, [T, heads * headDim]. */
  rotate(x: Tensor, positions: Int32Array<ArrayBuffer>): void {
    this.#backend.rope(this.heads(x), this.i32(positions), this.#llama.config.ropeTheta);
  }

  /** Output of the attention block, after the output projection, [R, hiddenSize], for rotated queries. */
  attend(
    layer: number,
    queries: Tensor,
    positions: Int32Array<ArrayBuffer>,
    kept: CachedRows,
    near: CachedRows,
    recent: number,
  ): Tensor {
    const attended = this.take("attended", "f32", queries.shape);
    this.#backend.attention({
      queries: this.heads(queries),
      queryPositions: this.i32(positions),
      keys: this.heads(kept.keys),
      values: this.heads(kept.values),
      keyPositions: this.i32(kept.positions),
      numKeys: kept.count,
      recentKeys: this.heads(near.keys),
      recentValues: this.heads(near.values),
      recentPositions: this.i32(near.positions),
      numRecent: near.count,
      recent,
      scale: 1 / Math.sqrt(this.#llama.config.headDim),
      out: this.heads(attended),
    });
    return this.#linear("attentionOutput", attended, this.#llama.weights.layers[layer]!.o);
  }

  /** Adds the MLP's output to the residual stream, in place, [T, hiddenSize]. */
  mlp(layer: number, x: Tensor): void {
    const weights = this.#llama.weights.layers[layer]!;
    const h = this.#norm(x, weights.ffnNorm);
    const gate = this.#linear("gate", h, weights.gate);
    this.#backend.swiglu(gate, this.#linear("up", h, weights.up), gate);
    const all = Int32Array.from({ length: x.shape[0]! }, (_, row) => row);
    this.#backend.scatterAddRows(x, this.i32(all), this.#linear("down", gate, weights.down));
  }

  /** The given rows of a matrix; the matrix itself where that is all of them. */
  rows(name: string, x: Tensor, rows: Int32Array<ArrayBuffer>): Tensor {
    if (rows.length === x.shape[0]) return x;
    const out = this.take(name, "f32", [rows.length, x.shape[1]!]);
    if (rows.length > 0) this.#backend.gatherRows(x, this.i32(rows), out);
    return out;
  }

  /** A matrix of rows seen head by head, [T, heads, headDim]. */
  heads(x: Tensor): Tensor {
    const { headDim } = this.#llama.config;
    return { ...x, shape: [x.shape[0]!, x.shape[1]! / headDim, headDim] };
  }

  /** Integers on the backend. */
  i32(values: Int32Array<ArrayBuffer>): Tensor {
    return this.#backend.upload(hostTensor("i32", [values.length], values));
  }

  /** Named scratch; its values last until the name is taken again. */
  take(name: string, dtype: DType, shape: readonly number[]): Tensor {
    const old = this.#scratch.get(name);
    if (
      old?.dtype === dtype && old.shape.length === shape.length && old.shape.every((n, i) => n === shape[i])
    ) {
      return old;
    }
    if (old !== undefined) this.#backend.free(old);
    const fresh = this.#backend.alloc(dtype, shape);
    this.#scratch.set(name, fresh);
    return fresh;
  }

  /** Gives all scratch back at once. */
  free(): void {
    for (const tensor of this.#scratch.values()) this.#backend.free(tensor);
    this.#scratch.clear();
  }

  #norm(x: Tensor, weight: Tensor): Tensor {
    const out = this.take("normed", "f32", x.shape);
    this.#backend.rmsNorm(x, weight, this.#llama.config.rmsNormEps, out);
    return out;
  }

  #linear(name: string, x: Tensor, weight: Tensor): Tensor {
    const out = this.take(name, "f32", [x.shape[0]!, weight.shape[0]!]);
    this.#backend.linear(x, weight, out);
    return out;
  }
}
