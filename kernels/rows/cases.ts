/** The cases of the row ops: tensors [count, cols], of which `picked` rows are taken. */
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
