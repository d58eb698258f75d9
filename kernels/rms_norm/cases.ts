/** The cases of `rmsNorm`: x [rows, cols]; `scale` multiplies the inputs. */
import type { Calls } from "../testing/fuzz/draw.ts";
interface RmsNormCase {
  readonly rows: number;
  readonly cols: number;
  readonly scale: number;
}

/** Rows that a thread of a device holds one, two or four pieces of, and some that it reads twice. */
const WIDE: readonly number[] = [576, 2500, 5004, 8196];

export const RMS_NORM_CASES: readonly RmsNormCase[] = [
  ...[0, 1, 2, 33].flatMap((rows) =>
    [1, 7, 31, 32, 33, 127, 576, 989].flatMap((cols) =>
      [0, 1e-20, 1, 1e15].map((scale) => ({ rows, cols, scale }))
    )
  ),
  ...WIDE.map((cols) => ({ rows: 2, cols, scale: 1 })),
];

export const CALLS: Calls = {
  tkf_rms_norm_apply(d) {
    const rows = d.size(9), cols = d.size(100), x = d.floats(rows * cols);
    const delta = d.once(2) ? d.floats(rows * cols) : null, keep = d.once(2) ? d.flags(rows) : null;
    return { x, delta, keep, weight: d.floats(cols), out: d.room("f32", rows * cols), rows, cols, eps: 1e-5 };
  },
};
