/** Attention of one layer for the next tokens of a sequence: decides them, caches them, computes those that are kept. */
import type { AttentionArgs, Backend } from "../../backend.ts";
import type { CacheDType } from "../../dtype.ts";
import type { LayerView, Need, Pruner, SideSequence } from "../../methods/protocol/pruner.ts";
import type { LayerAsk } from "../../methods/protocol/signals.ts";
import type { TokenIds } from "../../filter/layer.ts";
import type { Tensor } from "../../tensor.ts";
import { layerConfig, type ModelConfig } from "../config/config.ts";
import {
  type Addend,
  asMatrix,
  type ForwardPass,
  type LayerNeeds,
  type LayerRows,
  type RunModel,
} from "./forward_pass.ts";
import { HeadCaches, type HeadGroup } from "./cache/head_caches.ts";
import { type EndingRow, endsOf, type KeyJudge } from "./key_judge.ts";
import { type CachedRows, LayerCache } from "./cache/kv_cache.ts";
import { OutputMemory } from "./cache/output_memory.ts";
import { indicesOf, pickRows, range, type Rows } from "./cache/row_indices.ts";
import { attendShowing, headWeights, meanProbabilities, rowSignals } from "./signals.ts";
import { type Piece, type QueryRows, strategyOf, type SubstituteStrategy } from "./substitutes.ts";
import { LayerTally } from "./usage.ts";

/** State of one layer of a sequence: its cache, its decisions, and the counts that costs follow from. */
export interface LayerRecord {
  /** Keys and values; where not all KV heads have the same rows, those of the heads that evict, or of the first of them. */
  cache: LayerCache;
  /** All caches where not all KV heads have the same rows. */
  heads?: HeadCaches;
  keep: Uint8Array<ArrayBuffer>[];
  tally: LayerTally;
  /** Memory of the substitute, if it comes from computed outputs. */
  outputs?: OutputMemory | undefined;
}

export function openRecord(
  { backend, config }: RunModel,
  pruner: Pruner | undefined,
  layer: number,
  cacheDType: CacheDType,
): LayerRecord {
  const { numKvHeads, headDim, hiddenSize, window } = { ...config, ...layerConfig(config, layer) };
  const parts = pruner?.keySide?.heads?.get(layer);
  const open = (heads: number) =>
    new LayerCache(backend, cacheDType, heads * headDim, pruner?.spans.recent ?? 0);
  const heads = parts && HeadCaches.open(parts, open);
  const { kind, block } = (pruner?.layers.includes(layer) ? pruner.skipped.substitute : undefined) ?? {};
  const outputs = kind === "mean" || kind === "last"
    ? new OutputMemory(kind, { warmup: pruner!.spans.warmup, block: block! }, hiddenSize)
    : undefined;
  const tally = new LayerTally(pruner, window, parts);
  const cache = heads?.evicting ?? open(numKvHeads);
  return { cache, keep: [], tally, ...(heads && { heads }), ...(outputs && { outputs }) };
}

export function cachesOf({ cache, heads }: LayerRecord): LayerCache[] {
  return heads?.groups.map((group) => group.cache) ?? [cache];
}

export function forkRecord({ cache, heads: own, keep, tally, outputs }: LayerRecord): LayerRecord {
  const heads = own?.fork(), copies = { tally: tally.clone(), outputs: outputs?.clone() };
  return { cache: heads?.evicting ?? cache.fork(), ...(heads && { heads }), keep: [...keep], ...copies };
}

export interface LayerFeed {
  readonly model: RunModel;
  /** Where the sequence has its scratch. */
  readonly pass: ForwardPass;
  readonly pruner: Pruner | undefined;
  readonly decider: SideSequence | undefined;
  /** Decides the layer's keys and values, if anything does. */
  readonly judge: KeyJudge | undefined;
  /** What the key side reads of the layer beyond a view, and who takes it. */
  readonly asked: { readonly by: KeyJudge; readonly ask: LayerAsk } | undefined;
  readonly record: LayerRecord;
  /** Tokens of the sequence before the rows that are being fed. */
  readonly length: number;
  /** Ids of the rows, where they are known. */
  readonly tokens: TokenIds | undefined;
}

/** Tensors that a layer's attention needs of its tokens, for either side of a method that touches it. */
export function needsOf(pruner: Pruner | undefined, layer: number): LayerNeeds {
  const own = pruner?.layers.includes(layer) ? pruner : undefined;
  const side = pruner?.keySide?.layers.includes(layer) ? pruner.keySide : undefined;
  const asks = (need: Need, of: Pick<Pruner, "needs"> | undefined) => of?.needs.includes(need) === true;
  const computesAll = own === undefined || own.skipped.substitute?.kind === "local";
  return {
    preRopeKeys: asks("pre-rope keys", own) || asks("pre-rope keys", side),
    queries: pruner?.keySide?.asks?.get(layer)?.rows.includes("queries") || computesAll ||
      asks("queries", own) || asks("future outputs", own),
  };
}

/** Passes signals of rows of a layer to the key side, where it reads them and they follow from `known`. */
export function showRows(
  { asked, length: first, model }: Pick<LayerFeed, "asked" | "length" | "model">,
  layer: number,
  count: number,
  known: Parameters<typeof rowSignals>[1],
): void {
  if (asked === undefined) return;
  for (const rows of rowSignals(model.backend, known, asked.ask.rows)) {
    asked.by.show(layer, { ...rows, first, count });
  }
}

/** Attention of a layer, once: for the rows that a pass has projected. */
export class LayerAttention {
  readonly #substitutes: SubstituteStrategy;
  /** Input of the query side. */
  #shown: LayerView | undefined;
  /** Norms of the residual stream before the attention, once they were requested. */
  #norms: Float64Array<ArrayBuffer> | undefined;
  private readonly feed: LayerFeed;
  private readonly rows: LayerRows;
  private readonly pass: ForwardPass;

  /** @param pass computes the kept rows: the sequence's own, or that of several sequences */
  constructor(feed: LayerFeed, rows: LayerRows, pass: ForwardPass) {
    this.feed = feed;
    this.rows = rows;
    this.pass = pass;
    const { decider, pruner, record: { outputs } } = feed;
    const substitute = decider && pruner!.skipped.substitute;
    this.#substitutes = strategyOf(substitute, pruner?.spans.recent ?? 0, outputs);
  }

  /** Decides and attends, piece by piece as the method decides; as {@linkcode Tokens.attend} has it. */
  run(): Addend | undefined {
    const { decider, judge, pruner, length, record } = this.feed, count = this.#total;
    const side = judge && pruner!.keySide!, inBlocks = side?.at === "block" || side?.at === "pass";
    this.#showRows();
    if (side !== undefined) judge!.take(this.#view(side.needs));
    // Where only keys and values decide, evictions in these rows are known before their attention: one call suffices.
    const ending = side === undefined || inBlocks ? [] : this.#judge(length + count, length);
    let after: Addend | undefined;
    for (let start = 0; start < count;) {
      const keep = this.#decide(start), first = length + start, end = first + keep.length;
      const cuts = inBlocks ? judge!.starts(first, end) : [];
      // Where every output is added, those of all pieces are projected at once.
      const attended = decider === undefined && cuts.length > 0
        ? this.pass.scratch("attended pieces", this.rows.queries!.shape)
        : undefined;
      const whole = attended && record.heads?.groups.find(({ unit }) => unit === undefined);
      if (whole !== undefined) this.#attendWhole(whole, keep, attended!);
      for (const [i, from] of [first, ...cuts].entries()) {
        if (inBlocks) this.#judge(from + 1, from);
        const own = keep.subarray(from - first, (cuts[i] ?? end) - first);
        after = this.#attendPiece(from - length, own, ending, attended, whole);
      }
      if (attended !== undefined) after = { delta: this.pass.output(this.rows.layer, attended) };
      start += keep.length;
    }
    record.cache.drop(ending.map(({ position }) => position));
    return after;
  }

  /** Passes signals of the rows themselves to the key side, where it reads them. */
  #showRows(): void {
    showRows(this.feed, this.rows.layer, this.#total, this.rows);
  }

  get #total(): number {
    return this.rows.residual.shape[0]!;
  }

  #view(needs: readonly Need[]): LayerView {
    const { layer, filterKeys, keys, values, residual, normed, queries } = this.rows;
    return {
      layer,
      count: this.#total,
      keys: needs.includes("pre-rope keys") ? filterKeys : keys,
      values,
      residual,
      normed,
      tokens: this.feed.tokens,
      ...(needs.includes("queries") && { queries: queries! }),
      ...(needs.includes("future outputs") && { futureOutputs: this.#futureOutputs() }),
      ...(needs.includes("future attention") && { futureAttention: this.#futureAttention() }),
    };
  }

  /**
   * Decisions for rows from `start` on, at least for that one: 1 where attention is computed, 0 where it is skipped.
   */
  #decide(start: number): Uint8Array<ArrayBuffer> {
    const { decider, pruner, record } = this.feed;
    if (decider === undefined) return new Uint8Array(this.#total).fill(1);
    const keep = decider.decide(this.#shown ??= this.#view(pruner!.needs), start).keep!;
    record.keep.push(keep.slice());
    return keep;
  }

  /**
   * Decides keys and values at all block starts below `end`. Drops those that no query from `next` on attends to, and
   * returns the other evicted ones.
   */
  #judge(end: number, next: number): EndingRow[] {
    const { judge, record: { cache, tally, heads } } = this.feed;
    const { gone, values } = judge!.judge(this.rows.layer, end);
    values.forEach((value, position) => cache.setValue(position, heads?.withoutWhole(value) ?? value));
    tally.drop(gone.map((row) => row.end).sort((a, b) => a - b));
    const now = gone.filter((row) => row.end <= next);
    if (heads === undefined) cache.drop(now.map(({ position }) => position));
    else heads.drop(now);
    return gone.filter((row) => row.end > next);
  }

  /**
   * Caches a piece's rows, computes the attention of those that are kept, and adds outputs.
   *
   * @param attended Takes the outputs of heads at the piece's rows, where they are projected later; [T, numHeads * headDim]
   * @param done Heads whose part is done.
   */
  #attendPiece(
    start: number,
    keep: Uint8Array<ArrayBuffer>,
    ending: readonly EndingRow[],
    attended?: Tensor,
    done?: HeadGroup,
  ): Addend | undefined {
    const { decider, length: first, record, pass } = this.feed, { layer, residual } = this.rows;
    const piece: Piece = { start, keep, kept: indicesOf(keep, 1, start), first };
    const groups = record.heads?.groups.filter((group) => group !== done);
    const seen = this.#cacheRows(piece, ending, groups);
    record.tally.take(keep);
    const queries = this.#substitutes.select(piece, this.#observes);
    // Outcomes are those of the residual stream before it changes.
    const residualNorms = this.#observes && piece.kept.length > 0
      ? this.#residualNorms(piece.kept)
      : undefined;
    if (attended !== undefined) {
      this.pass.attended = this.#backend.rows(attended, start, keep.length);
      this.#attendQueries(piece, queries, seen, groups);
      this.pass.attended = undefined;
      return undefined;
    }
    const output = queries.rows.length > 0 ? this.#attendQueries(piece, queries, seen, groups) : undefined;
    const stream = { backend: this.#backend, pass, residual };
    const outcome = this.#substitutes.settle(stream, piece, queries, output);
    if (residualNorms !== undefined) {
      decider!.observe!(layer, { outputNorms: outcome.norms(), residualNorms });
    }
    return outcome.add();
  }

  /** Caches all rows and attends, for heads that keep everything: no decision changes what these see. */
  #attendWhole(group: HeadGroup, keep: Uint8Array<ArrayBuffer>, attended: Tensor): void {
    const rows = range(0, this.#total),
      piece: Piece = { start: 0, keep, kept: rows, first: this.feed.length };
    this.#cacheHeads([group], rows);
    const seen = { kept: group.cache.kept, skipped: group.cache.recent, recent: 0, ending: [] };
    this.pass.attended = attended;
    this.#attendQueries(piece, this.#substitutes.select(piece, false), seen, [group]);
    this.pass.attended = undefined;
  }

  /**
   * Outputs of the attention of queries over the layer's cache, [R, hiddenSize] f32.
   *
   * @param groups KV heads that are attended to, where not all have the same rows.
   */
  #attendQueries(
    piece: Piece,
    { rows, full, compared, limits }: QueryRows,
    seen: SeenRows,
    groups?: readonly HeadGroup[],
  ): Tensor {
    const { pass, model, record: { heads } } = this.feed, { layer } = this.rows;
    const isWhole = rows.length === this.#total && compared.length === 0;
    const positions = isWhole ? this.rows.positions : pass.i32(this.#positionsOf(rows));
    const local = limits && { windows: pass.i32(limits.windows), sinks: limits.sinks };
    return this.pass.attendRows(this.rows, {
      positions,
      select: (name, x) => pass.rowsOf(name, x, rows),
      attend: (queries, out, scale) => {
        const argsOf = (seen: SeenRows): AttentionArgs => ({
          ...attentionArgs(pass, model.config, layer, seen, {
            queries,
            queryPositions: positions,
            out,
            scale,
          }),
          ...local,
        });
        if (heads === undefined) return this.#attendShowing(argsOf(seen), piece.kept, full);
        for (const group of groups!) {
          const { unit, cache: { kept, recent: skipped } } = group;
          const ending = unit === undefined ? [] : seen.ending, kvPlaces = heads.placesOf(pass, group);
          const args = { ...argsOf({ ...seen, kept, skipped, ending }), kvPlaces };
          if (unit === undefined) this.#backend.attention(args);
          else this.#attendShowing(args, piece.kept, full, group);
        }
      },
    });
  }

  get #backend(): Backend {
    return this.feed.model.backend;
  }

  #positionsOf(rows: Rows): Int32Array<ArrayBuffer> {
    const positions = new Int32Array(rows.length), { length } = this.feed; // map() takes several times as long
    for (let i = 0; i < rows.length; i++) positions[i] = rows[i]! + length;
    return positions;
  }

  /** Whether the method is to be given the layer's outputs now. */
  get #observes(): boolean {
    const { decider, pruner, length } = this.feed;
    if (decider === undefined) return false;
    const { needs, spans: { warmup } } = pruner!;
    return needs.includes("outputs") || needs.includes("warm-up outputs") && length < warmup;
  }

  /** Norms of the residual stream before the attention, of rows that nothing was added to. */
  #residualNorms(rows: Rows): Float64Array<ArrayBuffer> {
    return pickRows(this.#norms ??= this.#backend.rowNorms(this.rows.residual), rows, 1);
  }

  /** Caches a piece's rows; returns the rows that their queries attend to. */
  #cacheRows(
    { start, keep }: Piece,
    ending: readonly EndingRow[],
    groups: readonly HeadGroup[] | undefined,
  ): SeenRows {
    const { judge, length, pass, pruner, record: { cache } } = this.feed, total = this.#total;
    const keys = asMatrix(this.rows.keys), values = asMatrix(this.rows.values), width = keys.shape[1]!;
    const cached = pruner?.skipped.cached === true, none = range(0, 0);
    const picked = (some: Rows) => some.length === total ? undefined : pass.i32(some);
    // Where every key stays, those of all rows are cached at once, before the first of them is attended to.
    const atOnce = cached && judge === undefined;
    const whole = start === 0 ? range(0, total) : none;
    const fresh = atOnce ? whole : cached ? range(start, keep.length) : indicesOf(keep, 1, start);
    if (groups !== undefined) this.#cacheHeads(groups, fresh);
    else if (fresh.length > 0) cache.append(keys, values, this.#positionsOf(fresh), picked(fresh));
    const passing = cached ? none : indicesOf(keep, 0, start), next = length + start + keep.length;
    const room = (rows: number, dtype: CacheDType) => ({
      keys: pass.scratch("seenKeys", [rows, width], dtype),
      values: pass.scratch("seenValues", [rows, width], dtype),
    });
    const skipped = cache.appendSkipped(
      keys,
      values,
      this.#positionsOf(passing),
      next,
      room,
      picked(passing),
    );
    const later = atOnce ? total - start - keep.length : 0;
    const kept = { ...cache.kept, count: cache.kept.count - later };
    return { kept, skipped, recent: pruner?.spans.recent ?? 0, ending };
  }

  /** Caches rows of KV heads that do not all have the same ones. */
  #cacheHeads(groups: readonly HeadGroup[], fresh: Rows): void {
    const { pass, record } = this.feed, heads = record.heads!;
    if (fresh.length === 0) return;
    const keys = heads.byHead(asMatrix(this.rows.keys)), values = heads.byHead(asMatrix(this.rows.values));
    for (const { cache, heads: own } of groups) {
      cache.append(keys, values, this.#positionsOf(fresh), pass.i32(heads.rowsOf(fresh, own)));
    }
  }

  /**
   * Attention; passes signals of full queries about keys to the key side, where it reads them.
   *
   * @param kept Rows of the layer's input that these are
   * @param places Their places among the queries
   */
  #attendShowing(
    args: AttentionArgs,
    kept: Rows,
    places: Rows,
    { cache, unit }: Pick<HeadGroup, "cache" | "unit"> = { cache: this.feed.record.cache, unit: undefined },
  ): void {
    const { asked, decider, model, pass } = this.feed, { layer } = this.rows, backend = this.#backend;
    if (asked === undefined || asked.ask.keys.length === 0) return backend.attention(args);
    const { by, ask } = asked, all = this.#positionsOf(kept), read = by.read(all, ask, decider === undefined);
    if (read.length === 0) return backend.attention(args);
    const { numKeys } = args, last = cache.kept.positions[numKeys - 1]!;
    // Each token that is not yet decided has one row, because none of them was evicted.
    const count = ask.undecided ? last + 1 - by.judged(layer) : numKeys;
    const weights = ask.keys.includes("change") ? headWeights(model, layer) : undefined;
    const room = (name: string, shape: readonly number[]) => pass.scratch(name, shape, "f64");
    const { distance } = ask, isAll = read.length === all.length; // `read` ascends
    const queries = isAll ? places : read.map((i) => places[i]!);
    const shown = { signals: ask.keys, queries, keys: count, distance };
    const rows = attendShowing(backend, args, shown, room, weights);
    const positions = isAll ? all : read.map((i) => all[i]!),
      keys = cache.kept.positions.subarray(numKeys - count, numKeys);
    by.observe(layer, { positions, keys, rows, ...(unit !== undefined && { unit }) });
  }

  /** Rows that attend to each other where nothing is skipped or dropped: those of a whole sequence. */
  get #seenWhole(): SeenRows {
    const { keys, values } = this.rows, count = this.#total, positions = this.#positionsOf(range(0, count));
    const kept = { keys: asMatrix(keys), values: asMatrix(values), positions, count };
    return { kept, skipped: { ...kept, count: 0 }, recent: this.feed.pruner!.spans.recent, ending: [] };
  }

  /** Attention that all queries would give to all keys. */
  #futureAttention(): Float64Array {
    const { pass, model: { config } } = this.feed, { layer, queries, positions } = this.rows;
    const { out: _, ...asked } = attentionArgs(pass, config, layer, this.#seenWhole, {
      queries: pass.byHead(queries!),
      queryPositions: positions,
      out: queries!,
      scale: pass.scale,
    });
    return meanProbabilities(this.#backend, asked, 0);
  }

  /** norm(attention output) / norm(residual) of every row, as if all were kept. */
  #futureOutputs(): Float64Array<ArrayBuffer> {
    const { pass, model: { config } } = this.feed, { layer, queries, positions, residual } = this.rows;
    const seen = this.#seenWhole, backend = this.#backend;
    const output = pass.attend(layer, queries!, {
      attend: (queries, out, scale) =>
        backend.attention(
          attentionArgs(pass, config, layer, seen, { queries, queryPositions: positions, out, scale }),
        ),
    });
    const norms = backend.rowNorms(residual);
    return backend.rowNorms(output).map((norm, row) => norm / norms[row]!);
  }
}

interface SeenRows {
  readonly kept: CachedRows;
  /** Rows of the recent window, and for how many tokens they are seen. */
  readonly skipped: CachedRows;
  readonly recent: number;
  /** Which cached rows end before the last query. */
  readonly ending: readonly EndingRow[];
}

/** The op's arguments, in a layer with its own window; all queries are full. */
function attentionArgs(
  pass: ForwardPass,
  config: ModelConfig,
  layer: number,
  { kept, skipped, recent, ending }: SeenRows,
  asked: Pick<AttentionArgs, "queries" | "queryPositions" | "out" | "scale">,
): AttentionArgs {
  const { window } = layerConfig(config, layer), reach = window === undefined ? Infinity : window - 1;
  return {
    ...asked,
    ...(window !== undefined && { windows: pass.i32(new Int32Array(asked.queries.shape[0]!).fill(reach)) }),
    keys: pass.byHead(kept.keys),
    values: pass.byHead(kept.values),
    keyPositions: pass.i32(kept.positions),
    numKeys: kept.count,
    ...(ending.length > 0 && { keyEnds: pass.i32(endsOf(kept.positions, ending)) }),
    recentKeys: pass.byHead(skipped.keys),
    recentValues: pass.byHead(skipped.values),
    recentPositions: pass.i32(skipped.positions),
    numRecent: skipped.count,
    recent: Math.min(recent, reach),
  };
}
