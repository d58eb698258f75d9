/** A model: weights on a backend, and sequences that run on them. */
import type { Backend } from "../backend.ts";
import { CACHE_DTYPES, type CacheDType } from "../dtype.ts";
import { expectInstance, expectName } from "../errors.ts";
import { preparationOf, type Pruner } from "../methods/protocol/pruner.ts";
import { expectIds, expectTensor, hostTensor, type Tensor } from "../tensor.ts";
import { alteredBy } from "./pruning/altered.ts";
import { createForwardPass } from "./architectures/mod.ts";
import { BatchDecoder, type BatchOptions } from "./run/batch/batch_decoder.ts";
import { layerConfig, type ModelConfig } from "./config/config.ts";
import { feedTogether, type SequenceFeed } from "./run/batch/feed_together.ts";
import type { ForwardPass, RunModel } from "./run/forward_pass.ts";
import { createTurns, type Rope } from "./config/rope.ts";
import { ModelSequence, type SequenceOptions } from "./run/sequence.ts";
import { countParameters, type ModelWeights } from "./weights.ts";

/**
 * A model, ready to run.
 *
 * @example
 * ```ts
 * import { loadModel, ReferenceBackend } from "@tokenfilter/tokenfilter";
 * const { model, tokenizer } = await loadModel("tiny", new ReferenceBackend());
 * const hidden = model.start().feed(tokenizer.encode("It was a dark night.", { bos: true }));
 * console.assert(model.logits(hidden).shape[1] === model.config.vocabSize);
 * ```
 */
export class Model implements RunModel {
  /** Sizes and constants of the model. */
  readonly config: ModelConfig;
  /** Where it runs. */
  readonly backend: Backend;
  /** Its weights, on the backend. */
  readonly weights: ModelWeights;
  /** Element type of KV caches, where a sequence does not specify another. */
  readonly cacheDType: CacheDType;
  /**
   * The model that it stands for: itself, unless a method has altered it.
   * @internal
   */
  readonly unaltered: Model;
  /**
   * The text that a token adds, where the tokenizer is known.
   * @internal
   */
  readonly textOf: ((id: number) => string) | undefined;
  #parameters: number | undefined;
  readonly #turns: readonly (Tensor | undefined)[];
  readonly #pass: ForwardPass;

  /**
   * Joins sizes, weights and backend.
   *
   * @param weights Made for these sizes, see `loadModelWeights`.
   * @param cacheDType Element type of KV caches. A GPU's tensor cores take only f16 and bf16.
   * @param unaltered The model that this one stands for, where a method has altered it.
   * @param textOf The text that a token adds, for rules that read it.
   * @throws {TypeError | RangeError} If there is no such element type of caches.
   */
  constructor(
    config: ModelConfig,
    weights: ModelWeights,
    backend: Backend,
    { cacheDType = "f32", unaltered, textOf }: {
      readonly cacheDType?: CacheDType;
      readonly unaltered?: Model;
      readonly textOf?: ((id: number) => string) | undefined;
    } = {},
  ) {
    expectName("cacheDType", cacheDType, CACHE_DTYPES);
    this.unaltered = unaltered ?? this;
    this.textOf = textOf;
    this.config = config;
    this.weights = weights;
    this.backend = backend;
    this.cacheDType = cacheDType;
    this.#turns = uploadTurns(config, backend);
    this.#pass = createForwardPass(this);
  }

  /**
   * The model that stands for this one once a method has altered it.
   * @internal
   */
  alike(config: ModelConfig, weights: ModelWeights): Model {
    const { backend, cacheDType, unaltered, textOf } = this;
    return new Model(config, weights, backend, { cacheDType, unaltered, textOf });
  }

  /**
   * Values of all its weights, a tied embedding once.
   * @internal
   */
  get parameters(): number {
    return this.#parameters ??= countParameters(this.weights);
  }

  /**
   * The table for {@linkcode Backend.rope} in a layer; undefined where it has no rotary embedding.
   * @internal
   */
  turnsOf(layer: number): Tensor | undefined {
    return this.#turns[layer];
  }

  /**
   * Starts a sequence.
   *
   * @param pruner decides whose attention is computed; without one all is (dense)
   * @throws {RangeError} If the pruner names a layer that the model does not have, or local attention is to stand for
   * skipped outputs of one with a window of its own.
   */
  start(pruner?: Pruner, options: SequenceOptions = {}): ModelSequence {
    const alters = preparationOf(pruner, "alter");
    if (alters === undefined) return new ModelSequence(this, pruner, options);
    const altered = alteredBy(this, alters);
    return new ModelSequence(altered.model, altered.pruner, options);
  }

  /**
   * Feeds the next tokens of several sequences: as {@linkcode ModelSequence.feed} does each, up to rounding, but the
   * weights are read once for all.
   *
   * @param feeds Sequences of this model, each once, with their next ids.
   * @returns Hidden states after the final norm of all tokens, sequence after sequence, [sum of T, hiddenSize] f32.
   * @throws {TypeError} If these are no sequences and ids.
   * @throws {RangeError} On an unknown id, a sequence given twice or of another model, or if a pruner is non-causal and its
   * sequence has begun.
   *
   * @example
   * ```ts
   * import { loadModel, ReferenceBackend } from "@tokenfilter/tokenfilter";
   * const { model, tokenizer } = await loadModel("tiny", new ReferenceBackend());
   * const feeds = ["It was a night.", "It was."].map((text) => ({ sequence: model.start(), ids: tokenizer.encode(text) }));
   * const hidden = model.feedTogether(feeds);
   * console.assert(hidden.shape[0] === feeds[0]!.ids.length + feeds[1]!.ids.length);
   * ```
   */
  feedTogether(feeds: readonly SequenceFeed[]): Tensor {
    return feedTogether(this, feeds);
  }

  /**
   * {@linkcode feedTogether} for one token of each sequence: the products of attention's outputs are taken together too, where
   * no method looks at them.
   * @internal
   */
  stepTogether(feeds: readonly SequenceFeed[]): Tensor {
    return feedTogether(this, feeds, true);
  }

  /**
   * Starts a batch of sequences that is decoded on the device, step by step; all its slots are idle.
   *
   * @param pruner takes its decisions on the device; without one all attention is computed
   * @throws {TypeError | RangeError} As {@linkcode BatchDecoder}.
   */
  startBatch(pruner: Pruner | undefined, options: BatchOptions): BatchDecoder {
    return new BatchDecoder(this, pruner, options);
  }

  /**
   * The residual stream that enters `layer` after a dense pass through the layers below it, [T, hiddenSize] f32.
   * With {@linkcode ModelSequence.feedResidual} it spares the layers that no filter touches.
   */
  residualAt(ids: Int32Array<ArrayBuffer>, layer: number): Tensor {
    const sequence = this.start();
    try {
      return sequence.residualAt(ids, layer);
    } finally {
      sequence.free();
    }
  }

  /**
   * The residual stream before the first layer, [T, hiddenSize] f32.
   *
   * @throws {TypeError | RangeError} If the ids are no `Int32Array`, or one is unknown.
   */
  embed(ids: Int32Array<ArrayBuffer>): Tensor {
    expectInstance("ids", ids, Int32Array);
    expectIds(ids, this.config.vocabSize);
    const out = this.backend.alloc("f32", [ids.length, this.config.hiddenSize], true);
    const rows = this.backend.upload(hostTensor("i32", [ids.length], ids));
    this.#pass.embed(rows, out);
    this.backend.free(rows);
    return out;
  }

  /**
   * Next-token logits, [R, vocabSize] f32, of hidden states after the final norm, [R, hiddenSize] f32.
   *
   * @param out Output tensor; also the return value. Default: a new tensor.
   * @throws {RangeError} If a shape does not fit.
   */
  logits(hidden: Tensor, out?: Tensor): Tensor {
    const { hiddenSize, vocabSize } = this.config;
    expectTensor("hidden", hidden, "f32", [-1, hiddenSize]);
    const to = out ?? this.backend.alloc("f32", [hidden.shape[0]!, vocabSize], true);
    expectTensor("out", to, "f32", [hidden.shape[0]!, vocabSize]);
    this.#pass.logits(hidden, to);
    return to;
  }
}

/** Tables of rotary embeddings, one entry per layer; layers with the same one have one object. */
function uploadTurns(config: ModelConfig, backend: Backend): (Tensor | undefined)[] {
  const tables = new Map<Rope, Tensor>();
  return Array.from({ length: config.numLayers }, (_, layer) => {
    const { rope = config.rope } = layerConfig(config, layer);
    if (rope === null) return undefined;
    if (!tables.has(rope)) tables.set(rope, backend.upload(createTurns(rope, config.headDim)));
    return tables.get(rope);
  });
}
