/** A text in chunks: the full model once, then any number of methods on the same chunks. */
import { filteredLayers, type Pruner } from "../../methods/protocol/pruner.ts";
import type { Tensor } from "../../tensor.ts";
import { type ChunkScores, listScores, type MeanOf, TaskEvaluation } from "../evaluation.ts";
import type { EvaluatedModel, EvaluatedSequence } from "../language_model.ts";
import type { TaskMeasures, UnitMetrics } from "../metrics.ts";
import type { KeptLogits } from "../next_token.ts";
import { tallyDrops, tallySkips } from "../skip_ratio.ts";
import type { ChunkRecord, Filter, TaskTypes } from "../task.ts";
import { TensorCache } from "./tensor_cache.ts";

/** How a task scores a chunk. Hidden states are those after the final norm, [T, hiddenSize] f32. */
export interface ChunkScorer<S extends ChunkScores = ChunkScores> {
  /** Whether means are over all units, instead of means of chunks' means: chunks may then have unlike many. */
  readonly isPooled?: boolean;
  /**
   * Losses of a chunk, one a scored unit; as many of every chunk unless they are pooled.
   *
   * @param kept Where the full model's logits are kept.
   */
  score(
    model: EvaluatedModel,
    ids: Int32Array,
    hidden: Tensor,
    chunk: number,
    kept?: KeptLogits,
  ): Float64Array;
  /** Scores with both models' states at hand, where further metrics need them; else `score` of the filtered one's. */
  compare?(
    model: EvaluatedModel,
    ids: Int32Array,
    dense: Tensor,
    hidden: Tensor,
    chunk: number,
    kept: KeptLogits,
  ): S;
  /** Metrics of the task that every scored unit has, of a chunk's scores. */
  metricsOf?(scores: S): UnitMetrics;
  /** Further metrics, of the scores of all chunks. */
  summarize?(scores: readonly S[], meanOf: MeanOf): { readonly [metric: string]: number };
}

/** Default bytes of the full model's states and logits that are kept from run to run. */
const DEFAULT_CACHE_BYTES = 2 ** 30;

/**
 * @internal Evaluates methods against the full model on chunks of token ids, each a sequence of its own. The states of
 * the full model are computed once: the final hidden states, the residual stream that enters each distinct first
 * filtered layer, and, while there is room, the logits.
 */
export class ChunkEvaluation<T extends TaskTypes = TaskTypes, S extends ChunkScores = ChunkScores>
  extends TaskEvaluation<T, S> {
  readonly chunks: readonly Int32Array<ArrayBuffer>[];
  readonly #model: EvaluatedModel;
  readonly #scorer: ChunkScorer<S>;
  readonly #states: TensorCache;
  readonly #belowMs = new Map<string, number>();
  /** The chunk that was scored last, and how often in a row. */
  #last = -1;
  #times = 0;

  /**
   * Prepares an evaluation; nothing is computed yet.
   *
   * @param task Names of the losses and of the main metric.
   * @param chunks At least one.
   * @param cacheBytes Bytes of the full model states and logits that are kept for reuse.
   */
  constructor(
    task: TaskMeasures,
    model: EvaluatedModel,
    chunks: readonly Int32Array<ArrayBuffer>[],
    scorer: ChunkScorer<S>,
    cacheBytes: number = DEFAULT_CACHE_BYTES,
  ) {
    super(task, chunks.map(({ length }) => length));
    this.#model = model;
    this.chunks = chunks;
    this.#scorer = scorer;
    this.#states = new TensorCache(cacheBytes, (tensor) => model.backend.free(tensor));
  }

  protected override get isPooled(): boolean {
    return this.#scorer.isPooled ?? false;
  }

  protected override metricsOf(scores: S): UnitMetrics {
    return this.#scorer.metricsOf?.(scores) ?? {};
  }

  protected override summarize(
    scores: readonly S[],
    meanOf: MeanOf,
    isDense: boolean,
  ): { readonly [metric: string]: number } {
    return isDense ? {} : this.#scorer.summarize?.(scores, meanOf) ?? {};
  }

  protected override warmUp(): void {
    const first = this.#model.start();
    this.#model.backend.free(first.feed(this.chunks[0]!));
    first.free?.();
  }

  protected override scoreDense(chunk: number): ChunkRecord {
    const { backend, config } = this.#model, sequence = this.#model.start(undefined, { chunk });
    const ids = this.chunks[chunk]!, begin = performance.now();
    const hidden = sequence.feed(ids);
    backend.synchronize?.();
    const timeMs = performance.now() - begin;
    this.#states.put(`hidden ${chunk}`, hidden);
    const losses = this.#scorer.score(this.#model, ids, hidden, chunk, this.#logitsOf(chunk));
    const usage = sequence.usage();
    sequence.free?.();
    this.#release(`hidden ${chunk}`, hidden);
    const skips = tallySkips(config.numLayers, 0, [{ length: ids.length, keep: new Map() }]);
    return { chunk, scores: listScores({ losses }), skips, usage, timeMs };
  }

  protected override scoreFiltered(chunk: number, filter: Filter): ChunkRecord {
    const { length } = this.chunks[chunk]!,
      pruner: Pruner = typeof filter === "function" ? filter(length) : filter;
    const first = filteredLayers(pruner)[0] ?? 0, sequence = this.#model.start(pruner, { chunk });
    const { hidden, ms } = this.#feed(sequence, chunk, first);
    const scored = this.#score(chunk, hidden);
    this.#model.backend.free(hidden);
    const { keep, kvKeep = new Map<number, Uint8Array>() } = sequence;
    const { numLayers } = this.#model.config, usage = sequence.usage();
    // The time as if the trial had run by itself: it includes the work that other trials have done for it.
    const timeMs = ms + (this.#belowMs.get(`${first} ${chunk}`) ?? 0);
    sequence.free?.();
    return {
      ...{ chunk, scores: listScores(scored), usage, timeMs },
      skips: tallySkips(numLayers, pruner.spans.warmup, [{ length, keep }]),
      ...(pruner.keySide &&
        { drops: tallyDrops(numLayers, pruner.spans, [{ length, kvKeep }], pruner.keySide.heads) }),
    };
  }

  #score(chunk: number, hidden: Tensor): S {
    const ids = this.chunks[chunk]!, model = this.#model, scorer = this.#scorer;
    if (scorer.compare === undefined) {
      const losses = scorer.score(model, ids, hidden, chunk);
      return { losses, denseLosses: this.denseRecord(chunk).scores["losses"]! } as unknown as S;
    }
    const denseHidden = this.#denseHidden(chunk);
    const scored = scorer.compare(model, ids, denseHidden, hidden, chunk, this.#logitsOf(chunk));
    this.#release(`hidden ${chunk}`, denseHidden);
    return scored;
  }

  /** Feeds a chunk, from the residual stream that enters the first filtered layer where dense layers lie below it. */
  #feed(sequence: EvaluatedSequence, chunk: number, first: number): { hidden: Tensor; ms: number } {
    const ids = this.chunks[chunk]!;
    const residual = first === 0 ? undefined : this.#residual(chunk, first);
    const begin = performance.now();
    const hidden = residual === undefined ? sequence.feed(ids) : sequence.feedResidual(residual, first, ids);
    this.#model.backend.synchronize?.();
    const ms = performance.now() - begin;
    if (residual !== undefined) this.#release(`residual ${first} ${chunk}`, residual);
    return { hidden, ms };
  }

  /** Where methods take turns on a chunk, its logits take the room of those of other chunks. */
  #logitsOf(chunk: number): KeptLogits {
    const cache = this.#states, prefix = `logits ${chunk} `, keyOf = (block: number) => `${prefix}${block}`;
    const isAgain = chunk === this.#last, inTurns = isAgain || this.#times > 1;
    this.#times = isAgain ? this.#times + 1 : 1;
    this.#last = chunk;
    const insteadOf = (key: string) => inTurns && !key.startsWith(prefix);
    return {
      get: (block, compute) => cache.get(keyOf(block), compute, { spare: true, insteadOf }),
      has: (block) => cache.has(keyOf(block)),
    };
  }

  /** Frees a tensor that nothing keeps for reuse. */
  #release(key: string, tensor: Tensor): void {
    if (!this.#states.has(key)) this.#model.backend.free(tensor);
  }

  #residual(chunk: number, layer: number): Tensor {
    return this.#states.get(`residual ${layer} ${chunk}`, () => {
      const begin = performance.now();
      const residual = this.#model.residualAt(this.chunks[chunk]!, layer);
      this.#model.backend.synchronize?.();
      const ms = performance.now() - begin;
      const key = `${layer} ${chunk}`;
      if (!this.#belowMs.has(key)) this.#belowMs.set(key, ms);
      return residual;
    });
  }

  #denseHidden(chunk: number): Tensor {
    return this.#states.get(`hidden ${chunk}`, () => {
      const sequence = this.#model.start(), hidden = sequence.feed(this.chunks[chunk]!);
      sequence.free?.();
      return hidden;
    });
  }
}
