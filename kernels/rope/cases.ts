/** The cases of `rope`: x [rows, heads, headDim], positions from `first` on in steps of `step`. */
import { type HostTensor, hostTensor } from "../../lib/tensor.ts";
import type { Calls } from "../testing/fuzz/draw.ts";
interface RopeCase {
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

/** Angles of base `theta`; lengths from 0.5 on, each pair's 1/8 more than the last one's. */
export function turnsOf(theta: number, headDim: number): HostTensor {
  const turns = Float64Array.from({ length: headDim }, (_, i) => {
    return i % 2 === 0 ? theta ** (-i / headDim) : 0.5 + (i >> 1) / 8;
  });
  return hostTensor("f64", [headDim / 2, 2], turns);
}

export const CALLS: Calls = {
  tkf_rope_apply(d) {
    const rows = d.size(6), heads = d.size(5), head_dim = 2 * d.size(20);
    const x = d.floats(rows * heads * head_dim), positions = d.indices(rows, 5000);
    return { x, positions, turns: d.doubles(head_dim), ...d.kept(rows), rows, heads, head_dim };
  },
};
