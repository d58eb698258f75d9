/**
 * The KV cache of one layer of one sequence: keys and values of kept tokens, compacted, and those of skipped tokens
 * while a recent window keeps them visible.
 */
import type { Backend } from "../../../backend.ts";
import { byteSize, type CacheDType } from "../../../dtype.ts";
import { firstRows, hostTensor, type Tensor } from "../../../tensor.ts";
import { range, type Rows } from "./row_indices.ts";

/** Rows by which a cache grows: small enough to waste little, large enough that copying stays under 2% of the reading. */
export const PAGE_ROWS = 64;

/** Empty rows from which on a cache that has dropped some is made anew, as large as it must be. */
const SLACK_ROWS = 2 * PAGE_ROWS;

/** Rows of keys and values with their original positions, ascending. */
export interface CachedRows {
  /** Keys, [>= count, numKvHeads * headDim] */
  readonly keys: Tensor;
  /** Values, [>= count, numKvHeads * headDim] */
  readonly values: Tensor;
  /** Original positions, [>= count] */
  readonly positions: Int32Array<ArrayBuffer>;
  readonly count: number;
}

type KeysAndValues = Pick<CachedRows, "keys" | "values">;

export class LayerCache {
  /** Cached rows: tokens that every later query attends to. */
  kept: CachedRows;
  /** The recent window's rows: skipped tokens that later queries can still see. */
  recent: CachedRows;
  private readonly backend: Backend;
  private readonly dtype: CacheDType;
  /** numKvHeads * headDim */
  private readonly width: number;
  /** For how many tokens a skipped token stays visible; 0 = not at all. */
  private readonly span: number;

  constructor(backend: Backend, dtype: CacheDType, width: number, span: number) {
    this.backend = backend;
    this.dtype = dtype;
    this.width = width;
    this.span = span;
    this.kept = this.#empty();
    this.recent = this.#empty();
  }

  /** Bytes of keys and values in use, the recent window included; positions (4 bytes per row) are not counted. */
  get heldBytes(): number {
    return (this.kept.count + this.recent.count) * this.#rowBytes;
  }

  get allocatedBytes(): number {
    return (this.kept.keys.shape[0]! + this.recent.keys.shape[0]!) * this.#rowBytes;
  }

  /** Bytes of one cached token, key and value. */
  static rowBytes(dtype: CacheDType, width: number): number {
    return 2 * byteSize(dtype, width);
  }

  get #rowBytes(): number {
    return LayerCache.rowBytes(this.dtype, this.width);
  }

  /**
   * Appends rows of keys and values, [T, width] f32, at ascending positions; or of parts of tokens, as many a token one after
   * the other.
   *
   * @param rows [R] i32, which; default: all
   */
  append(keys: Tensor, values: Tensor, positions: Int32Array<ArrayBuffer>, rows?: Tensor): void {
    const { count } = this.kept;
    const next = count + positions.length;
    if (next > this.kept.positions.length) this.#resize(Math.ceil(next / PAGE_ROWS) * PAGE_ROWS);
    this.kept.positions.set(positions, count);
    this.kept = { ...this.kept, count: next };
    this.#store({ keys, values }, this.kept, count, rows);
  }

  /**
   * Drops cached rows, at ascending positions, for good, and gives their memory back where much of it is empty: rows behind
   * the first of them move.
   */
  drop(gone: readonly number[]): void {
    if (gone.length === 0) return;
    const { positions, count } = this.kept, first = positions.indexOf(gone[0]!);
    const rows = new Int32Array(count - first - gone.length);
    let stays = 0;
    for (let row = first, next = 0; row < count; row++) {
      if (positions[row] === gone[next]) next++;
      else rows[stays++] = row;
    }
    const moving = rows.subarray(0, stays);
    if (this.backend.movesRows) {
      this.#storeSome(this.kept, moving, this.kept, first);
    } else if (stays > 0) {
      const moved = this.#alloc(stays);
      this.#storeSome(this.kept, moving, moved, 0);
      this.#store(moved, this.kept, first);
      this.#give(moved);
    }
    for (let i = 0; i < stays; i++) positions[first + i] = positions[rows[i]!]!;
    this.kept = { ...this.kept, count: first + stays };
    if (positions.length - this.kept.count >= SLACK_ROWS) this.#resize(this.kept.count);
  }

  /** Changes the value of a cached token, [width]. */
  setValue(position: number, value: Float32Array<ArrayBuffer>): void {
    const row = this.kept.positions.subarray(0, this.kept.count).indexOf(position);
    const rows = this.backend.upload(hostTensor("f32", [1, this.width], value));
    this.backend.storeRows(rows, this.kept.values, row);
    this.backend.free(rows);
  }

  /**
   * Appends newly skipped tokens to the recent window. Afterwards it holds those that a query at position `next` or
   * later can still attend to. Otherwise as {@linkcode append}.
   *
   * @param scratch Gives room for a number of rows, which last until its next call
   * @returns the rows that queries up to now see: those left of earlier tokens, then the new ones; until the next call
   */
  appendSkipped(
    keys: Tensor,
    values: Tensor,
    positions: Int32Array<ArrayBuffer>,
    next: number,
    scratch: (rows: number, dtype: CacheDType) => KeysAndValues,
    rows?: Tensor,
  ): CachedRows {
    const held = this.recent.count, count = held + positions.length, fresh = { keys, values };
    if (this.span === 0 || count === 0) return this.recent;
    const all = new Int32Array(count);
    all.set(this.recent.positions);
    all.set(positions, held);
    const first = all.findIndex((position) => next - position <= this.span);
    const stays = first < 0 ? 0 : count - first;
    if (stays > this.recent.keys.shape[0]!) this.#widen(stays);
    const ring = this.recent = { ...this.recent, positions: all.slice(count - stays), count: stays };
    if (stays === count) {
      this.#store(fresh, ring, held, rows);
      return ring;
    }
    const seen = { ...scratch(count, this.dtype), positions: all, count };
    const old = { keys: firstRows(ring.keys, held), values: firstRows(ring.values, held) };
    this.#store(old, seen, 0);
    this.#store(fresh, seen, held, rows);
    this.#storeSome(seen, range(count - stays, stays), ring, 0);
    return seen;
  }

  /** Gives the memory of all rows back at once and forgets them. */
  free(): void {
    this.#give(this.kept);
    this.#give(this.recent);
    this.kept = this.#empty();
    this.recent = this.#empty();
  }

  #give({ keys, values }: KeysAndValues): void {
    this.backend.free(keys);
    this.backend.free(values);
  }

  fork(): LayerCache {
    const copy = new LayerCache(this.backend, this.dtype, this.width, this.span);
    copy.kept = this.#copy(this.kept, this.kept.positions.length);
    copy.recent = this.#copy(this.recent, this.recent.count);
    return copy;
  }

  #widen(rows: number): void {
    const ring = this.recent;
    this.recent = { ...this.#copy(ring, rows), positions: ring.positions };
    this.#give(ring);
  }

  #storeSome(from: KeysAndValues, rows: Rows, to: KeysAndValues, at: number): void {
    const take = this.backend.upload(hostTensor("i32", [rows.length], rows));
    this.#store(from, to, at, take);
    this.backend.free(take);
  }

  #store(from: KeysAndValues, to: KeysAndValues, at: number, rows?: Tensor): void {
    if ((rows ?? from.keys).shape[0] === 0) return;
    const parts = to.keys.shape[1]! / from.keys.shape[1]!;
    const cut = (x: Tensor) => ({ ...x, shape: [x.shape[0]! * parts, x.shape[1]! / parts] });
    const out = parts === 1 ? to : { keys: cut(to.keys), values: cut(to.values) };
    this.backend.storeRows(from.keys, out.keys, at * parts, rows, { x: from.values, out: out.values });
  }

  #resize(capacity: number): void {
    this.kept = this.#copy(this.kept, capacity, "regrowRows");
  }

  #copy(rows: CachedRows, capacity: number, by: "resizeRows" | "regrowRows" = "resizeRows"): CachedRows {
    const positions = new Int32Array(capacity);
    positions.set(rows.positions.subarray(0, capacity));
    return {
      keys: this.backend[by](rows.keys, capacity),
      values: this.backend[by](rows.values, capacity),
      positions,
      count: rows.count,
    };
  }

  #empty(): CachedRows {
    return { ...this.#alloc(0), positions: new Int32Array(0), count: 0 };
  }

  /** Keys and values that hold anything, each to be given back by itself. */
  #alloc(rows: number): KeysAndValues {
    const part = () => this.backend.alloc(this.dtype, [rows, this.width], true);
    return { keys: part(), values: part() };
  }
}
