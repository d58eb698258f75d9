/** Losses of one sequence of any length, token by token, for a model with or without a pruner. */
import { type Pruner, takesWhole } from "../methods/protocol/pruner.ts";
import { disposing } from "../disposing.ts";
import { expectInstance, expectName, expectOptions } from "../errors.ts";
import { hostTensor, type Tensor } from "../tensor.ts";
import type { EvaluatedBatch, EvaluatedModel } from "./language_model.ts";
import { batchUnsupportedReason } from "../model/run/batch/batch_decoder.ts";
import { judgedTokens, NEVER } from "../filter/blocks.ts";
import { endingOf } from "../model/run/key_judge.ts";
import { LayerTally, type SequenceUsage } from "../model/run/usage.ts";
import { nextTokenNll } from "./next_token.ts";

/** How a sequence reaches the model. */
export interface FeedOptions {
  /**
   * `prefill` (default): in chunks; `decode`: one token at a time through the cache, on the device itself where its
   * backend has recorded steps and the method can decide there.
   */
  readonly phase?: "prefill" | "decode";
  /** Tokens per chunk of a prefill; default: all at once. */
  readonly chunk?: number;
  /** Called after each feed with the tokens fed so far. */
  readonly onFeed?: (tokens: number) => void;
}

const PHASES = ["prefill", "decode"] as const;
const FEED_OPTIONS: Record<keyof FeedOptions, true> = { phase: true, chunk: true, onFeed: true };

/** Losses and decisions of one sequence. */
export interface SequenceScore {
  /** nll[i] = loss of ids[i + 1] in nats, [T - 1]. */
  readonly nll: Float64Array<ArrayBuffer>;
  /** exp of the mean loss. */
  readonly perplexity: number;
  /** Filtered layers, ascending; empty where dense. */
  readonly layers: readonly number[];
  /** Per filtered layer, in the order of `layers`: 1 = kept, 0 = skipped, [T]. */
  readonly keep: readonly Uint8Array[];
  /** Layers whose keys and values are dropped by a rule of their own, ascending. */
  readonly kvLayers: readonly number[];
  /** In their order: 1 = the token's key and value stay, or were not decided yet, 0 = they were evicted, [T]. */
  readonly kvKeep: readonly Uint8Array[];
  /**
   * In their order, one list for all KV heads of the layer, or for each that has rows of its own: the position from which on no
   * query attends to the token, [T]; 2^31 - 1 where it stays.
   */
  readonly kvEnds: readonly (readonly Int32Array[])[];
  /** Work and memory of the run. Where it was decoded on a device, the memory allocated is that of its fixed caches. */
  readonly usage: SequenceUsage;
  /** Why a `decode` fed tokens one by one from the host; undefined where the device took its own steps. */
  readonly fedByHost?: string;
}

/**
 * Scores one sequence: no chunks of context, no reset, also past the model's context length.
 *
 * @param ids Token ids as given, [T], T >= 2.
 * @param pruner Dense where left out.
 * @throws {TypeError} If the ids are no `Int32Array`, or an option is unknown.
 * @throws {RangeError} If there is no such phase, the sequence is shorter than 2, the chunk is not a positive integer, or the pruner is
 * non-causal and the sequence does not come as one prefill.
 *
 * @example
 * ```ts
 * import { createPruner, loadModel, ReferenceBackend, scoreSequence } from "@tokenfilter/tokenfilter";
 * const { model, tokenizer, config } = await loadModel("tiny", new ReferenceBackend());
 * const ids = tokenizer.encode("It was a dark night, and the rain fell in torrents.", { bos: true });
 * const pruner = createPruner("token-filtering", config, { warmup: 8 });
 * const { nll, layers, keep } = scoreSequence(model, ids, pruner, { phase: "decode" });
 * console.assert(nll.length === ids.length - 1 && keep[layers.indexOf(9)]!.length === ids.length);
 * ```
 */
export function scoreSequence(
  model: EvaluatedModel,
  ids: Int32Array<ArrayBuffer>,
  pruner?: Pruner,
  options: FeedOptions = {},
): SequenceScore {
  expectInstance("ids", ids, Int32Array);
  expectOptions(options, FEED_OPTIONS);
  expectName("phase", options.phase ?? PHASES[0], PHASES);
  const count = ids.length;
  if (count < 2) throw new RangeError(`Cannot score a sequence of ${count} tokens: expected at least 2`);
  const chunk = options.phase === "decode" ? 1 : options.chunk ?? count;
  if (!Number.isInteger(chunk) || chunk < 1) {
    throw new RangeError(`Cannot feed chunks of ${chunk} tokens: expected a positive integer`);
  }
  if (takesWhole(pruner) && chunk < count) {
    throw new RangeError(
      `Cannot feed ${chunk} of ${count} tokens at a time: this method is non-causal, expected one prefill`,
    );
  }
  const fedByHost = options.phase !== "decode"
    ? undefined
    : model.startBatch === undefined
    ? "the model decodes no batches"
    : model.backend.record === undefined
    ? `backend "${model.backend.name}" has no recorded steps`
    : batchUnsupportedReason(pruner);
  const onDevice = options.phase === "decode" && fedByHost === undefined;
  const run = onDevice
    ? disposing(
      model.startBatch!(pruner, { batch: 1, capacity: ids.length }),
      (decoder) => stepThrough(model, decoder, ids, pruner, options.onFeed),
    )
    : feedThrough(model, ids, pruner, chunk, options.onFeed);
  const broken = run.nll.findIndex((loss) => !Number.isFinite(loss));
  if (broken >= 0) {
    throw new RangeError(
      `Cannot score token ${broken + 1}: found a loss of ${run.nll[broken]}, expected a finite one`,
    );
  }
  const mean = run.nll.reduce((a, b) => a + b, 0) / run.nll.length, perplexity = Math.exp(mean);
  if (!Number.isFinite(perplexity)) {
    throw new RangeError(
      `Cannot score the tokens: found a mean loss of ${mean}, expected one of a finite perplexity`,
    );
  }
  return { ...run, perplexity, ...(fedByHost !== undefined && { fedByHost }) };
}

type Run = Omit<SequenceScore, "perplexity" | "fedByHost">;

/** Feeds chunks of a sequence from the host. */
function feedThrough(
  model: EvaluatedModel,
  ids: Int32Array<ArrayBuffer>,
  pruner: Pruner | undefined,
  chunk: number,
  onFeed: FeedOptions["onFeed"],
): Run {
  const count = ids.length;
  const sequence = model.start(pruner);
  const nll = new Float64Array(count - 1);
  // The last hidden state of a feed predicts the first token of the next one: `carried` brings it over.
  let carried: Tensor | undefined;
  for (let start = 0; start < count; start += chunk) {
    const end = Math.min(start + chunk, count);
    const hidden = sequence.feed(ids.slice(start, end));
    const rows = model.backend.read(hidden);
    const width = rows.shape[1]!;
    if (carried !== undefined) {
      nll.set(nextTokenNll(model, ids.subarray(start - 1, start + 1), carried), start - 1);
    }
    if (end - start > 1) nll.set(nextTokenNll(model, ids.subarray(start, end), hidden), start);
    const last = Float32Array.from(rows.data.subarray((end - start - 1) * width, (end - start) * width));
    if (carried !== undefined) model.backend.free(carried);
    model.backend.free(hidden);
    carried = end === count ? undefined : model.backend.upload(hostTensor("f32", [1, width], last));
    onFeed?.(end);
  }
  const layers = [...sequence.keep.keys()].sort((a, b) => a - b);
  const keep = layers.map((layer) => sequence.keep.get(layer)!), usage = sequence.usage();
  const kvMasks = [...sequence.kvKeep ?? []], kvLayers = kvMasks.map(([layer]) => layer);
  const kvEnds = [...sequence.kvEnds?.values() ?? []];
  sequence.free?.();
  return { nll, layers, keep, kvLayers, kvKeep: kvMasks.map(([, mask]) => mask), kvEnds, usage };
}

/** Decodes a sequence by the recorded steps of a device. */
function stepThrough(
  model: EvaluatedModel,
  decoder: EvaluatedBatch,
  ids: Int32Array<ArrayBuffer>,
  pruner: Pruner | undefined,
  onFeed: FeedOptions["onFeed"],
): Run {
  const count = ids.length, { backend, config } = model, { numLayers } = config;
  decoder.begin(0);
  const targets = backend.upload(hostTensor("i32", [count - 1, 1], ids.slice(1)));
  const nll = new Float64Array(count - 1);
  const keep = Array.from({ length: numLayers }, () => new Uint8Array(count));
  const { keySide } = pruner ?? {}, kvLayers = keySide?.layers ?? [];
  const kvKeep = kvLayers.map(() => new Uint8Array(count).fill(1));
  const judged = keySide === undefined ? 0 : judgedTokens(count, pruner!.spans);
  for (let t = 0; t < count; t++) {
    const logits = decoder.step(ids.slice(t, t + 1));
    if (t + 1 < count) nll.set(backend.nll(logits, backend.row(targets, t)), t);
    decoder.keep().forEach((kept, layer) => keep[layer]![t] = kept);
    if (t < judged && keySide!.specs) decoder.kvKeep().forEach((kept, i) => kvKeep[i]![t] = kept);
    onFeed?.(t + 1);
  }
  decoder.judged(0)?.forEach((mask, layer) => kvKeep[kvLayers.indexOf(layer)] = mask);
  backend.free(targets);
  const layers = [...pruner?.layers ?? []].sort((a, b) => a - b);
  const ending = kvKeep.map((mask) => endingOf(mask, pruner!.spans));
  const kvEnds = ending.map((rows) => {
    const ends = new Int32Array(count).fill(NEVER);
    for (const { position, end } of rows) ends[position] = end;
    return [ends];
  });
  const tallies = keep.map((mask, layer) => {
    const tally = new LayerTally(pruner, config.layers?.[layer]?.window, keySide?.heads?.get(layer));
    tally.drop(ending[kvLayers.indexOf(layer)]?.map(({ end }) => end) ?? []);
    tally.take(mask);
    return tally;
  });
  const usage = decoder.usageOf(tallies, count);
  return { nll, layers, keep: layers.map((layer) => keep[layer]!), kvLayers, kvKeep, kvEnds, usage };
}
