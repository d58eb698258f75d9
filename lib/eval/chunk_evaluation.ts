/** Evaluation chunk by chunk: the dense model once, then any number of pruners on the same chunks. */
import { filteredLayers, type Pruner } from "../methods/pruner.ts";
import type { SequenceUsage } from "../model/run/usage.ts";
import { pairedMean } from "../stats/paired.ts";
import type { Tensor } from "../tensor.ts";
import type { EvaluatedModel, EvaluatedSequence } from "./language_model.ts";
import {
  addDrops,
  addSkips,
  dropRatioOf,
  dropRatiosOf,
  skipRatiosOf,
  tallyDrops,
  tallySkips,
} from "./skip_ratio.ts";
import {
  BLOCK_UNITS,
  type ChunkRecord,
  type Evaluation,
  type EvaluationTask,
  recordLosses,
  type RunControl,
  type TaskTypes,
  type UnitMetrics,
} from "./task.ts";
import { yieldToEventLoop } from "./chunks.ts";
import { excessKeys } from "./metrics.ts";
import { TensorCache } from "./tensor_cache.ts";

/**
 * Losses of one chunk, one a scored unit, of the filtered and of the dense model; what else there is are lists of numbers
 * too.
 */
export interface ChunkScores {
  /** Of the filtered model. */
  readonly losses: Float64Array;
  /** Of the dense model, as many. */
  readonly denseLosses: Float64Array;
}

/** Where a run's logits are kept for other calls, block by block; a block is named by its first row. */
export interface KeptLogits {
  /** The kept logits of a block, or the computed ones, which are kept if there is room. */
  get(block: number, compute: () => Tensor): Tensor;
  /** Whether a block's logits are kept. */
  has(block: number): boolean;
}

/** How a task scores a chunk. Hidden states are those after the final norm, [T, hiddenSize] f32. */
export interface ChunkScorer<S extends ChunkScores = ChunkScores> {
  /** Whether means are over all units, in place of means of chunks' means: chunks may then have unlike many. */
  readonly isPooled?: boolean;
  /**
   * Losses of a chunk, one a scored unit; as many of every chunk unless they are pooled.
   *
   * @param kept Where the dense model's logits are kept.
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
  summarize?(
    scores: readonly S[],
    meanOf: (chunks: readonly Float64Array[]) => number,
  ): { readonly [metric: string]: number };
}

/** Bytes of what the dense model gives that are kept from run to run, where nothing else is said. */
const DEFAULT_CACHE_BYTES = 2 ** 30;

const mean = (values: Float64Array) => values.reduce((a, b) => a + b, 0) / values.length;

/** Mean of the means of chunks. */
export const meanOfChunks = (chunks: readonly Float64Array[]): number =>
  mean(Float64Array.from(chunks, mean));

/**
 * @internal Evaluates pruners against the dense model on chunks of token ids, each a sequence of its own. What is dense is
 * computed once: the final hidden states, per distinct first filtered layer the residual stream that enters it, and,
 * while there is room, the logits.
 */
export class ChunkEvaluation<T extends TaskTypes = TaskTypes, S extends ChunkScores = ChunkScores>
  implements Evaluation<T> {
  /** The chunks, each [tokens]. */
  readonly chunks: readonly Int32Array<ArrayBuffer>[];
  /** Tokens a chunk; of the longest where they differ. */
  readonly context: number;
  readonly #task: Pick<EvaluationTask, "loss" | "headline">;
  readonly #model: EvaluatedModel;
  readonly #scorer: ChunkScorer<S>;
  readonly #states: TensorCache;
  readonly #belowMs = new Map<string, number>();
  #dense: T["dense"] | undefined;
  #denseLosses: readonly Float64Array[] = [];

  /**
   * Prepares an evaluation; nothing is computed yet.
   *
   * @param task What the losses and the main metric are called.
   * @param chunks At least one.
   * @param cacheBytes Bytes of dense states and logits that are kept for reuse.
   */
  constructor(
    task: Pick<EvaluationTask, "loss" | "headline">,
    model: EvaluatedModel,
    chunks: readonly Int32Array<ArrayBuffer>[],
    scorer: ChunkScorer<S>,
    cacheBytes: number = DEFAULT_CACHE_BYTES,
  ) {
    this.#task = task;
    this.#model = model;
    this.chunks = chunks;
    this.context = chunks.reduce((most, { length }) => Math.max(most, length), 0);
    this.#scorer = scorer;
    this.#states = new TensorCache(cacheBytes, (tensor) => model.backend.free(tensor));
  }

  /**
   * Runs the dense model, once; later calls return the first result, and call `onLosses` with its losses again.
   *
   * @throws {RangeError} If a loss is not finite (the model's weights are broken), or chunks have unlike many losses.
   */
  async dense(control: RunControl = {}): Promise<T["dense"]> {
    const result = this.#dense ??= await this.#runDense(control);
    this.#denseLosses.forEach((losses, chunk) => control.onLosses?.(chunk, losses, losses, {}));
    return result;
  }

  async #runDense(control: RunControl): Promise<T["dense"]> {
    const { finished } = control;
    if (this.chunks.some((_, chunk) => !finished?.has(chunk))) {
      // Untimed: the first pass of a process pays for page faults and compilation that later ones do not.
      const first = this.#model.start();
      this.#model.backend.free(first.feed(this.chunks[0]!));
      first.free?.();
    }
    const records: ChunkRecord[] = [];
    for (const [chunk, ids] of this.chunks.entries()) {
      records[chunk] = await this.#find(chunk, control, () => this.#runDenseChunk(chunk, ids));
      control.onChunk?.(chunk + 1, this.chunks.length);
    }
    const losses = records.map(({ scores }) => Float64Array.from(scores.losses!));
    const usages = records.map(({ usage }) => usage);
    const timeMs = records.reduce((sum, { timeMs }) => sum + timeMs, 0);
    const { loss, headline } = this.#task, counts = new Set(losses.map(({ length }) => length));
    if (counts.size > 1 && this.#scorer.isPooled !== true) {
      // The mean of chunks' means would not be that of all losses, which paired statistics take.
      throw new RangeError(
        `Cannot average: found chunks of ${[...counts].join(", ")} losses, expected as many in each`,
      );
    }
    const meanLoss = expectFinite(this.#meanOf(losses));
    this.#denseLosses = losses;
    return {
      [headline.name]: headline.fromLoss(meanLoss),
      [loss.name]: meanLoss,
      ...this.#size(losses),
      chunks: this.chunks.length,
      context: this.context,
      timeMs,
      kvBytesHeld: sum(usages, "kvBytesHeld") / this.chunks.length,
      kvBytesAllocated: sum(usages, "kvBytesAllocated") / this.chunks.length,
      attentionFlops: sum(usages, "attentionFlopsDense"),
      totalFlops: sum(usages, "totalFlopsDense"),
      lossBlocks: recordLosses(losses),
    };
  }

  #runDenseChunk(chunk: number, ids: Int32Array<ArrayBuffer>): ChunkRecord {
    const { backend, config } = this.#model, sequence = this.#model.start(undefined, { chunk });
    const begin = performance.now();
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

  /** A chunk's record: of an earlier run, or made now. @throws The signal's reason, if it is aborted, or as `dense`. */
  async #find(chunk: number, control: RunControl, run: () => ChunkRecord): Promise<ChunkRecord> {
    const known = control.finished?.get(chunk);
    if (known !== undefined) return known;
    await yieldToEventLoop();
    control.signal?.throwIfAborted();
    const record = run();
    record.scores.losses!.forEach(expectFinite); // JSON has no other numbers: none is to be written down
    control.onRecord?.(record);
    return record;
  }

  #runChunk(pruner: Pruner, chunk: number, first: number): ChunkRecord {
    const { length } = this.chunks[chunk]!, sequence = this.#model.start(pruner, { chunk });
    const { hidden, ms } = this.#feed(sequence, chunk, first);
    const scored = this.#score(chunk, hidden);
    this.#model.backend.free(hidden);
    const { keep, kvKeep = new Map<number, Uint8Array>() } = sequence;
    const { numLayers } = this.#model.config, usage = sequence.usage();
    // Of a trial alone: with what others have done for it.
    const timeMs = ms + (this.#belowMs.get(`${first} ${chunk}`) ?? 0);
    sequence.free?.();
    return {
      ...{ chunk, scores: listScores(scored), usage, timeMs },
      skips: tallySkips(numLayers, pruner.spans.warmup, [{ length, keep }]),
      ...(pruner.keySide && { drops: tallyDrops(numLayers, pruner.spans, [{ length, kvKeep }]) }),
    };
  }

  /**
   * Runs a pruner on every chunk and compares it with the dense model.
   *
   * @throws {DOMException} The signal's reason, if it is aborted between two chunks.
   * @throws {RangeError} If a loss is not finite.
   */
  async run(pruner: Pruner, control: RunControl = {}): Promise<T["filtered"]> {
    const dense = await this.dense({ signal: control.signal });
    const first = filteredLayers(pruner)[0] ?? 0;
    const records: ChunkRecord[] = [], scores: S[] = [], differences: Float64Array[] = [];
    let done = 0;
    for (const chunk of control.order ?? this.chunks.keys()) {
      const record = records[chunk] = await this.#find(
        chunk,
        control,
        () => this.#runChunk(pruner, chunk, first),
      );
      const scored = scores[chunk] = readScores<S>(record);
      differences[chunk] = scored.losses.map((value, i) => value - scored.denseLosses[i]!);
      control.onLosses?.(chunk, scored.losses, scored.denseLosses, this.#scorer.metricsOf?.(scored) ?? {});
      control.onChunk?.(++done, this.chunks.length);
    }
    const usages = records.map(({ usage }) => usage), drops = records.flatMap(({ drops }) => drops ?? []);
    const timeMs = records.reduce((sum, { timeMs }) => sum + timeMs, 0);
    const { headline } = this.#task;
    const losses = scores.map((scored) => scored.losses);
    const { mean, standardError } = pairedMean(differences, BLOCK_UNITS);
    const keys = excessKeys(this.#task);
    const total = <K extends keyof SequenceUsage>(...keys: K[]) =>
      Object.fromEntries(keys.map((key) => [key, sum(usages, key)])) as Record<K, number>;
    return {
      ...skipRatiosOf(addSkips(records.map(({ skips }) => skips))),
      kvAchievedRatio: drops.length === 0 ? null : dropRatioOf(addDrops(drops)),
      ...(drops.length > 0 && { dropRatioPerLayer: dropRatiosOf(addDrops(drops)) }),
      [headline.name]: headline.fromLoss(expectFinite(this.#meanOf(losses))),
      [keys.dense]: (dense as unknown as { [metric: string]: number })[headline.name]!,
      [keys.delta]: mean,
      [keys.standardError]: standardError,
      ...this.#scorer.summarize?.(scores, (chunks) => this.#meanOf(chunks)),
      ...this.#size(losses),
      kvBytesHeld: sum(usages, "kvBytesHeld") / this.chunks.length,
      kvBytesAvoided: sum(usages, "kvBytesAvoided") / this.chunks.length,
      kvBytesAllocated: sum(usages, "kvBytesAllocated") / this.chunks.length,
      parametersDense: usages[0]!.parametersDense,
      parametersAvoided: usages[0]!.parametersAvoided,
      ...total("queriesDense", "queriesSkipped", "pairsDense", "pairsAvoided"),
      ...total("projectionFlopsDense", "projectionFlopsAvoided"),
      ...total("attentionFlopsDense", "attentionFlopsAvoided", "totalFlopsDense", "totalFlopsAvoided"),
      timeMs,
      denseTimeMs: dense.timeMs,
      lossBlocks: recordLosses(losses),
    };
  }

  #meanOf(chunks: readonly Float64Array[]): number {
    if (this.#scorer.isPooled !== true) return meanOfChunks(chunks);
    return mean(Float64Array.from(chunks.flatMap((values) => [...values])));
  }

  #size(losses: readonly Float64Array[]): { tokens: number; scoredTokens: number } {
    const count = (all: readonly { readonly length: number }[]) =>
      all.reduce((n, { length }) => n + length, 0);
    return { tokens: count(this.chunks), scoredTokens: count(losses) };
  }

  #score(chunk: number, hidden: Tensor): S {
    const ids = this.chunks[chunk]!, model = this.#model, scorer = this.#scorer;
    if (scorer.compare === undefined) {
      const losses = scorer.score(model, ids, hidden, chunk);
      return { losses, denseLosses: this.#denseLosses[chunk]! } as S;
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
    const hidden = residual === undefined ? sequence.feed(ids) : sequence.feedResidual(residual, first);
    this.#model.backend.synchronize?.();
    const ms = performance.now() - begin;
    if (residual !== undefined) this.#release(`residual ${first} ${chunk}`, residual);
    return { hidden, ms };
  }

  /** Where the dense model's logits of a chunk are kept. */
  #logitsOf(chunk: number): KeptLogits {
    const cache = this.#states, keyOf = (block: number) => `logits ${chunk} ${block}`;
    return {
      get: (block, compute) => cache.get(keyOf(block), compute, { spare: true }),
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

/** Scores as a record has them. */
const listScores = (scores: object): ChunkRecord["scores"] =>
  Object.fromEntries(Object.entries(scores).map(([name, values]) => [name, [...values as Float64Array]]));

/** The same read again: lists that are all of numbers. */
const readScores = <S extends ChunkScores>({ scores }: ChunkRecord): S =>
  Object.fromEntries(
    Object.entries(scores).map(([name, values]) => [name, Float64Array.from(values)]),
  ) as unknown as S;

/** A model whose loss is no number is broken: nothing said of it would mean anything. */
function expectFinite(loss: number): number {
  if (Number.isFinite(loss)) return loss;
  throw new RangeError(`Cannot evaluate the model: found a mean loss of ${loss}, expected a finite one`);
}

function sum(usages: readonly SequenceUsage[], key: keyof SequenceUsage): number {
  return usages.reduce((total, usage) => total + usage[key], 0);
}
