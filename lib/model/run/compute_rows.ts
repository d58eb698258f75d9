/** Attention of a layer's rows that were decided: of the full ones, and what stands for the others. */
import type { AttentionArgs, Backend } from "../../backend.ts";
import type { CacheDType } from "../../dtype.ts";
import { firstOutcome } from "../../filter/outcome.ts";
import type { LayerInput, Pruner, PrunerSequence, Substitute } from "../../methods/pruner.ts";
import { f32Data, hostTensor } from "../../tensor.ts";
import { attentionArgs, narrowArgs, type SeenRows, windowsOf } from "./attention_args.ts";
import { asMatrix, type ForwardPass, type KeptRows, type LayerRows } from "./forward_pass.ts";
import type { EndingRow, KeyJudge } from "./key_judge.ts";
import type { CachedRows, LayerCache } from "./kv_cache.ts";
import type { Model } from "../model.ts";
import type { OutputMemory } from "./output_memory.ts";
import { headWeights } from "./head_weights.ts";
import { attendShowing, meanProbabilities, outputChanges } from "./probabilities.ts";
import { indicesOf, merged, pickNumbers, pickRows, range, type Rows, shifted } from "./row_indices.ts";
import type { LayerTally } from "./usage.ts";

/** What one layer has seen: its cache, its decisions, and the counts that costs follow from. */
export interface LayerRecord {
  cache: LayerCache;
  keep: Uint8Array<ArrayBuffer>[];
  tally: LayerTally;
  /** What stands for skipped outputs, where it comes from computed ones. */
  outputs?: OutputMemory;
}

/** What computing rows of a layer takes. */
export interface LayerFeed {
  readonly model: Model;
  readonly pass: ForwardPass;
  readonly pruner: Pruner | undefined;
  /** Whether the pruner decides the layer's queries. */
  readonly isFiltered: boolean;
  readonly decider: PrunerSequence | undefined;
  /** What judges the layer's keys and values, if anything. */
  readonly judge: KeyJudge | undefined;
  readonly record: LayerRecord;
  /** Tokens of the sequence before the rows that are being fed. */
  readonly length: number;
}

/** Positions of rows. */
const positionsOf = ({ length }: LayerFeed, rows: Rows): Int32Array<ArrayBuffer> => shifted(rows, length);

/** The substitute of a layer, where it is local attention. */
function localOf({ isFiltered, pruner }: LayerFeed): Substitute | undefined {
  return isFiltered && pruner!.substitute?.kind === "local" ? pruner!.substitute : undefined;
}

/** Whether the method is to be given a layer's outputs now. */
function observes({ isFiltered, pruner, length }: LayerFeed): boolean {
  const wanted = isFiltered && pruner!.wantsOutputs;
  return wanted === "warmup" ? length < pruner!.warmup : wanted;
}

/** Whose attention is computed: the decisions on a layer's rows, piece by piece. */
export function* decideQueries(
  feed: LayerFeed,
  rows: LayerRows,
): Generator<{ start: number; keep: Uint8Array<ArrayBuffer> }> {
  const { layer, values, residual, normed, queries } = rows, count = residual.shape[0]!;
  if (!feed.isFiltered) {
    yield { start: 0, keep: new Uint8Array(count).fill(1) };
    return;
  }
  const pruner = feed.pruner!;
  const input: LayerInput = {
    layer,
    count,
    keys: pruner.keyState === "pre-rope" ? rows.filterKeys : rows.keys,
    values,
    residual,
    normed,
    ...(pruner.wantsQueries ? { queries: queries! } : {}),
    ...(pruner.looksAhead === "outputs" ? { trueRedundancy: trueRedundancy(feed, rows) } : {}),
  };
  for (let start = 0; start < count;) {
    const { taken, keep } = feed.decider!.decide(input, start);
    feed.record.keep.push(keep.slice(0, taken));
    yield { start, keep: keep.subarray(0, taken) };
    start += taken;
  }
}

const NORMS = new WeakMap<LayerRows, Float64Array<ArrayBuffer>>();
/** Norms of the residual stream before the attention, of rows that it has not been added to; asked for block by block. */
function residualNorms(backend: Backend, rows: LayerRows): Float64Array<ArrayBuffer> {
  const known = NORMS.get(rows) ?? backend.rowNorms(rows.residual);
  NORMS.set(rows, known);
  return known;
}

/** Caches rows [start, start + keep.length), and gives those whose attention is computed, if any. */
export function* computeRows(
  feed: LayerFeed,
  rows: LayerRows,
  start: number,
  keep: Uint8Array<ArrayBuffer>,
  ending: readonly EndingRow[],
): Generator<KeptRows> {
  const { layer, residual } = rows, { pass, pruner, record: { cache, tally, outputs } } = feed;
  const { backend, config } = feed.model, local = localOf(feed), recent = pruner?.recent ?? 0;
  const every = range(start, keep.length), skips = indicesOf(keep, 0, start);
  const kept = indicesOf(keep, 1, start), computed = local === undefined ? kept : every;
  const total = residual.shape[0]!, all = computed.length === total;
  const keys = asMatrix(rows.keys), values = asMatrix(rows.values);
  const picked = (some: Rows) => some.length === total ? undefined : pass.i32(some);
  const [cached, passing] = pruner?.cacheSkipped ? [every, range(0, 0)] : [kept, skips];
  // Where every key stays, those of all rows are cached at once, before the first of them is attended to.
  const atOnce = pruner?.cacheSkipped === true && feed.judge === undefined;
  const fresh = !atOnce ? cached : start === 0 ? range(0, total) : range(0, 0);
  if (fresh.length > 0) {
    cache.append(keys, values, positionsOf(feed, fresh), picked(fresh));
  }
  const later = atOnce ? total - start - keep.length : 0;
  const next = feed.length + start + keep.length;
  const scratch = (rows: number, dtype: CacheDType) => ({
    keys: pass.scratch("seenKeys", [rows, keys.shape[1]!], dtype),
    values: pass.scratch("seenValues", [rows, keys.shape[1]!], dtype),
  });
  const skipped = cache.appendSkipped(
    keys,
    values,
    positionsOf(feed, passing),
    next,
    scratch,
    picked(passing),
  );
  tally.take(keep);
  const seen = { kept: { ...cache.kept, count: cache.kept.count - later }, skipped, recent, ending };
  /** Adds what stands for skipped outputs, where it comes from computed ones; gives how far these are from it. */
  const replace = (output: Float32Array) => {
    const { substitutes, errors } = outputs!.take(feed.length + start, keep, output);
    const rows = hostTensor("f32", [skips.length, config.hiddenSize], substitutes);
    if (skips.length > 0) backend.scatterAddRows(residual, pass.i32(skips), backend.upload(rows));
    return errors;
  };
  if (computed.length === 0) {
    if (outputs !== undefined) replace(new Float32Array(0));
  } else {
    // Full rows that a local method learns from are asked for once more, as if they were local.
    const twice = local && observes(feed) ? merged(computed, comparedRows(feed, local, kept)) : undefined;
    const asks = twice?.all ?? computed, isPlain = all && asks.length === total;
    const positions = isPlain ? rows.positions : pass.i32(positionsOf(feed, asks));
    /** Which of them are full; they come first where they are asked for twice. */
    const findFull = (): Rows => {
      if (local === undefined) return range(0, asks.length);
      const own = indicesOf(keep, 1, 0);
      return twice === undefined ? own : own.map((row) => twice.ofFirst[row]!);
    };
    yield {
      positions,
      select: (name, x) => pass.gather(name, x, asks),
      attend(queries, out, scale) {
        const asked = attentionArgs(pass, config, layer, seen, {
          queries,
          queryPositions: positions,
          out,
          scale,
        });
        const some = asks.length > kept.length &&
          { windows: windowsOf(pass, asks.length, findFull(), recent), sinks: local!.sinks };
        attendWatched(feed, layer, some ? { ...asked, ...some } : asked, kept, findFull);
      },
      add(output) {
        const norms = kept.length > 0 && observes(feed)
          ? pickNumbers(residualNorms(backend, rows), kept)
          : undefined;
        const own = outputs === undefined ? undefined : f32Data(backend.read(output)).slice();
        // Before the residual stream changes, which a method may still look at.
        if (norms && own === undefined) {
          const differ = twice &&
            differences(f32Data(backend.read(output)), config.hiddenSize, findFull(), twice.ofSecond);
          feed.decider!.observe!(layer, differ ?? backend.rowNorms(output), norms);
        }
        if (isPlain && own === undefined) return { delta: output };
        const added = twice ? pass.gather("addedOutputs", output, twice.ofFirst) : output;
        if (all) backend.add(residual, added);
        else backend.scatterAddRows(residual, pass.i32(computed), added);
        const errors = outputs && replace(own!);
        if (norms && errors) feed.decider!.observe!(layer, errors, norms);
        return undefined;
      },
    };
  }
}

/** Full rows whose outputs are compared with those of local attention: those whose outcome counts. */
function comparedRows({ length, pruner }: LayerFeed, { sinks }: { sinks: number }, kept: Rows): Rows {
  const first = firstOutcome({ substitute: "local", sinks, recent: pruner!.recent });
  return kept.filter((row) => length + row >= first);
}

/**
 * How far full outputs are from local ones of the last of these rows; 0 of rows whose outcome does not count.
 *
 * @param outputs Rows of so many columns.
 */
function differences(
  outputs: Float32Array,
  columns: number,
  full: Rows,
  local: Rows,
): Float64Array<ArrayBuffer> {
  const errors = new Float64Array(full.length), uncounted = full.length - local.length;
  for (let i = 0; i < local.length; i++) {
    const at = full[uncounted + i]! * columns, from = local[i]! * columns;
    let sum = 0;
    for (let a = 0; a < columns; a++) sum += (outputs[at + a]! - outputs[from + a]!) ** 2;
    errors[uncounted + i] = Math.sqrt(sum);
  }
  return errors;
}

/**
 * Attention; shows the key side, where it asked for it, what full queries gave to tokens that are not yet judged.
 *
 * @param kept Rows whose queries are full, and which of the queries that are asked for they are.
 */
function attendWatched(
  feed: LayerFeed,
  layer: number,
  asked: AttentionArgs,
  kept: Rows,
  findFull: () => Rows,
): void {
  const { judge, pass, pruner, model: { backend } } = feed;
  if (judge === undefined || !pruner!.keySide!.wantsAttention || kept.length === 0) {
    return backend.attention(asked);
  }
  const positions = positionsOf(feed, kept), rows = findFull();
  const last = feed.record.cache.kept.positions[asked.numKeys - 1]!;
  const open = judge.watched(layer, asked.numKeys, last), some = asked.queries.shape[0]! > rows.length;
  const weights = pruner!.keySide!.wantsChange ? headWeights(feed.model, layer) : undefined;
  if (!some || backend.givesShares) {
    const room = (name: string, shape: readonly number[]) => pass.scratch(name, shape, "f64");
    const { shares, changes } = attendShowing(backend, asked, open, room, weights);
    const pick = (given: Float64Array) => some ? pickRows(given, rows, open) : given;
    return judge.observe(layer, positions, pick(shares), changes && pick(changes));
  }
  backend.attention(asked);
  const full = narrowArgs(pass, asked, { rows, positions }), from = asked.numKeys - open;
  const out = pass.byHead(pass.gather("someOutputs", asked.out, rows));
  const changes = weights && outputChanges(backend, { ...full, out }, from, f32Data(backend.read(weights)));
  judge.observe(layer, positions, meanProbabilities(backend, full, from), changes);
}

/** What a layer's rows see of each other where nothing is skipped or dropped: those of a whole sequence. */
function seenWhole(feed: LayerFeed, { keys, values, residual }: LayerRows): SeenRows {
  const every = range(0, residual.shape[0]!);
  const kept: CachedRows = {
    keys: asMatrix(keys),
    values: asMatrix(values),
    positions: positionsOf(feed, every),
    count: every.length,
  };
  return { kept, skipped: { ...kept, count: 0 }, recent: feed.pruner!.recent, ending: [] };
}

/** Shows the key side, where it foresees, what all queries would give to all keys. */
export function foresee(feed: LayerFeed, rows: LayerRows): void {
  const { pass, judge, model: { backend, config } } = feed, { layer, queries, positions } = rows;
  const count = positions.shape[0]!;
  const { out: _, ...asked } = attentionArgs(pass, config, layer, seenWhole(feed, rows), {
    queries: pass.byHead(queries!),
    queryPositions: positions,
    out: queries!,
    scale: pass.scale,
  });
  judge!.observe(layer, range(0, count), meanProbabilities(backend, asked, 0));
}

/** norm(attention output) / norm(residual) of every row, as if all were kept; for pruners that look ahead. */
function trueRedundancy(feed: LayerFeed, rows: LayerRows): Float64Array<ArrayBuffer> {
  const { pass, model: { backend, config } } = feed, { layer, queries, positions, residual } = rows;
  const seen = seenWhole(feed, rows);
  const output = pass.attend(layer, queries!, {
    attend: (queries, out, scale) =>
      backend.attention(
        attentionArgs(pass, config, layer, seen, { queries, queryPositions: positions, out, scale }),
      ),
  });
  const norms = backend.rowNorms(residual);
  return backend.rowNorms(output).map((norm, row) => norm / norms[row]!);
}
