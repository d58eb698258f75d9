/** KV heads of a layer that do not all have the same rows: some keep every key and value, or each evicts by itself. */
import type { AttentionArgs } from "../../../backend.ts";
import type { HeadParts } from "../../../filter/option.ts";
import type { Tensor } from "../../../tensor.ts";
import type { ForwardPass } from "../forward_pass.ts";
import type { EndingRow } from "../key_judge.ts";
import type { LayerCache } from "./kv_cache.ts";
import type { Rows } from "./row_indices.ts";

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

  /** As attention takes it: which KV heads of the queries those of a group are. */
  placesOf(pass: ForwardPass, { heads }: HeadGroup): NonNullable<AttentionArgs["kvPlaces"]> {
    return { places: pass.i32(Int32Array.from(heads)), of: this.count };
  }
}
