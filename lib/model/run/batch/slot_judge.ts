/** Decides the keys of one sequence of a batch on the host, by changes of outputs that its steps have noted. */
import type { Backend } from "../../../backend.ts";
import type { BatchCache, BatchChanges } from "../../../batch_ops.ts";
import { beginsBlock, type Spans } from "../../../filter/blocks.ts";
import { countOf, emptyTensor, firstRows, hostTensor, type Tensor } from "../../../tensor.ts";
import type { CachedRows } from "../cache/kv_cache.ts";
import { range } from "../cache/row_indices.ts";
import type { KeyJudge } from "../key_judge.ts";

/** A layer of a batch whose keys the host decides. */
export interface JudgedLayer {
  readonly layer: number;
  /** Cache of the KV heads that evict. */
  readonly cache: BatchCache;
  readonly changes: BatchChanges;
}

/** Room for what a batch's steps note between block starts: queries, and places for the keys that are not decided. */
export function roomOf({ warmup, block, recent }: Spans): [queries: number, keys: number] {
  const queries = Math.max(warmup, block);
  return [queries, queries + recent + 1];
}

export class SlotJudge {
  readonly #backend: Backend;
  readonly #slot: number;
  readonly #spans: Spans;
  readonly #judge: KeyJudge;
  /** By layer, the positions of the cached rows. */
  readonly #held = new Map<number, number[]>();
  /** Tokens that the judge was shown. */
  #shown: number;

  /** @param length Tokens of the sequence so far. */
  constructor(backend: Backend, slot: number, spans: Spans, judge: KeyJudge, length: number) {
    this.#backend = backend;
    this.#slot = slot;
    this.#spans = spans;
    this.#judge = judge.fork();
    this.#shown = length;
  }

  /** As `ModelSequence.kvKeep`. */
  keep(length: number): ReadonlyMap<number, Uint8Array<ArrayBuffer>> {
    return this.#judge.keep(length);
  }

  /** Takes a layer over, with the rows that the slot's cache has. */
  admit({ layer, changes }: JudgedLayer, { positions, count }: CachedRows): void {
    this.#held.set(layer, [...positions.subarray(0, count)]);
    this.#setFirst(layer, changes);
  }

  /** Before the step that feeds the token at a position: decides what is due, and drops it. */
  begin(position: number, layers: readonly JudgedLayer[]): void {
    const isDue = beginsBlock(position, this.#spans), queries = range(this.#shown, position - this.#shown);
    for (const own of layers) {
      if (isDue) this.#decide(own, queries, position);
      this.#held.get(own.layer)!.push(position);
    }
    if (isDue) this.#shown = position;
  }

  #decide({ layer, cache, changes }: JudgedLayer, queries: Int32Array<ArrayBuffer>, position: number): void {
    const judge = this.#judge, first = judge.judged(layer), keys = range(first, position - first);
    const none = emptyTensor("f32", [0, 0, 0]); // the rule reads changes only
    judge.take({ layer, count: queries.length, keys: none, values: none });
    if (queries.length > 0) {
      const [, block, places] = changes.out.shape as [number, number, number];
      const noted = this.#backend.read(this.#backend.row(changes.out, this.#slot)).data;
      const change = new Float64Array(queries.length * keys.length);
      queries.forEach((query, i) => {
        keys.forEach((key, k) => change[i * keys.length + k] = noted[query % block * places + key % places]!);
      });
      judge.observe(layer, { positions: queries, keys, rows: { change } });
    }
    const { gone } = judge.judge(layer, position + 1);
    this.#drop(layer, cache, new Set(gone.map((row) => row.position)));
    this.#setFirst(layer, changes);
  }

  /** Takes rows out of the slot's cache: those behind them move up. */
  #drop(layer: number, cache: BatchCache, gone: ReadonlySet<number>): void {
    if (gone.size === 0) return;
    const held = this.#held.get(layer)!, backend = this.#backend, slot = this.#slot;
    const first = held.findIndex((position) => gone.has(position));
    const stays = held.flatMap((position, row) => row > first && !gone.has(position) ? [row] : []);
    const [batch, capacity] = cache.positions.shape as [number, number];
    const rows = backend.upload(hostTensor("i32", [stays.length], Int32Array.from(stays)));
    for (const part of stays.length > 0 ? [cache.keys, cache.values] : []) {
      const width = countOf(part.shape.slice(2)),
        flat = (x: Tensor, count: number) => ({ ...x, shape: [count, width] });
      const moved = backend.alloc(part.dtype as "f32", [stays.length, width], true);
      backend.storeRows(firstRows(flat(backend.row(part, slot), capacity), held.length), moved, 0, rows);
      backend.copyRows(moved, 0, flat(part, batch * capacity), slot * capacity + first, stays.length);
      backend.free(moved);
    }
    backend.free(rows);
    const now = [...held.slice(0, first), ...stays.map((row) => held[row]!)], all = new Int32Array(capacity);
    all.set(now);
    this.#held.set(layer, now);
    backend.write(backend.row(cache.positions, slot), hostTensor("i32", [capacity], all));
    backend.write(backend.row(cache.counts, slot), hostTensor("i32", [], Int32Array.of(now.length)));
  }

  #setFirst(layer: number, { first }: BatchChanges): void {
    const value = Int32Array.of(this.#judge.judged(layer));
    this.#backend.write(this.#backend.row(first, this.#slot), hostTensor("i32", [], value));
  }
}
