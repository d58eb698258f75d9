/**
 * Perplexity of a filtered model beside the dense one, on the same positions.
 *
 * Protocol (GPTQ, Wanda, SLEB): one token stream with one BOS at its very start where the tokenizer adds one, cut
 * into disjoint chunks of `context` tokens; the tail is dropped; every chunk is a sequence of its own with an empty
 * cache and fresh filter state; losses of tokens 1..context-1 of each chunk; perplexity = exp of the mean of the
 * chunks' mean losses.
 */
import type { Pruner } from "../methods/pruner.ts";
import { pairedMean } from "../stats/paired.ts";
import type { Tensor } from "../tensor.ts";
import { cutChunks } from "./chunks.ts";
import type { EvaluatedModel, EvaluatedSequence } from "./language_model.ts";
import type { SequenceUsage } from "../model/usage.ts";
import { compareNextTokens, nextTokenNll } from "./next_token.ts";
import { countSkips, type SkipRatios } from "./skip_ratio.ts";
import { TensorCache } from "./tensor_cache.ts";

/** Options of {@linkcode PerplexityEvaluation}. */
export interface PerplexityOptions {
  /** Tokens a chunk, default 512. */
  readonly context?: number;
  /**
   * Bytes of dense states (final hidden states, residual streams below the first filtered layer) that are kept for
   * reuse, default 1 GiB. What does not fit is computed again for each run: slower, equal results.
   */
  readonly cacheBytes?: number;
}

/** How a run may be watched and stopped. */
export interface RunControl {
  /** Stops the run between two chunks; the run then throws the signal's reason. */
  readonly signal?: AbortSignal;
  /** Called after each chunk. */
  readonly onChunk?: (done: number, total: number) => void;
  /** Hears each chunk's losses, [context - 1] in nats, and the dense model's at the same positions; ascending. */
  readonly onLosses?: (chunk: number, nll: Float64Array, denseNll: Float64Array) => void;
}

/** The dense model on a text. */
export interface DenseResult {
  /** exp of `nll`. */
  readonly perplexity: number;
  /** Mean loss in nats a token. */
  readonly nll: number;
  /** Tokens fed: chunks x context. */
  readonly tokens: number;
  /** Tokens whose loss counts: chunks x (context - 1). */
  readonly scoredTokens: number;
  /** Chunks of the text. */
  readonly chunks: number;
  /** Tokens a chunk. */
  readonly context: number;
  /** Wall time of the forward passes of all chunks, without logits. */
  readonly timeMs: number;
  /** Bytes of keys and values that one chunk's cache holds at its end. */
  readonly kvBytesHeld: number;
  /** FLOPs of attention over all chunks. */
  readonly attentionFlops: number;
  /** FLOPs of everything over all chunks. */
  readonly totalFlops: number;
}

/**
 * A filtered model on a text, and how it differs from the dense one. Of the usage, bytes are those of one chunk's cache
 * at its end (mean over chunks), and operations are summed over all chunks.
 */
export interface FilteredResult extends SkipRatios, SequenceUsage {
  /** Of the filtered model. */
  readonly perplexity: number;
  /** Of the dense model. */
  readonly densePerplexity: number;
  /** Mean of (filtered - dense) loss in nats a token. */
  readonly nllDelta: number;
  /** Its standard error: paired, over blocks of 64 tokens; null where there are fewer than two blocks. */
  readonly nllDeltaSe: number | null;
  /** Mean KL(dense || filtered) of the next-token distributions, nats. */
  readonly kl: number;
  /** Share of positions where both have the same likeliest token. */
  readonly top1Agreement: number;
  /** Tokens fed: chunks x context. */
  readonly tokens: number;
  /** Tokens whose loss counts: chunks x (context - 1). */
  readonly scoredTokens: number;
  /**
   * Wall time of the filtered forward passes, without logits: the dense layers below the first filtered one (timed
   * once, reused by every run) and the layers from there on.
   */
  readonly timeMs: number;
  /** The dense model's wall time on the same chunks. */
  readonly denseTimeMs: number;
}

/** Tokens a block of the standard error. */
const BLOCK_TOKENS = 64;

/** Lets signals, timers and progress run: chunks are computed synchronously. */
const yieldToEventLoop = () => new Promise<void>((resolve) => setTimeout(resolve, 0));

const mean = (values: Float64Array) => values.reduce((a, b) => a + b, 0) / values.length;
const meanOf = (chunks: readonly Float64Array[]) => mean(Float64Array.from(chunks, mean));

/**
 * Evaluates any number of pruners against the dense model on one text. What is dense is computed once: the final
 * hidden states, and per distinct first filtered layer the residual stream that enters it.
 *
 * @example
 * ```ts
 * import { createPruner, loadModel, readBuiltinText, ReferenceBackend } from "@tokenfilter/tokenfilter";
 * import { PerplexityEvaluation } from "@tokenfilter/tokenfilter/eval";
 * const { llama, tokenizer, config } = await loadModel("tiny", new ReferenceBackend());
 * const ids = tokenizer.encode(await readBuiltinText()).slice(0, 64);
 * const evaluation = new PerplexityEvaluation(llama, ids, { context: 32 });
 * const pruner = createPruner("token-filtering", config, { warmup: 8, pruneRatio: 0.5 });
 * const { perplexity, densePerplexity, achievedRatio } = await evaluation.run(pruner);
 * console.assert(perplexity > densePerplexity && Math.abs(achievedRatio! - 0.5) < 0.1);
 * ```
 */
export class PerplexityEvaluation {
  /** The chunks, each [context]. */
  readonly chunks: readonly Int32Array<ArrayBuffer>[];
  /** Tokens a chunk. */
  readonly context: number;
  readonly #model: EvaluatedModel;
  readonly #states: TensorCache;
  readonly #belowMs = new Map<number, number>();
  readonly #timed = new Set<string>();
  #dense: DenseResult | undefined;
  #denseLosses: readonly Float64Array[] = [];

  /**
   * Cuts the text; nothing is computed yet.
   *
   * @param ids Token ids of the whole text, [N], BOS at the front where the tokenizer adds one.
   * @throws {RangeError} If the text is shorter than the context.
   */
  constructor(model: EvaluatedModel, ids: Int32Array, options: PerplexityOptions = {}) {
    this.#model = model;
    this.context = options.context ?? 512;
    this.chunks = cutChunks(ids, this.context);
    this.#states = new TensorCache(options.cacheBytes ?? 2 ** 30);
  }

  /**
   * Runs the dense model, once; later calls return the first result, and let its losses be heard again.
   *
   * @throws {RangeError} If a loss is not finite: the model's weights are broken.
   */
  async dense(control: RunControl = {}): Promise<DenseResult> {
    const result = this.#dense ??= await this.#runDense(control);
    this.#denseLosses.forEach((nll, chunk) => control.onLosses?.(chunk, nll, nll));
    return result;
  }

  async #runDense(control: RunControl): Promise<DenseResult> {
    // Untimed: the first pass of a process pays for page faults and compilation that later ones do not.
    const first = this.#model.start();
    this.#model.backend.free(first.feed(this.chunks[0]!));
    first.free?.();
    const losses: Float64Array[] = [];
    const usages: SequenceUsage[] = [];
    let timeMs = 0;
    for (const [chunk, ids] of this.chunks.entries()) {
      await yieldToEventLoop();
      control.signal?.throwIfAborted();
      const sequence = this.#model.start(undefined, { chunk });
      const begin = performance.now();
      const hidden = sequence.feed(ids);
      this.#model.backend.synchronize?.();
      timeMs += performance.now() - begin;
      this.#states.put(`hidden ${chunk}`, hidden);
      losses.push(nextTokenNll(this.#model, ids, hidden));
      usages.push(sequence.usage());
      sequence.free?.();
      this.#release(`hidden ${chunk}`, hidden);
      control.onChunk?.(chunk + 1, this.chunks.length);
    }
    const nll = expectFinite(meanOf(losses));
    const chunks = this.chunks.length;
    this.#denseLosses = losses;
    return {
      perplexity: Math.exp(nll),
      nll,
      tokens: chunks * this.context,
      scoredTokens: chunks * (this.context - 1),
      chunks,
      context: this.context,
      timeMs,
      kvBytesHeld: sum(usages, "kvBytesHeld") / chunks,
      attentionFlops: sum(usages, "attentionFlopsDense"),
      totalFlops: sum(usages, "totalFlopsDense"),
    };
  }

  /**
   * Runs a pruner on every chunk and compares it with the dense model.
   *
   * @throws {DOMException} The signal's reason, if it is aborted between two chunks.
   * @throws {RangeError} If a loss is not finite.
   */
  async run(pruner: Pruner, control: RunControl = {}): Promise<FilteredResult> {
    const dense = await this.dense({ signal: control.signal });
    const first = pruner.layers.length === 0 ? 0 : pruner.layers[0]!;
    const losses: Float64Array[] = [], differences: Float64Array[] = [], divergences: Float64Array[] = [];
    const usages: SequenceUsage[] = [];
    const masks: { length: number; keep: ReadonlyMap<number, Uint8Array> }[] = [];
    let agreed = 0, timeMs = 0;
    for (const [chunk, ids] of this.chunks.entries()) {
      await yieldToEventLoop();
      control.signal?.throwIfAborted();
      const sequence = this.#model.start(pruner, { chunk });
      const { hidden, ms } = this.#feed(sequence, chunk, first);
      timeMs += ms;
      const denseHidden = this.#denseHidden(chunk);
      const compared = compareNextTokens(this.#model, ids, denseHidden, hidden);
      this.#model.backend.free(hidden);
      this.#release(`hidden ${chunk}`, denseHidden);
      losses.push(compared.nll);
      differences.push(compared.nll.map((value, i) => value - compared.baseNll[i]!));
      divergences.push(compared.kl);
      control.onLosses?.(chunk, compared.nll, compared.baseNll);
      agreed += compared.agree.reduce((a, b) => a + b, 0);
      usages.push(sequence.usage());
      masks.push({ length: ids.length, keep: sequence.keep });
      sequence.free?.();
      control.onChunk?.(chunk + 1, this.chunks.length);
    }
    const { mean: nllDelta, standardError: nllDeltaSe } = pairedMean(differences, BLOCK_TOKENS);
    return {
      ...countSkips(this.#model.config.numLayers, pruner.warmup, masks),
      perplexity: Math.exp(expectFinite(meanOf(losses))),
      densePerplexity: dense.perplexity,
      nllDelta,
      nllDeltaSe,
      kl: meanOf(divergences),
      top1Agreement: agreed / dense.scoredTokens,
      tokens: dense.tokens,
      scoredTokens: dense.scoredTokens,
      kvBytesHeld: sum(usages, "kvBytesHeld") / dense.chunks,
      kvBytesAvoided: sum(usages, "kvBytesAvoided") / dense.chunks,
      kvBytesAllocated: sum(usages, "kvBytesAllocated") / dense.chunks,
      attentionFlopsDense: sum(usages, "attentionFlopsDense"),
      attentionFlopsAvoided: sum(usages, "attentionFlopsAvoided"),
      totalFlopsDense: sum(usages, "totalFlopsDense"),
      totalFlopsAvoided: sum(usages, "totalFlopsAvoided"),
      timeMs: timeMs + (this.#belowMs.get(first) ?? 0),
      denseTimeMs: dense.timeMs,
    };
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
      if (!this.#timed.has(key)) this.#belowMs.set(layer, (this.#belowMs.get(layer) ?? 0) + ms);
      this.#timed.add(key);
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

/** A model whose loss is no number is broken: nothing said of it would mean anything. */
function expectFinite(nll: number): number {
  if (Number.isFinite(nll)) return nll;
  throw new RangeError(`Cannot evaluate the model: found a mean loss of ${nll}, expected a finite one`);
}

function sum(usages: readonly SequenceUsage[], key: keyof SequenceUsage): number {
  return usages.reduce((total, usage) => total + usage[key], 0);
}
