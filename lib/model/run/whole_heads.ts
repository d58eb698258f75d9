/** KV heads of a layer that keep every key and value, next to others that evict: either kind has rows of its own. */
import type { HeadParts } from "../../filter/option.ts";
import type { Tensor } from "../../tensor.ts";
import type { ForwardPass, RunModel } from "./forward_pass.ts";
import type { LayerCache } from "./kv_cache.ts";
import { range, type Rows } from "./row_indices.ts";

export class WholeHeads {
  /** The layer's KV heads. */
  readonly parts: HeadParts;
  /** Keys and values of the whole ones; the layer's own cache has those of the others. */
  readonly cache: LayerCache;

  constructor(parts: HeadParts, cache: LayerCache) {
    this.parts = parts;
    this.cache = cache;
  }

  /** KV heads of the layer. */
  get count(): number {
    return this.parts.whole.length + this.parts.others.length;
  }

  fork(): WholeHeads {
    return new WholeHeads(this.parts, this.cache.fork());
  }

  /** A matrix, [T, numKvHeads * n], with a row for each token and KV head. */
  byHead(x: Tensor): Tensor {
    return { ...x, shape: [x.shape[0]! * this.count, x.shape[1]! / this.count] };
  }

  /** Rows of {@linkcode byHead} that some heads have of some tokens. */
  rowsOf(tokens: Rows, heads: readonly number[]): Rows {
    const rows = new Int32Array(tokens.length * heads.length);
    tokens.forEach((token, i) =>
      heads.forEach((head, j) => rows[i * heads.length + j] = token * this.count + head)
    );
    return rows;
  }

  /** A row of all KV heads, [numKvHeads * headDim], without the whole ones. */
  evicting(row: Float32Array): Float32Array<ArrayBuffer> {
    const width = row.length / this.count;
    return Float32Array.from(
      this.parts.others.flatMap((head) => [...row.subarray(head * width, (head + 1) * width)]),
    );
  }

  /** For each query head of the KV heads that evict, its entry of `numbers`, [numHeads]. */
  evictingOf(pass: ForwardPass, numbers: Tensor): Tensor {
    const { others } = this.parts, matrix = { ...numbers, shape: [1, numbers.shape[0]!] };
    const own = pass.gather("numbers of heads", this.byHead(matrix), Int32Array.from(others));
    return { ...own, shape: [own.shape[0]! * own.shape[1]!] };
  }

  /**
   * Attention of queries, [R, numHeads, headDim], to `out`, of the same shape: of either kind of heads by itself.
   *
   * @param attend Computes one kind: `queries` and `out` are [R, heads, headDim].
   */
  attend(
    { backend }: RunModel,
    pass: ForwardPass,
    queries: Tensor,
    out: Tensor,
    attend: (queries: Tensor, out: Tensor, isWhole: boolean) => void,
  ): void {
    const [count, numHeads, headDim] = queries.shape as [number, number, number],
      { whole, others } = this.parts;
    const group = numHeads / this.count,
      asRows = (x: Tensor) => this.byHead({ ...x, shape: [count, numHeads * headDim] });
    const joined = pass.scratch("outputs of heads", asRows(out).shape),
      places = new Int32Array(count * this.count);
    let first = 0;
    for (const heads of [whole, others]) {
      const rows = this.rowsOf(range(0, count), heads), isWhole = heads === whole;
      const own = pass.gather(`queries of ${isWhole ? "whole" : "other"} heads`, asRows(queries), rows);
      const found = pass.scratch("outputs of some heads", own.shape);
      const shaped = (x: Tensor) => ({ ...x, shape: [count, heads.length * group, headDim] });
      attend(shaped(own), shaped(found), isWhole);
      backend.storeRows(found, joined, first);
      rows.forEach((row, i) => places[row] = first + i);
      first += rows.length;
    }
    backend.gatherRows(joined, pass.i32(places), asRows(out));
  }
}
