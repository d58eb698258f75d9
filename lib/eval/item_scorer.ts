/**
 * Log-likelihoods of an item's continuations. A context is computed once; its continuations branch from it, cache and
 * filter state forked, so that no choice sees another and no item depends on those before it.
 */
import type { Pruner } from "../methods/pruner.ts";
import type { Tokenizer } from "../model/tokenizer.ts";
import type { SequenceUsage } from "../model/usage.ts";
import { type HostTensor, hostTensor, resizedRows, rowsOf } from "../tensor.ts";
import { addReach, type FilterReach, reachOf } from "./filter_reach.ts";
import type { Likelihoods } from "./item_metrics.ts";
import type { Item, ItemRequest } from "./item_task.ts";
import type { EvaluatedModel, EvaluatedSequence } from "./language_model.ts";
import { likeliestToken, scoreNextTokens } from "./next_token.ts";
import { type DropCounts, type SkipCounts, tallyDrops, tallySkips } from "./skip_ratio.ts";

/** A sequence that can branch. */
export interface BranchingSequence extends EvaluatedSequence {
  /** An independent copy. */
  fork(): BranchingSequence;
}

/** A model whose sequences can branch; `Model` fits it. */
export interface BranchingModel extends EvaluatedModel {
  /** As {@linkcode EvaluatedModel.start}. */
  start(pruner?: Pruner, options?: { readonly chunk?: number }): BranchingSequence;
}

/** A request in tokens. */
export interface EncodedRequest {
  /** Ids that are not scored, at least one. */
  readonly context: Int32Array<ArrayBuffer>;
  /** Ids that are scored, at least one. */
  readonly continuation: Int32Array<ArrayBuffer>;
}

/** An item in tokens. */
export interface EncodedItem {
  /** The item. */
  readonly item: Item;
  /** Its requests, in their order. */
  readonly requests: readonly EncodedRequest[];
  /** Tokens at the start of its contexts that are computed for all items with the same; 0 = none. */
  readonly shared: number;
  /** How ids become the text that answers are looked for in, where an item asks for one. */
  readonly decode?: (ids: readonly number[]) => string;
  /** Ids that end such a text. */
  readonly endIds?: ReadonlySet<number>;
}

/** What scoring an item gave: sums over its requests, each counted as a whole sequence. */
export interface ItemScore extends Likelihoods {
  /** Tokens scored, one number a request. */
  readonly tokens: readonly number[];
  /** What the filter did to scored positions. */
  readonly reach: FilterReach;
  /** Attention that was skipped. */
  readonly skips: SkipCounts;
  /** Keys and values that a rule of their own dropped; undefined where there is none. */
  readonly drops?: DropCounts;
  /** Work and memory; bytes are those of each request's cache at its end. */
  readonly usage: SequenceUsage;
}

/**
 * A request's ids as lm-evaluation-harness makes them: the continuation is what the whole text has beyond as many tokens
 * as the context alone, spaces at a context's end belong to it, and of a sequence that is too long the start is cut off.
 *
 * @param most Tokens that the model may be fed, the last token of a sequence not among them.
 * @throws {RangeError} If the continuation has no token of its own, or more than `most`.
 */
export function encodeRequest(
  tokenizer: Pick<Tokenizer, "encode" | "bosId">,
  { context, continuation }: ItemRequest,
  most = Infinity,
): EncodedRequest {
  const stem = context.trimEnd();
  const whole = tokenizer.encode(stem + context.slice(stem.length) + continuation);
  let before = tokenizer.encode(stem);
  const scored = whole.slice(before.length);
  if (before.length === 0) {
    if (tokenizer.bosId === undefined) throw new RangeError("found an empty context, expected a text");
    before = Int32Array.of(tokenizer.bosId);
  }
  if (scored.length === 0 || scored.length > most) {
    const found = `found ${scored.length} tokens for ${JSON.stringify(continuation)}`;
    throw new RangeError(`${found}, expected at least one${most === Infinity ? "" : ` and at most ${most}`}`);
  }
  const cut = Math.max(before.length + scored.length - 1 - most, 0);
  return { context: before.slice(cut), continuation: scored };
}

/**
 * An item's ids.
 *
 * @param most As {@linkcode encodeRequest} has it.
 * @throws {RangeError} As {@linkcode encodeRequest}; the message names file and line.
 */
export function encodeItem(
  tokenizer: Pick<Tokenizer, "encode" | "bosId"> & Partial<Pick<Tokenizer, "decode" | "endIds">>,
  item: Item,
  most = Infinity,
): EncodedItem {
  try {
    const { sought } = item, left = most - (sought?.maxTokens ?? 0);
    const requests = item.requests.map((request) => encodeRequest(tokenizer, request, left));
    const start = item.shared === undefined ? [] : tokenizer.encode(item.shared);
    const common = requests.map(({ context }) => {
      const end = context.findIndex((id, i) => id !== start[i]);
      return Math.min(end < 0 ? context.length : end, context.length - 1);
    });
    const decode = (ids: readonly number[]) => tokenizer.decode!(Int32Array.from(ids));
    return {
      ...{ item, requests, shared: Math.min(...common) },
      ...(sought && { decode, endIds: tokenizer.endIds! }),
    };
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new RangeError(`Cannot score ${item.place}: ${error.message}`);
  }
}

/** The end of a context: a sequence that has seen it, and the hidden state of its last token, [1, hiddenSize] f32. */
interface Stem {
  readonly sequence: BranchingSequence;
  readonly last: HostTensor;
}

/** What is counted of a sequence. */
type Counted = Pick<ItemScore, "reach" | "skips" | "drops" | "usage">;

/** What scoring one request gave. */
interface BranchScore extends Counted {
  readonly logLikelihood: number;
  readonly greedy: boolean;
}

/** A text that went on. */
interface Generated extends Counted {
  readonly text: string;
  readonly ids: readonly number[];
}

/** A sequence that has seen the shared start of contexts. */
interface SharedStart {
  readonly key: string;
  readonly pruner: Pruner | undefined;
  readonly sequence: BranchingSequence;
}

/**
 * Scores items with one method. It keeps the sequence of the last shared start; dispose of it in the end.
 *
 * @example
 * ```ts
 * import { loadModel, ReferenceBackend } from "@tokenfilter/tokenfilter";
 * import { encodeItem, ItemScorer, piqa, readItemRows } from "@tokenfilter/tokenfilter/eval";
 * const { model, tokenizer } = await loadModel("tiny", new ReferenceBackend());
 * const line = '{"id": "1", "query": "To dry hair:", "choices": ["use a towel.", "use a spoon."], "gold": 0}';
 * const [item] = piqa.read(readItemRows("piqa.jsonl", line));
 * using scorer = new ItemScorer(model);
 * const { logLikelihoods } = scorer.score(encodeItem(tokenizer, item!));
 * console.assert(logLikelihoods.length === 2 && logLikelihoods.every((sum) => sum < 0));
 * ```
 */
export class ItemScorer implements Disposable {
  readonly #model: BranchingModel;
  readonly #prunerFor: (contextTokens: number) => Pruner | undefined;
  #start: SharedStart | undefined;

  /**
   * Prepares to score; nothing is computed yet.
   *
   * @param prunerFor The method for a context of so many tokens; default: dense. One object for one method.
   */
  constructor(
    model: BranchingModel,
    prunerFor: (contextTokens: number) => Pruner | undefined = () => undefined,
  ) {
    this.#model = model;
    this.#prunerFor = prunerFor;
  }

  /** Scores an item. @throws {RangeError} If a log-likelihood is not finite: the model's weights are broken. */
  score(encoded: EncodedItem): ItemScore {
    const { item, requests } = encoded;
    const contexts = Map.groupBy(requests.keys(), (i) => requests[i]!.context.join());
    const scores: BranchScore[] = [];
    let generated: Generated | undefined;
    for (const indices of contexts.values()) {
      const { context } = requests[indices[0]!]!, pruner = this.#prunerFor(context.length);
      const ahead = pruner !== undefined &&
        (pruner.looksAhead !== "nothing" || pruner.keySide?.looksAhead === true);
      const stem = ahead ? undefined : this.#stemOf(context, encoded, pruner);
      for (const i of indices) {
        scores[i] = this.#scoreBranch(requests[i]!, pruner, item.stream, stem);
        if (Number.isFinite(scores[i].logLikelihood)) continue;
        throw new RangeError(
          `Cannot score ${item.place}: found a log-likelihood of ${
            scores[i].logLikelihood
          }, expected a finite one`,
        );
      }
      if (item.sought !== undefined && indices.includes(0)) generated = this.#goOn(encoded, pruner, stem);
      stem?.sequence.free?.();
    }
    const counted: readonly Counted[] = generated === undefined ? scores : [...scores, generated];
    const drops = counted.map(({ drops }) => drops).filter((found) => found !== undefined);
    return {
      logLikelihoods: scores.map(({ logLikelihood }) => logLikelihood),
      greedy: scores.map(({ greedy }) => greedy),
      ...(generated && { generated: generated.text, generatedIds: generated.ids }),
      tokens: requests.map(({ continuation }) => continuation.length),
      reach: addReach(counted.map(({ reach }) => reach)),
      skips: addSkips(counted.map(({ skips }) => skips)),
      ...(drops.length > 0 && { drops: addDrops(drops) }),
      usage: addUsage(counted.map(({ usage }) => usage)),
    };
  }

  /** Frees the sequence of the last shared start. */
  [Symbol.dispose](): void {
    this.#start?.sequence.free?.();
    this.#start = undefined;
  }

  /** Feeds a context, in two pieces where it has a shared start, whether that is at hand or not. */
  #stemOf(context: Int32Array<ArrayBuffer>, { item, shared }: EncodedItem, pruner: Pruner | undefined): Stem {
    let sequence: BranchingSequence;
    if (shared === 0) sequence = this.#model.start(pruner, { chunk: item.stream });
    else {
      const key = `${item.stream} ${context.subarray(0, shared)}`;
      if (this.#start?.key !== key || this.#start.pruner !== pruner) {
        this[Symbol.dispose]();
        const start = this.#model.start(pruner, { chunk: item.stream });
        this.#model.backend.free(start.feed(context.slice(0, shared)));
        this.#start = { key, pruner, sequence: start };
      }
      sequence = this.#start.sequence.fork();
    }
    return { sequence, last: this.#feed(sequence, context.slice(shared), 1) };
  }

  /** Feeds ids, and gives the last rows of hidden states, on the host. */
  #feed(sequence: BranchingSequence, ids: Int32Array<ArrayBuffer>, rows: number): HostTensor {
    const hidden = sequence.feed(ids), { length } = ids;
    const last = rowsOf(this.#model.backend.read(hidden), length - rows, length);
    const copy = hostTensor("f32", last.shape, last.data.slice());
    this.#model.backend.free(hidden);
    return copy;
  }

  #scoreBranch(
    { context, continuation }: EncodedRequest,
    pruner: Pruner | undefined,
    stream: number,
    stem?: Stem,
  ): BranchScore {
    const { backend } = this.#model;
    const fed = continuation.slice(0, -1), length = context.length + fed.length;
    let sequence: BranchingSequence, states: HostTensor;
    if (stem === undefined) {
      sequence = this.#model.start(pruner, { chunk: stream });
      states = this.#feed(sequence, Int32Array.of(...context, ...fed), continuation.length);
    } else if (fed.length === 0) {
      ({ sequence, last: states } = stem);
    } else {
      sequence = stem.sequence.fork();
      states = below(stem.last, this.#feed(sequence, fed, fed.length));
    }
    const uploaded = backend.upload(states);
    const ids = Int32Array.of(context.at(-1)!, ...continuation);
    const { nll, greedy } = scoreNextTokens(this.#model, ids, uploaded);
    if (uploaded !== states) backend.free(uploaded);
    const result = {
      logLikelihood: -nll.reduce((sum, loss) => sum + loss, 0),
      greedy: greedy.every((isLikeliest) => isLikeliest === 1),
      ...this.#count(sequence, pruner, context.length - 1, length),
    };
    if (sequence !== stem?.sequence) sequence.free?.();
    return result;
  }

  /** Goes on from the first context, greedily. @throws {RangeError} If the method looks ahead. */
  #goOn({ item, requests, decode, endIds }: EncodedItem, pruner: Pruner | undefined, stem?: Stem): Generated {
    if (stem === undefined) {
      throw new RangeError(
        `Cannot score ${item.place}: it asks for a text, which a method that looks ahead cannot make`,
      );
    }
    const sequence = stem.sequence.fork(), { length } = requests[0]!.context, ids: number[] = [];
    let { last } = stem;
    while (ids.length < item.sought!.maxTokens) {
      const id = likeliestToken(this.#model, last);
      if (endIds!.has(id)) break;
      ids.push(id);
      if (ids.length < item.sought!.maxTokens) last = this.#feed(sequence, Int32Array.of(id), 1);
    }
    const fed = Math.min(ids.length, item.sought!.maxTokens - 1);
    const counted = this.#count(sequence, pruner, length - 1, length + fed);
    sequence.free?.();
    return { text: decode!(ids), ids, ...counted };
  }

  /** Counts what a method did to a sequence, and to its scored positions, [from, length). */
  #count(sequence: BranchingSequence, pruner: Pruner | undefined, from: number, length: number): Counted {
    const { keep, kvKeep = new Map<number, Uint8Array>() } = sequence;
    const { config } = this.#model, side = pruner?.keySide, { numLayers } = config;
    return {
      reach: reachOf(config, pruner ?? DENSE, { keep, kvKeep }, from, length),
      skips: tallySkips(numLayers, pruner?.warmup ?? 0, [{ length, keep }]),
      ...(side && { drops: tallyDrops(numLayers, side, [{ length, kvKeep }]) }),
      usage: sequence.usage(),
    };
  }
}

const DENSE = { recent: 0, cacheSkipped: false } as const;

/** Rows with others below them. */
function below(first: HostTensor, rest: HostTensor): HostTensor {
  const rows = resizedRows(first, first.shape[0]! + rest.shape[0]!);
  rows.data.set(rest.data as Float32Array, first.data.length);
  return rows;
}

const total = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);
const totals = (lists: readonly (readonly number[])[]) =>
  lists[0]!.map((_, i) => total(lists.map((list) => list[i]!)));

/** Sums of counts. */
export function addSkips(all: readonly SkipCounts[]): SkipCounts {
  const sum = (key: "tokens" | "decided" | "early") => total(all.map((counts) => counts[key]));
  return {
    tokens: sum("tokens"),
    decided: sum("decided"),
    skippedPerLayer: totals(all.map(({ skippedPerLayer }) => skippedPerLayer)),
    early: sum("early"),
  };
}

/** Sums of counts. */
export function addDrops(all: readonly DropCounts[]): DropCounts {
  return {
    judged: total(all.map(({ judged }) => judged)),
    droppedPerLayer: totals(all.map(({ droppedPerLayer }) => droppedPerLayer)),
  };
}

/** Sums of usages. */
export function addUsage(all: readonly SequenceUsage[]): SequenceUsage {
  const keys = Object.keys(all[0]!) as (keyof SequenceUsage)[];
  return Object.fromEntries(keys.map((key) => [key, total(all.map((usage) => usage[key]))])) as Record<
    keyof SequenceUsage,
    number
  >;
}
