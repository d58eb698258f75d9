/**
 * Perplexity of a filtered model next to the dense one, on the same positions.
 *
 * Protocol (GPTQ, Wanda, SLEB): one token stream, with one BOS at its very start where the tokenizer adds one. It is
 * cut into disjoint chunks of `context` tokens, and the tail is dropped. Every chunk is a sequence of its own with an
 * empty cache and fresh filter state. The losses are those of tokens 1..context-1 of each chunk; perplexity = exp of
 * the mean of the chunks' mean losses.
 */
import { ChunkEvaluation, type ChunkScorer } from "../chunks/chunk_evaluation.ts";
import { cutChunks } from "../chunks/chunks.ts";
import type { ChunkScores } from "../evaluation.ts";
import type { EvaluatedModel } from "../language_model.ts";
import type { TaskMeasures } from "../metrics.ts";
import { compareNextTokens, nextTokenNll } from "../next_token.ts";
import type { DenseTaskResult, Task, TaskResult } from "../task.ts";

/** Options of {@linkcode PerplexityEvaluation}. */
export interface PerplexityOptions {
  /** Tokens per chunk, default 512. */
  readonly context?: number;
  /**
   * Bytes of the full model's tensors that are kept for reuse, default 1 GiB: final hidden states, residual streams
   * below the first filtered layer, and logits, which make room for the others. Tensors that do not fit are computed
   * again for each run, which is slower with equal results.
   */
  readonly cacheBytes?: number;
}

interface DenseResult extends DenseTaskResult {
  /** exp of `nll`. */
  readonly perplexity: number;
  /** Mean loss in nats per token. */
  readonly nll: number;
}

/** A filtered model on a text, and how it differs from the dense one. */
interface FilteredResult extends TaskResult {
  readonly perplexity: number;
  readonly densePerplexity: number;
  /** Mean of (filtered - dense) loss in nats per token. */
  readonly nllDelta: number;
  /** Its standard error: paired, over blocks of 64 tokens; null where there are fewer than two blocks. */
  readonly nllDeltaSe: number | null;
  /** Mean KL(dense || filtered) of the next-token distributions, nats. */
  readonly kl: number;
  /** Fraction of positions where both have the same likeliest token. */
  readonly top1Agreement: number;
}

/** @internal The types of its records. */
export interface PerplexityTypes {
  readonly dense: DenseResult;
  readonly filtered: FilteredResult;
  /** Field of a comparison: exp of the mean loss. */
  readonly compared: { readonly perplexity: number };
}

/** @internal Losses of a chunk, [context - 1] each, in nats, and how far the two models are apart. */
export interface PerplexityScores extends ChunkScores {
  /** KL(dense || filtered) of every position, nats. */
  readonly kl: Float64Array;
  /** 1 where both have the same likeliest token. */
  readonly agree: Float64Array;
}

/** Scores the tokens of each chunk behind the one at `firstOf`; losses are multiplied. */
export const scoreBehind = (
  firstOf: (ids: Int32Array, chunk: number) => number,
  factor = 1,
): ChunkScorer<PerplexityScores> => ({
  score: (model, ids, hidden, chunk, kept) =>
    nextTokenNll(model, ids, hidden, kept).slice(firstOf(ids, chunk)).map((loss) => factor * loss),
  compare(model, ids, dense, hidden, chunk, kept) {
    const { nll, baseNll, kl, agree } = compareNextTokens(model, ids, dense, hidden, kept);
    const first = firstOf(ids, chunk),
      lossesOf = (all: Float64Array) => all.slice(first).map((x) => factor * x);
    return {
      ...{ losses: lossesOf(nll), denseLosses: lossesOf(baseNll) },
      ...{ kl: kl.slice(first), agree: Float64Array.from(agree.slice(first)) },
    };
  },
  metricsOf: ({ kl, agree }) => ({ kl, top1Agreement: agree }),
  summarize: (scores, meanOf) => ({
    kl: meanOf(scores.map(({ kl }) => kl)),
    top1Agreement: sum(scores.map(({ agree }) => agree.reduce((a, b) => a + b, 0))) /
      sum(scores.map(({ agree }) => agree.length)),
  }),
});

/** An evaluation of chunks that are cut already. */
export const scoreChunks = (
  model: EvaluatedModel,
  chunks: readonly Int32Array<ArrayBuffer>[],
  scorer: ChunkScorer<PerplexityScores>,
  cacheBytes: number | undefined,
  task: TaskMeasures = perplexity,
): ChunkEvaluation<PerplexityTypes, PerplexityScores> =>
  new ChunkEvaluation(task, model, chunks, scorer, cacheBytes);

const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);

export const perplexity: Task<PerplexityTypes> = {
  name: "perplexity",
  help: "loss of every next token of a text, in chunks",
  protocol:
    "One token stream with one BOS at its start where the tokenizer adds one; disjoint chunks of the context " +
    "length, the tail dropped, each a sequence of its own, one prefill; perplexity = exp of the mean of the chunks' mean " +
    "losses, softmax over float32 logits; KL and top-1 on the same positions.",
  label: (context) => `GPTQ style at ${context}${context === 128 ? " (as in the paper)" : ""}`,
  loss: { name: "nll", label: "loss", unit: "nats", of: "token" },
  headline: {
    name: "perplexity",
    label: "ppl",
    help: "perplexity of the filtered model",
    better: "lower",
    digits: 2,
    fromLoss: Math.exp,
    formula: "exp of the mean loss",
  },
  metrics: [
    {
      name: "kl",
      label: "KL",
      help: "mean KL(dense || filtered), nats",
      better: "lower",
      digits: 4,
      isDistance: true,
      figure: {
        title: "Distance from the full model",
        axis: "KL divergence (nats)",
        caption: "Mean KL(dense || filtered) of the next-token distributions, in nats",
      },
    },
    {
      name: "top1Agreement",
      label: "top-1",
      help: "fraction of positions where both models find the same token likeliest",
      better: "higher",
      digits: 1,
      percent: true,
      isDistance: true,
    },
  ],
  open: (model, { ids, tokenizer: _, ...options }) => new PerplexityEvaluation(model, ids, options),
};

/**
 * Evaluates any number of pruners against the full model on one text.
 *
 * @example
 * ```ts
 * import { createPruner, loadModel, readBuiltinText, ReferenceBackend } from "@tokenfilter/tokenfilter";
 * import { PerplexityEvaluation } from "@tokenfilter/tokenfilter/eval";
 * const { model, tokenizer, config } = await loadModel("tiny", new ReferenceBackend());
 * const ids = tokenizer.encode(await readBuiltinText()).slice(0, 64);
 * const evaluation = new PerplexityEvaluation(model, ids, { context: 32 });
 * const pruner = createPruner("token-filtering", config, { warmup: 8, pruneRatio: 0.5 });
 * const { perplexity, densePerplexity, achievedRatio } = await evaluation.run(pruner);
 * console.assert(perplexity > densePerplexity && Math.abs(achievedRatio! - 0.5) < 0.1);
 * ```
 */
export class PerplexityEvaluation extends ChunkEvaluation<PerplexityTypes, PerplexityScores> {
  /**
   * Cuts the text; nothing is computed yet.
   *
   * @param ids Token ids of the whole text, [N], BOS at the front where the tokenizer adds one.
   * @throws {RangeError} If the text is shorter than the context.
   */
  constructor(model: EvaluatedModel, ids: Int32Array, options: PerplexityOptions = {}) {
    const { context = 512, cacheBytes } = options;
    super(perplexity, model, cutChunks(ids, context), scoreBehind(() => 0), cacheBytes);
  }
}
