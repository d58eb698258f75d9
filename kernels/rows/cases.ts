/** The cases of the row ops: tensors [count, cols], of which `picked` rows are taken. */
import { type Calls, FLOATS } from "../testing/fuzz/draw.ts";
export interface RowsCase {
  readonly count: number;
  readonly cols: number;
  readonly picked: number;
}

export const ROWS_CASES: readonly RowsCase[] = [
  { count: 0, cols: 5, picked: 0 },
  { count: 1, cols: 1, picked: 1 },
  { count: 5, cols: 31, picked: 0 },
  { count: 7, cols: 32, picked: 3 },
  { count: 33, cols: 33, picked: 33 },
  { count: 127, cols: 127, picked: 1 },
  { count: 989, cols: 192, picked: 501 },
];

export const CALLS: Calls = {
  tkf_rows_copy(d) {
    const dtype = d.pick(FLOATS), out_dtype = d.pick(dtype === "f32" ? FLOATS : ["f32" as const, dtype]);
    const x_rows = d.size(6, 1), cols = d.size(40), at = d.size(4), pair = d.pick([true, false]);
    const picks = d.pick([true, false]), rows = d.size(picks ? 9 : x_rows + 1);
    const x = () => d.values(dtype, x_rows * cols), out = () => d.room(out_dtype, (at + rows) * cols);
    const [indices, x2, out2] = [
      picks ? d.indices(rows, x_rows) : null,
      pair ? x() : null,
      pair ? out() : null,
    ];
    return { x: x(), x2, indices, out: out(), out2, x_rows, cols, rows, at, dtype, out_dtype };
  },
  tkf_rows_scatter_add(d) {
    const x_rows = d.size(9, 2), cols = d.size(40), rows = d.size(x_rows + 1);
    const x = d.floats(x_rows * cols), delta = d.floats(rows * cols);
    return { x, indices: d.places(rows, x_rows), delta, x_rows, cols, rows };
  },
  tkf_rows_norm(d) {
    const rows = d.size(9), cols = d.size(40);
    return { x: d.floats(rows * cols), out: new Float64Array(rows), rows, cols };
  },
  tkf_rows_add_kept(d) {
    const rows = d.size(7), cols = d.size(60), x = d.floats(rows * cols), delta = d.floats(rows * cols);
    return { x, delta, ...d.kept(rows), rows, cols };
  },
  tkf_positions_advance(d) {
    const batch = d.size(40);
    return { positions: d.indices(batch, 100, -1), batch };
  },
};
