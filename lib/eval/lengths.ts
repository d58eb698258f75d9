/** Time and memory of a model against the length of its sequence, with and without pruners. */
import { outputFlops } from "../cost.ts";
import { expectInteger } from "../errors.ts";
import { type Pruner, takesWhole } from "../methods/protocol/pruner.ts";
import type { SequenceUsage } from "../model/run/usage.ts";
import type { Tensor } from "../tensor.ts";
import type { EvaluatedModel, EvaluatedSequence } from "./language_model.ts";

/** @internal A method to measure; without a pruner it is the full model. */
export interface MeasuredMethod {
  readonly name: string;
  /** Undefined = dense. */
  readonly pruner?: Pruner;
}

/** One method at one length. */
export interface LengthRow {
  /** The method. */
  readonly name: string;
  /** Tokens of the sequence. */
  readonly tokens: number;
  /** Sequences that run together; times and bytes are those of all. Left out: one. */
  readonly batch?: number;
  /** Median wall time of a prefill of all tokens, milliseconds; the output layer is not in it. */
  readonly prefillMs: number;
  /** The fastest and the slowest prefill; left out in records without them. */
  readonly prefillRangeMs?: readonly [least: number, most: number];
  /**
   * Operations of the prefill over the full model's, without the output layer, by cost.ts; left out where the model's sizes
   * are not known.
   */
  readonly operations?: number;
  /** Median wall time of one more token after the prefill, milliseconds; null where the method is non-causal. */
  readonly decodeMs: number | null;
  /** The fastest and the slowest of these tokens; left out where there is none, and in records without them. */
  readonly decodeRangeMs?: readonly [least: number, most: number];
  /** Bytes of keys and values in use after the prefill. */
  readonly kvBytesHeld: number;
  /** Those that the full model's cache holds. */
  readonly kvBytesDense: number;
  /** Bytes of cache allocated after the prefill. */
  readonly kvBytesAllocated: number;
}

/** @internal A model that can be measured; where `stepTogether` is left out, sequences are decoded one by one. */
export interface MeasuredModel extends EvaluatedModel {
  stepTogether?(feeds: readonly { sequence: EvaluatedSequence; ids: Int32Array<ArrayBuffer> }[]): Tensor;
}

/** @internal How lengths are measured. */
export interface LengthOptions {
  /** Lengths in tokens, each a positive integer. */
  readonly lengths: readonly number[];
  /** Turns of each method at each length; medians are reported. Default 3. */
  readonly turns?: number;
  /** Tokens decoded after each prefill. Default 8. */
  readonly decodes?: number;
  /** Sequences that are prefilled one by one, and decoded together. Default 1. */
  readonly batch?: number;
  /** Called after every turn: the finished fraction of the work by tokens, in [0, 1]. */
  readonly onProgress?: (fraction: number) => void;
  /** A clock in milliseconds. Default `performance.now`. */
  readonly now?: () => number;
}

/**
 * Feeds the beginnings of one text to the methods. The methods take turns, so that other load on the machine affects
 * all alike.
 *
 * @param ids Token ids, at least as many as the greatest length and the decoded tokens together.
 * @returns A row a length and method, lengths ascending.
 * @throws {RangeError} If the text is too short, or an option is no positive integer.
 *
 * @example
 * ```ts
 * import { createPruner, loadModel, readBuiltinText, ReferenceBackend } from "@tokenfilter/tokenfilter";
 * import { measureLengths } from "@tokenfilter/tokenfilter/eval";
 * const { model, tokenizer, config } = await loadModel("tiny", new ReferenceBackend());
 * const ids = Int32Array.from(tokenizer.encode(await readBuiltinText()));
 * const pruner = createPruner("token-filtering", config, { warmup: 4, recent: 0 });
 * const rows = measureLengths(model, ids, [{ name: "dense" }, { name: "half", pruner }], { lengths: [16], turns: 1 });
 * console.assert(rows.length === 2 && rows[1]!.kvBytesHeld < rows[0]!.kvBytesHeld);
 * ```
 */
export function measureLengths(
  model: MeasuredModel,
  ids: Int32Array<ArrayBuffer>,
  methods: readonly MeasuredMethod[],
  { lengths, turns = 3, decodes = 8, batch = 1, onProgress, now = () => performance.now() }: LengthOptions,
): LengthRow[] {
  expectInteger("turns", turns, 1);
  expectInteger("decodes", decodes, 1);
  expectInteger("batch", batch, 1);
  for (const length of lengths) expectInteger("lengths", length, 1);
  const ascending = [...new Set(lengths)].sort((a, b) => a - b), longest = (ascending.at(-1) ?? 0) + decodes;
  if (ids.length < longest) {
    throw new RangeError(`Cannot measure ${longest} tokens: found a text of ${ids.length}, expected as many`);
  }
  const total = ascending.reduce((sum, length) => sum + length, 0) * turns * methods.length;
  let done = 0;
  return ascending.flatMap((tokens) => {
    const runs = methods.map(() => ({
      prefill: [] as number[],
      decode: [] as number[],
      usage: {} as SequenceUsage,
    }));
    // The first turn pays for page faults and compilation: it is not counted.
    for (let turn = -1; turn < turns; turn++) {
      for (const [i, { pruner }] of methods.entries()) {
        const sequences = Array.from({ length: batch }, () => model.start(pruner)), run = runs[i]!;
        const feed = (from: number, to: number): number => {
          const began = now(), feeds = sequences.map((sequence) => ({ sequence, ids: ids.slice(from, to) }));
          const isStep = from > 0 && batch > 1 && model.stepTogether !== undefined;
          if (isStep) model.backend.free(model.stepTogether!(feeds));
          else for (const { sequence, ids } of feeds) model.backend.free(sequence.feed(ids));
          model.backend.synchronize?.();
          return now() - began;
        };
        const prefill = feed(0, tokens), usage = sequences[0]!.usage(), decode: number[] = [];
        for (let t = tokens; t < tokens + decodes && !takesWhole(pruner); t++) decode.push(feed(t, t + 1));
        for (const sequence of sequences) sequence.free?.();
        if (turn < 0) continue;
        run.prefill.push(prefill);
        run.decode.push(...decode);
        run.usage = usage;
        onProgress?.((done += tokens) / total);
      }
    }
    const { hiddenSize, vocabSize } = model.config;
    const output = hiddenSize && vocabSize && outputFlops({ hiddenSize, vocabSize }, tokens);
    return methods.map(({ name }, i) => {
      const { prefill, decode, usage } = runs[i]!;
      return {
        name,
        tokens,
        ...(batch > 1 && { batch }),
        prefillMs: median(prefill)!,
        prefillRangeMs: rangeOf(prefill),
        ...(output && { operations: 1 - usage.totalFlopsAvoided / (usage.totalFlopsDense - output) }),
        decodeMs: median(decode),
        ...(decode.length > 0 && { decodeRangeMs: rangeOf(decode) }),
        kvBytesHeld: batch * usage.kvBytesHeld,
        kvBytesDense: batch * (usage.kvBytesHeld + usage.kvBytesAvoided),
        kvBytesAllocated: batch * usage.kvBytesAllocated,
      };
    });
  });
}

/** Middle of some numbers, the lower one of two; null of none. */
function median(values: readonly number[]): number | null {
  return values.toSorted((a, b) => a - b)[(values.length - 1) >> 1] ?? null;
}

const rangeOf = (values: readonly number[]): [least: number, most: number] => [
  Math.min(...values),
  Math.max(...values),
];
