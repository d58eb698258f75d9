/** The cases of `rope`: x [rows, heads, headDim], positions from `first` on in steps of `step`. */
import type { Calls } from "../testing/fuzz/draw.ts";
export interface RopeCase {
  readonly rows: number;
  readonly heads: number;
  readonly headDim: number;
  readonly theta: number;
  readonly first: number;
  readonly step: number;
}

export const ROPE_CASES: readonly RopeCase[] = [0, 1, 33].flatMap((rows) =>
  [[1, 2], [3, 6], [9, 64], [3, 80], [1, 256]].flatMap(([heads, headDim]) =>
    [[1e4, 0, 1], [1e5, 1000, 37], [5e5, 2_000_000_000, 1]].map(([theta, first, step]) => ({
      rows,
      heads: heads!,
      headDim: headDim!,
      theta: theta!,
      first: first!,
      step: step!,
    }))
  )
);

export const CALLS: Calls = {
  tkf_rope_apply(d) {
    const rows = d.size(6), heads = d.size(5), head_dim = 2 * d.size(20);
    const x = d.floats(rows * heads * head_dim), positions = d.indices(rows, 5000);
    return { x, positions, ...d.kept(rows), rows, heads, head_dim, theta: 1e4 };
  },
};
