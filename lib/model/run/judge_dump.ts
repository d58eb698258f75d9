/** The key side on keys, values and queries that another engine has dumped. */
import type { AttentionArgs, Backend } from "../../backend.ts";
import type { Spans } from "../../filter/blocks.ts";
import type { HeadParts } from "../../filter/option.ts";
import type { KeySequence } from "../../methods/protocol/pruner.ts";
import type { LayerAsk } from "../../methods/protocol/signals.ts";
import { countOf, hostTensor, type Tensor } from "../../tensor.ts";
import { LayerCache } from "./cache/kv_cache.ts";
import { KeyJudge } from "./key_judge.ts";
import { attendShowing, meanProbabilities } from "./signals.ts";
import { range, type Rows } from "./cache/row_indices.ts";

/** Tokens of one layer of one sequence, on a backend. */
interface DumpedLayer {
  /** Keys after rotary embedding, [T, numKvHeads, headDim] f32. */
  readonly keys: Tensor;
  /** Values, [T, numKvHeads, headDim] f32. */
  readonly values: Tensor;
  /** Queries after rotary embedding, [T, numHeads, headDim] f32; where the side reads them, or signals of them. */
  readonly queries?: Tensor;
  /** Factor on the products of queries and keys. */
  readonly scale: number;
  /** Where changes of outputs are asked for: by how much each head's squared output counts, [numHeads] f32. */
  readonly headWeights?: Tensor;
}

/** The key side of a method, for one layer, whose keys and values alone it reads besides signals of queries. */
interface DumpSide {
  /** 0-based index of the layer, as the side has it. */
  readonly layer: number;
  readonly spans: Spans;
  readonly sequence: KeySequence;
  /** What it reads of queries about keys. */
  readonly ask?: Pick<LayerAsk, "keys" | "distance" | "last" | "undecided"> | undefined;
  /** Its KV heads, where each has rows of its own. */
  readonly parts?: HeadParts | undefined;
  /** Whether it needs the attention that all queries would give to all keys. */
  readonly foresees?: boolean;
}

/** A layer's heads with the same cached rows, at work on a dump: all of them, or one KV head with its queries. */
class DumpedHeads {
  readonly cache: LayerCache;
  private readonly backend: Backend;
  private readonly dump: DumpedLayer;
  private readonly head: number | undefined;

  constructor(backend: Backend, dump: DumpedLayer, head?: number) {
    this.backend = backend;
    this.dump = dump;
    this.head = head;
    this.cache = new LayerCache(backend, "f32", this.#split(dump.keys).shape[1]!, 0);
  }

  /** Caches the next tokens, and has their queries look at all cached ones; `out` is not computed yet. */
  take(positions: Rows): AttentionArgs {
    const { backend, cache, dump: { keys, values, queries, scale }, head } = this, headDim = keys.shape[2]!;
    const upload = (data: Rows) => backend.upload(hostTensor("i32", [data.length], data));
    const numKvHeads = keys.shape[1]!;
    const rows = upload(head === undefined ? positions : positions.map((at) => at * numKvHeads + head));
    cache.append(this.#split(keys), this.#split(values), positions, rows);
    const own = this.#split(queries!), asked = backend.alloc("f32", [positions.length, own.shape[1]!]);
    backend.gatherRows(own, rows, asked);
    const { kept, recent } = cache, queryPositions = upload(positions);
    const keyPositions = upload(kept.positions.slice(0, kept.count)), recentPositions = upload(range(0, 0));
    const byHead = (x: Tensor) => ({ ...x, shape: [x.shape[0]!, x.shape[1]! / headDim, headDim] });
    return {
      ...{ queries: byHead(asked), queryPositions, keyPositions, numKeys: kept.count },
      ...{ keys: byHead(kept.keys), values: byHead(kept.values) },
      ...{ recentKeys: byHead(recent.keys), recentValues: byHead(recent.values), recentPositions },
      ...{ numRecent: 0, recent: 0, scale, out: byHead(backend.alloc("f32", asked.shape)) },
    };
  }

  /** Frees what a call of {@linkcode DumpedHeads.take} has made. */
  free({ queries, out, queryPositions, keyPositions, recentPositions }: AttentionArgs): void {
    for (const x of [queries, out, queryPositions, keyPositions, recentPositions]) this.backend.free(x);
  }

  /** Rows of tokens [T, H, d], or of each KV head of each token, as a matrix. */
  #split(x: Tensor): Tensor {
    const [tokens, ...size] = x.shape as [number, number, number];
    const parts = this.head === undefined ? 1 : this.dump.keys.shape[1]!;
    return { ...x, shape: [tokens * parts, countOf(size) / parts] };
  }
}

/** Attention that all queries give to all keys, mean over heads, [T, T]. */
function foresee(backend: Backend, dump: DumpedLayer): Float64Array {
  const heads = new DumpedHeads(backend, dump), args = heads.take(range(0, dump.keys.shape[0]!));
  const given = meanProbabilities(backend, args, 0);
  heads.free(args);
  heads.cache.free();
  return given;
}

/**
 * Decides a layer's keys and values where every query is computed, block by block as a model does: queries attend to
 * the keys that were not dropped before their block. The side's traces receive its decisions.
 *
 * @returns The decisions on all tokens.
 */
export function judgeDump(backend: Backend, side: DumpSide, dump: DumpedLayer): KeyJudge {
  const { layer, spans, sequence, ask, parts } = side, { keys, values, queries } = dump;
  const count = keys.shape[0]!, isApart = parts?.apart === true;
  const judge = new KeyJudge(spans, sequence, [layer], parts && new Map([[layer, parts]]));
  const futureAttention = side.foresees ? foresee(backend, dump) : undefined;
  judge.take({
    ...{ layer, count, keys, values },
    ...(queries && { queries }),
    ...(futureAttention && { futureAttention }),
  });
  if (ask === undefined || ask.keys.length === 0) {
    judge.judge(layer, count);
    return judge;
  }
  const units = (isApart ? parts.others : [undefined]).map((head) => new DumpedHeads(backend, dump, head));
  const cuts = [0, ...judge.starts(0, count), count];
  for (const [i, from] of cuts.slice(0, -1).entries()) {
    const to = cuts[i + 1]!, positions = range(from, to - from), { gone } = judge.judge(layer, from + 1);
    const read = judge.read(positions, ask, true);
    for (const [unit, heads] of units.entries()) {
      const { cache } = heads, own = gone.filter((row) => (row.unit ?? 0) === unit);
      cache.drop(own.map(({ position }) => position));
      const args = heads.take(positions), { kept } = cache;
      if (read.length > 0) {
        const shown = ask.undecided ? to - judge.judged(layer) : kept.count; // none of the undecided went
        const rooms: Tensor[] = [];
        const room = (_: string, shape: readonly number[]) => {
          rooms.push(backend.alloc("f64", shape, true));
          return rooms.at(-1)!;
        };
        const asked = { signals: ask.keys, queries: read, keys: shown, distance: ask.distance };
        judge.observe(layer, {
          positions: read.map((row) => positions[row]!),
          keys: kept.positions.slice(kept.count - shown, kept.count),
          rows: attendShowing(backend, args, asked, room, dump.headWeights),
          ...(isApart && { unit }),
        });
        for (const tensor of rooms) backend.free(tensor);
      }
      heads.free(args);
    }
  }
  for (const { cache } of units) cache.free();
  return judge;
}
