/**
 * Log-likelihoods of an item's continuations. A context is computed once; its continuations branch from it, with cache
 * and filter state forked. So no choice attends to another, and no item depends on those before it.
 */
import type { Pruner } from "../../methods/protocol/pruner.ts";
import type { SequenceUsage } from "../../model/run/usage.ts";
import { f32Data, type HostTensor, hostTensor, type Tensor } from "../../tensor.ts";
import { checkScorable, type EncodedItem, type EncodedRequest } from "./encoded_item.ts";
import { type FilterReach, reachOf } from "../filter_reach.ts";
import type { Likelihoods } from "./item_metrics.ts";
import type { BranchingFeed, BranchingModel, BranchingSequence } from "../language_model.ts";
import { likeliestTokens, scoreNextTokens } from "../next_token.ts";
import { addCounts, type DropCounts, type SkipCounts, tallyDrops, tallySkips } from "../skip_ratio.ts";

/** @internal Results of scoring an item: sums over its requests, each counted as a whole sequence. */
export interface ItemScore extends Likelihoods {
  /** Effects of the filter on scored positions. */
  readonly reach: FilterReach;
  readonly skips: SkipCounts;
  /** Keys and values that a rule of their own dropped; undefined where there is none. */
  readonly drops?: DropCounts;
  /** Work and memory; bytes are those of each request's cache at its end. */
  readonly usage: SequenceUsage;
}

type Counted = Pick<ItemScore, "reach" | "skips" | "drops" | "usage">;

/** A sequence that has seen the shared start of contexts. */
interface SharedStart {
  readonly key: string;
  readonly pruner: Pruner | undefined;
  readonly sequence: BranchingSequence;
}

/** One context of an item with one method: a sequence that has seen it. */
interface Stem {
  readonly scorer: number;
  readonly pruner: Pruner | undefined;
  readonly indices: readonly number[];
  readonly context: Int32Array<ArrayBuffer>;
  /** Undefined where the method is non-causal: each request is then a whole sequence. */
  readonly sequence: BranchingSequence | undefined;
}

interface Branch {
  readonly stem: Stem;
  readonly request: number;
  readonly sequence: BranchingSequence;
  /** Hidden states before each scored token, a row each. */
  readonly states: Float32Array[];
}

/** Tokens of contexts that are computed at once: more gain nothing, and all their caches are held. */
const TOKENS_TOGETHER = 1024;

/**
 * Scores items with one method. It keeps the sequence of the last shared start; dispose of it in the end.
 *
 * @example
 * ```ts
 * import { loadModel, ReferenceBackend } from "@tokenfilter/tokenfilter";
 * import { encodeItem, findTask, ItemScorer, readItems } from "@tokenfilter/tokenfilter/eval";
 * const { model, tokenizer, config } = await loadModel("tiny", new ReferenceBackend());
 * const line = '{"id": "1", "query": "To dry hair:", "choices": ["use a towel.", "use a spoon."], "gold": 0}';
 * const source = findTask("piqa").items!;
 * const { items: [item] } = readItems("piqa", source, { name: "piqa.jsonl", text: line }, { tokenizer, config });
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
   * @param prunerFor The method for a context of that many tokens; default: dense. One object for one method.
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
    return ItemScorer.scoreTogether([this], encoded)[0]!;
  }

  /**
   * Scores an item with several methods at once. Results equal those of separate calls up to rounding; weights are read
   * once.
   *
   * @param scorers Scorers of one model.
   * @returns The results of each scorer, in their order.
   * @throws {RangeError} As {@linkcode ItemScorer.score}.
   */
  static scoreTogether(scorers: readonly ItemScorer[], encoded: EncodedItem): ItemScore[] {
    const contexts = new Set(encoded.requests.map(({ context }) => context.join()));
    const tokens = encoded.requests[0]!.context.length * contexts.size;
    const each = Math.max(1, Math.floor(TOKENS_TOGETHER / tokens)), scores: ItemScore[] = [];
    for (let at = 0; at < scorers.length; at += each) {
      const some = scorers.slice(at, at + each);
      const stems = some.flatMap((scorer, i) => scorer.#stemsOf(encoded, i));
      scores.push(...scoreStems(some[0]!.#model, stems, some.length, encoded));
    }
    return scores;
  }

  /** The stems of an item, not yet fed beyond a shared start. */
  #stemsOf({ item, requests, shared }: EncodedItem, scorer: number): Stem[] {
    const contexts = Map.groupBy(requests.keys(), (i) => requests[i]!.context.join());
    return Array.from(contexts.values(), (indices) => {
      const { context } = requests[indices[0]!]!, pruner = this.#prunerFor(context.length);
      const ahead = pruner !== undefined && checkScorable(item, pruner);
      const sequence = ahead ? undefined : this.#begin(context.slice(0, shared), item.stream, pruner);
      return { scorer, pruner, indices, context, sequence };
    });
  }

  /** A sequence that has seen the shared start of contexts, whether that is at hand or not. */
  #begin(shared: Int32Array<ArrayBuffer>, stream: number, pruner: Pruner | undefined): BranchingSequence {
    if (shared.length === 0) return this.#model.start(pruner, { chunk: stream });
    const key = `${stream} ${shared}`;
    if (this.#start?.key !== key || this.#start.pruner !== pruner) {
      this[Symbol.dispose]();
      const sequence = this.#model.start(pruner, { chunk: stream });
      this.#model.backend.free(sequence.feed(shared));
      this.#start = { key, pruner, sequence };
    }
    return this.#start.sequence.fork();
  }

  /** Frees the sequence of the last shared start. */
  [Symbol.dispose](): void {
    this.#start?.sequence.free?.();
    this.#start = undefined;
  }
}

/** Results of several scorers for an item, each by stems of its own. */
function scoreStems(
  model: BranchingModel,
  stems: readonly Stem[],
  scorers: number,
  encoded: EncodedItem,
): ItemScore[] {
  const { item, requests, shared } = encoded;
  const begun = stems.filter(({ sequence }) => sequence !== undefined);
  const lasts = feedAll(
    model,
    begun.map(({ sequence, context }) => ({ sequence: sequence!, ids: context.slice(shared) })),
    () => 1,
  );
  const lastOf = new Map(begun.map((stem, i) => [stem, lasts[i]![0]!]));
  const branches = branch(model, encoded, stems, lastOf);
  const scored = scoreBranches(model, requests, branches);
  const texts = item.sought === undefined
    ? []
    : goOn(model, encoded, stems.filter(({ indices }) => indices[0] === 0), lastOf);
  const counted = branches.map(({ sequence, stem, request }) =>
    count(model, sequence, stem.pruner, stem.context.length - 1, lengthOf(requests[request]!))
  );
  for (const sequence of new Set([...branches, ...stems].map(({ sequence }) => sequence))) sequence?.free?.();
  return Array.from({ length: scorers }, (_, scorer) => {
    const own = [...branches.keys()].filter((i) => branches[i]!.stem.scorer === scorer)
      .sort((a, b) => branches[a]!.request - branches[b]!.request);
    const text = texts[scorer], parts: Counted[] = own.map((i) => counted[i]!);
    for (const i of own) {
      const { logLikelihood } = scored[i]!;
      if (Number.isFinite(logLikelihood)) continue;
      throw new RangeError(
        `Cannot score ${item.place}: found a log-likelihood of ${logLikelihood}, expected a finite one`,
      );
    }
    if (text !== undefined) parts.push(text);
    const drops = parts.map(({ drops }) => drops).filter((found) => found !== undefined);
    return {
      logLikelihoods: own.map((i) => scored[i]!.logLikelihood),
      greedy: own.map((i) => scored[i]!.greedy),
      ...(text && { generated: text.text, generatedIds: text.ids }),
      reach: addCounts(parts.map(({ reach }) => reach)),
      skips: addCounts(parts.map(({ skips }) => skips)),
      ...(drops.length > 0 && { drops: addCounts(drops) }),
      usage: addCounts(parts.map(({ usage }) => usage)),
    };
  });
}

const lengthOf = ({ context, continuation }: EncodedRequest) => context.length + continuation.length - 1;

/** Feeds sequences, and gives the last rows of each one's hidden states. */
function feedAll(
  model: BranchingModel,
  feeds: readonly BranchingFeed[],
  rowsOf: (feed: number) => number,
): Float32Array[][] {
  const { backend } = model, out: Float32Array[][] = [];
  const read = (hidden: Tensor, end: number, rows: number) => {
    const [, width] = hidden.shape as [number, number], data = f32Data(backend.read(hidden));
    return Array.from(
      { length: rows },
      (_, i) => data.slice((end - rows + i) * width, (end - rows + i + 1) * width),
    );
  };
  if (feeds.length > 1 && model.feedTogether !== undefined) {
    const hidden = model.feedTogether(feeds);
    let end = 0;
    feeds.forEach(({ ids }, i) => out.push(read(hidden, end += ids.length, rowsOf(i))));
    backend.free(hidden);
    return out;
  }
  feeds.forEach(({ sequence, ids }, i) => {
    const hidden = sequence.feed(ids);
    out.push(read(hidden, ids.length, rowsOf(i)));
    backend.free(hidden);
  });
  return out;
}

/** Feeds every request: as a branch of its context, or whole where the method is non-causal. */
function branch(
  model: BranchingModel,
  { item, requests }: EncodedItem,
  stems: readonly Stem[],
  lastOf: ReadonlyMap<Stem, Float32Array>,
): Branch[] {
  const branches = stems.flatMap((stem) =>
    stem.indices.map((request) => {
      const { context, continuation } = requests[request]!, fed = continuation.slice(0, -1);
      const last = lastOf.get(stem);
      if (last === undefined) {
        const sequence = model.start(stem.pruner, { chunk: item.stream });
        return { stem, request, sequence, ids: Int32Array.of(...context, ...fed), states: [] };
      }
      const sequence = fed.length === 0 ? stem.sequence! : stem.sequence!.fork();
      return { stem, request, sequence, ids: fed, states: [last] };
    })
  );
  const open = branches.filter(({ ids }) => ids.length > 0);
  const missing = (i: number) => requests[open[i]!.request]!.continuation.length - open[i]!.states.length;
  feedAll(model, open, missing).forEach((rows, i) => open[i]!.states.push(...rows));
  return branches;
}

/** Log-likelihoods of all requests, their logits computed together. */
function scoreBranches(
  model: BranchingModel,
  requests: readonly EncodedRequest[],
  branches: readonly Branch[],
): { readonly logLikelihood: number; readonly greedy: boolean }[] {
  const states = branches.flatMap((own) => own.states);
  const targets = branches.flatMap(({ request }) => [...requests[request]!.continuation]);
  const uploaded = model.backend.upload(asRows(states));
  const { nll, greedy } = scoreNextTokens(model, Int32Array.of(0, ...targets), uploaded);
  model.backend.free(uploaded);
  let end = 0;
  return branches.map(({ states: { length } }) => {
    const start = end;
    end += length;
    return {
      logLikelihood: -nll.subarray(start, end).reduce((sum, loss) => sum + loss, 0),
      greedy: greedy.subarray(start, end).every((isLikeliest) => isLikeliest === 1),
    };
  });
}

/** Goes on from the first context of each stem, greedily, all of them step by step. */
function goOn(
  model: BranchingModel,
  { item, decode, endIds }: EncodedItem,
  stems: readonly Stem[],
  lastOf: ReadonlyMap<Stem, Float32Array>,
): (Counted & { readonly text: string; readonly ids: readonly number[] })[] {
  const { maxTokens, until = [] } = item.sought!;
  const endsText = (ids: readonly number[]) => until.length > 0 && firstOf(decode!(ids), until) < Infinity;
  const runs = stems.map((stem) => ({
    ...{ stem, sequence: stem.sequence!.fork(), last: lastOf.get(stem)! },
    ...{ ids: [] as number[], fed: 0, isOver: false },
  }));
  for (let made = 1; made <= maxTokens && runs.some(({ isOver }) => !isOver); made++) {
    const open = runs.filter(({ isOver }) => !isOver);
    likeliestTokens(model, asRows(open.map(({ last }) => last))).forEach((id, i) => {
      const run = open[i]!, isEnd = endIds!.has(id);
      if (!isEnd) run.ids.push(id);
      run.isOver = isEnd || endsText(run.ids);
    });
    if (made === maxTokens) break;
    const left = open.filter(({ isOver }) => !isOver);
    const feeds = left.map(({ sequence, ids }) => ({ sequence, ids: Int32Array.of(ids.at(-1)!) }));
    feedAll(model, feeds, () => 1).forEach(([last], i) => {
      left[i]!.last = last!;
      left[i]!.fed++;
    });
  }
  return runs.map(({ stem, sequence, ids, fed }) => {
    const { length } = stem.context, text = decode!(ids);
    const counted = count(model, sequence, stem.pruner, length - 1, length + fed);
    sequence.free?.();
    return { text: text.slice(0, firstOf(text, until)), ids, ...counted };
  });
}

/** Where the first of some parts of a text begins; Infinity where there is none. */
function firstOf(text: string, parts: readonly string[]): number {
  return Math.min(...parts.map((part) => text.indexOf(part)).filter((at) => at >= 0));
}

/** Counts the effects of a method on a sequence, and on its scored positions, [from, length). */
function count(
  { config }: BranchingModel,
  sequence: BranchingSequence,
  pruner: Pruner | undefined,
  from: number,
  length: number,
): Counted {
  const { keep, kvKeep = new Map<number, Uint8Array>() } = sequence;
  const { numLayers } = config;
  return {
    reach: reachOf(config, pruner ?? DENSE, sequence, from, length),
    skips: tallySkips(numLayers, pruner?.spans.warmup ?? 0, [{ length, keep }]),
    ...(pruner?.keySide &&
      { drops: tallyDrops(numLayers, pruner.spans, [{ length, kvKeep }], pruner.keySide.heads) }),
    usage: sequence.usage(),
  };
}

const DENSE: Pick<Pruner, "spans" | "skipped"> = {
  spans: { warmup: 0, block: 1, recent: 0 },
  skipped: { cached: false },
};

function asRows(rows: readonly Float32Array[]): HostTensor {
  const width = rows[0]!.length, data = new Float32Array(rows.length * width);
  rows.forEach((row, i) => data.set(row, i * width));
  return hostTensor("f32", [rows.length, width], data);
}
