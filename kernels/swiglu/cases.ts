/** The cases of `swiglu`: gate and up [rows, cols]; `scale` multiplies the gate. */
import type { Calls } from "../testing/fuzz/draw.ts";
export interface SwigluCase {
  readonly rows: number;
  readonly cols: number;
  readonly scale: number;
}

export const SWIGLU_CASES: readonly SwigluCase[] = [[0, 5], [1, 1], [1, 31], [3, 33], [5, 127], [13, 989]]
  .flatMap(([rows, cols]) => [0, 1e-6, 1, 30, 1e4].map((scale) => ({ rows: rows!, cols: cols!, scale })));

export const CALLS: Calls = {
  tkf_swiglu_apply(d) {
    const count = d.size(300), gate = d.floats(count);
    return { gate, up: d.floats(count), out: d.once(4) ? gate : d.room("f32", count), count };
  },
};
