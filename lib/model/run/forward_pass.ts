/**
 * The forward pass of a model, written once, for the tokens of a sequence and for a step of a batch. A sequence gathers
 * its kept rows, a batch marks them. {@linkcode Tokens} remembers the tokens and decides about them.
 */
import type { Backend, Gate, Product } from "../../backend.ts";
import type { BatchDecisions, BatchRows } from "../../batch_ops.ts";
import type { CacheDType } from "../../dtype.ts";
import type { Pruner } from "../../methods/protocol/pruner.ts";
import { countOf, firstRows, hostTensor, type Tensor } from "../../tensor.ts";
import type { ModelConfig } from "../config/config.ts";
import type { ModelWeights } from "../weights.ts";

/** Scratch of at most this number of rows is kept whatever part of it is used. */
const FEW_ROWS = 64;

/** A layer's input for attention: T rows, one per token; in a batch one per slot. */
export interface LayerRows extends BatchRows {
  readonly layer: number;
}

/** A pending addition to the residual stream, [T, hiddenSize], in kept rows or in all. */
export interface Addend {
  /** As {@linkcode Backend.add} takes it. */
  readonly delta: Tensor;
  readonly only?: BatchDecisions | undefined;
}

/** Tokens of a layer whose attention is computed, R rows. */
interface KeptRows {
  /** Positions of the rows that {@linkcode select} gives, [R] i32. */
  readonly positions: Tensor;
  /** Which of those rows take part; all where it is left out. */
  readonly only?: BatchDecisions;
  /** The kept rows of a matrix [T, n], [R, n]. @param name names the scratch that they may be copied to */
  select(name: string, x: Tensor): Tensor;
  /** Attention of rotated queries over the layer's cache: `queries`, `out` [R, numHeads, headDim]. */
  attend(queries: Tensor, out: Tensor, scale: number): void;
}

/** Tensors to compute for a layer's tokens before any decision, besides rotated keys and values. */
export interface LayerNeeds {
  /** Whether keys before rotary embedding are kept apart. */
  readonly preRopeKeys: boolean;
  /** Whether queries of all tokens are computed at once. */
  readonly queries: boolean;
}

/** The tokens of a pass: T of one sequence, or the next one of every sequence of a batch. */
export interface Tokens {
  /** Their positions, [T] i32. */
  readonly positions: Tensor;
  /** Whether a part of a layer is left out for all tokens. */
  drops?(layer: number, part: "attention" | "mlp"): boolean;
  needsOf(layer: number): LayerNeeds;
  /** Looks at the output of a layer's MLP before it is added, [T, hiddenSize], which `output` gives until it returns. */
  seeMlp?(layer: number, output: () => Tensor): void;
  /**
   * Attention of a layer: decides its tokens, caches them, and adds the outputs of the kept ones to the residual
   * stream. It returns the addition instead if the stream is not read before it.
   *
   * @param pass computes the kept rows, by {@linkcode ForwardPass.attendRows}
   */
  attend(rows: LayerRows, pass: ForwardPass): Addend | undefined;
}

/**
 * Observes rows that enter a matrix of a layer, by its name; or the residual stream before a layer's "attention" or
 * "mlp", of the layer after the last one too. It must not change or keep them.
 */
export type See = (layer: number, name: string, x: Tensor) => void;

/** @internal A sequence, for runs of a model on a calibration text. */
interface RunSequence {
  feed(ids: Int32Array<ArrayBuffer>): Tensor;
  feedResidual(residual: Tensor, layer: number): Tensor;
  throughLayer(x: Tensor, layer: number): Tensor;
  free(): void;
}

/** @internal The members of a model that runs need: `Model` has them, and so has a model that a method has altered. */
export interface RunModel {
  readonly config: ModelConfig;
  readonly weights: ModelWeights;
  readonly backend: Backend;
  /** Element type of KV caches, where a sequence does not specify another. */
  readonly cacheDType: CacheDType;
  /** The model that it stands for: itself, unless a method has altered it. */
  readonly unaltered: RunModel;
  /** Values of all its weights, a tied embedding once. */
  readonly parameters: number;
  /** The text that a token adds, where the tokenizer is known. */
  readonly textOf?: ((id: number) => string) | undefined;
  /** The table for {@linkcode Backend.rope} in a layer. */
  turnsOf(layer: number): Tensor | undefined;
  embed(ids: Int32Array<ArrayBuffer>): Tensor;
  logits(hidden: Tensor): Tensor;
  start(pruner?: Pruner, options?: { readonly see?: See }): RunSequence;
  /** The model that stands for this one once a method has altered it. */
  alike(config: ModelConfig, weights: ModelWeights): RunModel;
}

/**
 * Pre-norm blocks of rotary attention with grouped heads and a SwiGLU MLP: the Llama architecture. Other architectures
 * override their differences. Results lie in scratch tensors and last until the same part runs again.
 */
export class ForwardPass {
  readonly #scratch = new Map<string, Tensor>();
  see: See | undefined;
  /** Takes the values that attention gives instead of their product: rows that are projected later, with others. */
  attended: Tensor | undefined;
  protected readonly model: RunModel;

  constructor(model: RunModel) {
    this.model = model;
  }

  /** Fills `out` [T, hiddenSize], the residual stream before the first layer, for ids [T] i32. */
  embed(ids: Tensor, out: Tensor): void {
    this.model.backend.embedding(this.model.weights.embedding, ids, out);
  }

  /** Runs rows of the residual stream, [T, hiddenSize], through layers [from, to), in place. */
  run(x: Tensor, from: number, to: number, tokens: Tokens): void {
    let left: Addend | undefined;
    const show = (layer: number, part: "attention" | "mlp") => {
      if (this.see === undefined && layer < to) return;
      if (left !== undefined) this.model.backend.add(x, left.delta, left.only);
      left = undefined;
      this.see?.(layer, part, x);
    };
    for (let layer = from; layer < to; layer++) {
      show(layer, "attention");
      if (!tokens.drops?.(layer, "attention")) left = this.attention(layer, x, tokens, left);
      show(layer, "mlp");
      if (tokens.drops?.(layer, "mlp")) continue;
      const after = this.mlp(layer, x, left);
      tokens.seeMlp?.(layer, () => after.delta);
      left = after;
    }
    show(to, "attention");
  }

  /** Fills `out` [T, hiddenSize] with the residual stream after the final norm. */
  finish(x: Tensor, out: Tensor): void {
    const { backend, weights, config } = this.model;
    backend.rmsNorm(x, weights.outputNorm, config.rmsNormEps, out);
  }

  /** Fills `out` [R, vocabSize] with the logits of hidden states after the final norm, [R, hiddenSize]. */
  logits(hidden: Tensor, out: Tensor): void {
    this.model.backend.linear(hidden, this.model.weights.output, out);
  }

  /** Factor on the products of queries and keys: the model's own, else 1 / sqrt(headDim). */
  get scale(): number {
    const { attentionScale, headDim } = this.model.config;
    return attentionScale ?? 1 / Math.sqrt(headDim);
  }

  /** Output of a layer's attention block for rotated queries, [R, hiddenSize]. */
  attend(layer: number, queries: Tensor, kept: Pick<KeptRows, "attend" | "only">): Tensor {
    const attended = this.attended ?? this.scratch("attended", queries.shape);
    kept.attend(this.byHead(queries), this.byHead(attended), this.scale);
    return this.attended ?? this.output(layer, attended, kept.only);
  }

  /** Output of a layer's attention block from the outputs of its heads, [R, numHeads * headDim]. */
  output(layer: number, attended: Tensor, only?: BatchDecisions): Tensor {
    return this.project(layer, "o", attended, only);
  }

  /** Output of a layer's attention block for the kept ones of the rows that were just projected, [R, hiddenSize]. */
  attendRows({ layer, normed, queries }: LayerRows, kept: KeptRows): Tensor {
    if (queries !== undefined) return this.attend(layer, kept.select("keptQueries", queries), kept);
    const x = kept.select("keptNormed", normed), isWhole = x.shape[0] === normed.shape[0];
    const [own] = this.projects(layer, ["q"], x, kept.only, isWhole);
    this.rotate(layer, own!, kept.positions, kept.only);
    return this.attend(layer, own!, kept);
  }

  /** The given rows of a tensor as a matrix. No copy is made where these are all rows, each once and in order. */
  gather(name: string, x: Tensor, rows: Int32Array<ArrayBuffer>): Tensor {
    const all = asMatrix(x);
    // The number of rows is not sufficient: one row may be missing while another is requested twice.
    if (rows.length === x.shape[0] && rows.every((row, i) => row === i)) return all;
    const out = this.scratch(name, [rows.length, all.shape[1]!]);
    if (rows.length > 0) this.model.backend.gatherRows(all, this.i32(rows), out);
    return out;
  }

  /** The same, to be read only: where the rows follow each other, they are not copied. */
  rowsOf(name: string, x: Tensor, rows: Int32Array<ArrayBuffer>): Tensor {
    const first = rows[0] ?? 0, isRun = rows.every((row, i) => row === first + i);
    if (!isRun || rows.length === x.shape[0]) return this.gather(name, x, rows);
    return this.model.backend.rows(asMatrix(x), first, rows.length);
  }

  /** A matrix of rows seen head by head, [T, heads, headDim]. */
  byHead(x: Tensor): Tensor {
    const { headDim } = this.model.config;
    return { ...x, shape: [x.shape[0]!, x.shape[1]! / headDim, headDim] };
  }

  i32(values: Int32Array<ArrayBuffer>): Tensor {
    return this.model.backend.upload(hostTensor("i32", [values.length], values));
  }

  again(): ForwardPass {
    return new (this.constructor as typeof ForwardPass)(this.model);
  }

  free(): void {
    for (const tensor of this.#scratch.values()) this.model.backend.free(tensor);
    this.#scratch.clear();
  }

  /**
   * Adds a layer's attention to the residual stream: keys and values of all tokens, the rest for those that are kept.
   *
   * @param left An addition to make first; the returned one is still to be made.
   */
  protected attention(layer: number, x: Tensor, tokens: Tokens, left?: Addend): Addend | undefined {
    const needs = tokens.needsOf(layer), normed = this.norm(layer, "attnNorm", x, { left });
    const [keys, values, queries] = this.projects(
      layer,
      needs.queries ? ["k", "v", "q"] : ["k", "v"],
      normed,
    );
    const preRopeKeys = needs.preRopeKeys ? this.#copy("preRopeKeys", keys!) : keys!;
    this.rotate(layer, keys!, tokens.positions);
    if (queries !== undefined) this.rotate(layer, queries, tokens.positions);
    return tokens.attend({
      layer,
      filterKeys: this.byHead(preRopeKeys),
      keys: this.byHead(keys!),
      values: this.byHead(values!),
      residual: x,
      normed,
      queries,
      positions: tokens.positions,
    }, this);
  }

  /** Adds a layer's MLP to the residual stream; see {@linkcode attention}. */
  protected mlp(layer: number, x: Tensor, left?: Addend): Addend {
    const normed = this.norm(layer, "ffnNorm", x, { left });
    return { delta: this.project(layer, "down", this.gated(layer, normed, "swiglu")) };
  }

  /**
   * RMSNorm of rows by one of a layer's weights, [T, hiddenSize].
   *
   * @param more `to` names the scratch that it fills; `left` is added to the rows before
   */
  protected norm(
    layer: number,
    name: string,
    x: Tensor,
    more: { readonly to?: string; readonly left?: Addend | undefined } = {},
  ): Tensor {
    const { backend, config: { rmsNormEps }, weights } = this.model, weight = weights.layers[layer]![name]!;
    const { to = "normed", left } = more, out = this.scratch(to, x.shape);
    if (left === undefined) backend.rmsNorm(x, weight, rmsNormEps, out);
    else backend.addRmsNorm(x, left.delta, weight, rmsNormEps, out, left.only);
    return out;
  }

  /** {@linkcode projects} of one matrix. */
  protected project(layer: number, name: string, x: Tensor, only?: BatchDecisions): Tensor {
    return this.projects(layer, [name], x, only)[0]!;
  }

  /**
   * Rows times some of a layer's matrices; a matrix's bias and its norm of heads too, where the layer has them.
   * @param sameX Whether `x` is unchanged since the last product, as {@linkcode Backend.linear} has it
   */
  protected projects(
    layer: number,
    names: readonly string[],
    x: Tensor,
    only?: BatchDecisions,
    sameX = false,
  ): Tensor[] {
    const { backend, config, weights } = this.model, own = weights.layers[layer]!;
    const products = names.map((name) => this.#product(layer, name, x));
    backend.linears(x, products, only, sameX);
    return products.map(({ out }, i) => {
      const { bias: ofBias, norm: ofNorm } = namesOf(names[i]!), bias = own[ofBias], norm = own[ofNorm];
      if (bias !== undefined) backend.add(out, this.#repeat(bias, x.shape[0]!), only);
      if (norm !== undefined) {
        const heads = { ...out, shape: [countOf(out.shape) / config.headDim, config.headDim] };
        backend.rmsNorm(heads, norm, config.rmsNormEps, heads);
      }
      return out;
    });
  }

  /** Input of a layer's last matrix: the activation of its gate, times the other product. */
  protected gated(layer: number, x: Tensor, activation: Gate): Tensor {
    const { backend, weights } = this.model, own = weights.layers[layer]!;
    if (own["gateBias"] === undefined && own["upBias"] === undefined) {
      const [gate, up] = ["gate", "up"].map((name) => this.#product(layer, name, x));
      backend.gatedLinear(x, gate!, up!, activation);
      return gate!.out;
    }
    const [gate, up] = this.projects(layer, ["gate", "up"], x);
    backend[activation](gate!, up!, gate!);
    return gate!;
  }

  /** Rotary embedding of keys or queries in place, [T, heads * headDim], where the layer has one. */
  protected rotate(layer: number, x: Tensor, positions: Tensor, only?: BatchDecisions): void {
    const turns = this.model.turnsOf(layer);
    if (turns !== undefined) this.model.backend.rope(this.byHead(x), positions, turns, only);
  }

  /**
   * Scratch by name; its values last until the name is taken again. Layers keep different numbers of rows: the first
   * rows of existing scratch are reused, unless most of it would be unused. New scratch is zero on request.
   */
  scratch(
    name: string,
    shape: readonly number[],
    dtype: CacheDType | "i32" | "f64" = "f32",
    filledLater = true,
  ): Tensor {
    const old = this.#scratch.get(name), rows = shape[0]!;
    const serves = old?.dtype === dtype && old.shape.length === shape.length;
    if (serves && old.shape.every((n, i) => i === 0 || n === shape[i])) {
      const most = old.shape[0]!;
      if (rows === most) return old;
      if (rows < most && (most <= FEW_ROWS || 4 * rows >= most)) return firstRows(old, rows);
    }
    if (old !== undefined) this.model.backend.free(old);
    const fresh = this.model.backend.alloc(dtype, shape, filledLater);
    this.#scratch.set(name, fresh);
    return fresh;
  }

  /** One of a layer's matrices, and scratch for its product with rows. */
  #product(layer: number, name: string, x: Tensor): Product {
    const weight = this.model.weights.layers[layer]![name]!;
    this.see?.(layer, name, x);
    return { weight, out: this.scratch(name, [x.shape[0]!, weight.shape[0]!]) };
  }

  /** A vector repeated as rows. */
  #repeat(x: Tensor, rows: number): Tensor {
    const out = this.scratch(`row of ${x.shape[0]}`, [rows, x.shape[0]!]),
      zeros = this.scratch("zeros", [rows], "i32", false);
    this.model.backend.gatherRows({ ...x, shape: [1, x.shape[0]!] }, zeros, out);
    return out;
  }

  #copy(name: string, x: Tensor): Tensor {
    const out = this.scratch(name, x.shape);
    this.model.backend.storeRows(x, out, 0);
    return out;
  }
}

/** Names of the tensors that may be next to a matrix, made once: a decode step needs them seven times per layer. */
const BESIDE = new Map<string, { readonly bias: string; readonly norm: string }>();
function namesOf(name: string): { readonly bias: string; readonly norm: string } {
  const known = BESIDE.get(name) ?? { bias: `${name}Bias`, norm: `${name}Norm` };
  BESIDE.set(name, known);
  return known;
}

/** The same rows, each in one dimension, [T, n]. */
export function asMatrix(x: Tensor): Tensor {
  return { ...x, shape: [x.shape[0]!, countOf(x.shape.slice(1))] };
}
