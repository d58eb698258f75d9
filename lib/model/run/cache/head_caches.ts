/** KV heads of a layer that do not all have the same rows: some keep every key and value, or each evicts by itself. */
import type { HeadParts } from "../../../filter/option.ts";
import type { Tensor } from "../../../tensor.ts";
import type { ForwardPass, RunModel } from "../forward_pass.ts";
import type { EndingRow } from "../key_judge.ts";
import type { LayerCache } from "./kv_cache.ts";
import { range, type Rows } from "./row_indices.ts";

/** KV heads with the same rows. */
export interface HeadGroup {
  readonly heads: readonly number[];
  readonly cache: LayerCache;
  /** Its place among the groups that evict; undefined where its heads keep everything. */
  readonly unit: number | undefined;
}

export class HeadCaches {
  readonly parts: HeadParts;
  readonly groups: readonly HeadGroup[];

  constructor(parts: HeadParts, groups: readonly HeadGroup[]) {
    this.parts = parts;
    this.groups = groups;
  }

  /** @param open Makes the empty cache of a number of heads. */
  static open(parts: HeadParts, open: (heads: number) => LayerCache): HeadCaches {
    const { whole, others, apart } = parts,
      group = (heads: readonly number[], unit?: number): HeadGroup => {
        return { heads, cache: open(heads.length), unit };
      };
    const evicting = apart ? others.map((head, unit) => group([head], unit)) : [group(others, 0)];
    return new HeadCaches(parts, [...whole.length > 0 ? [group(whole)] : [], ...evicting]);
  }

  get count(): number {
    return this.parts.whole.length + this.parts.others.length;
  }

  /** The cache of the heads that evict, or of the first of them. */
  get evicting(): LayerCache {
    return this.groups.find(({ unit }) => unit === 0)!.cache;
  }

  drop(rows: readonly EndingRow[]): void {
    for (const { cache, unit } of this.groups) {
      if (unit === undefined) continue;
      cache.drop(rows.filter((row) => (row.unit ?? 0) === unit).map(({ position }) => position));
    }
  }

  fork(): HeadCaches {
    return new HeadCaches(this.parts, this.groups.map((group) => ({ ...group, cache: group.cache.fork() })));
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
  withoutWhole(row: Float32Array): Float32Array<ArrayBuffer> {
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
   * Attention of queries, [R, numHeads, headDim], to `out`, of the same shape: of each group of heads by itself.
   *
   * @param attend Computes one group: `queries` and `out` are [R, heads, headDim].
   */
  attend(
    { backend }: RunModel,
    pass: ForwardPass,
    queries: Tensor,
    out: Tensor,
    attend: (queries: Tensor, out: Tensor, group: HeadGroup) => void,
  ): void {
    const [count, numHeads, headDim] = queries.shape as [number, number, number];
    const perHead = numHeads / this.count,
      asRows = (x: Tensor) => this.byHead({ ...x, shape: [count, numHeads * headDim] });
    const joined = pass.scratch("outputs of heads", asRows(out).shape),
      places = new Int32Array(count * this.count);
    let first = 0;
    for (const group of this.groups) {
      const { length } = group.heads, rows = this.rowsOf(range(0, count), group.heads);
      const own = pass.gather(
        `queries of ${group.unit === undefined ? "whole" : "other"} heads`,
        asRows(queries),
        rows,
      );
      const found = pass.scratch("outputs of some heads", own.shape);
      const shaped = (x: Tensor) => ({ ...x, shape: [count, length * perHead, headDim] });
      attend(shaped(own), shaped(found), group);
      backend.storeRows(found, joined, first);
      rows.forEach((row, i) => places[row] = first + i);
      first += rows.length;
    }
    backend.gatherRows(joined, pass.i32(places), asRows(out));
  }
}
