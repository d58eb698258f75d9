/** The cases of `swiglu`: gate and up [rows, cols]; `scale` multiplies the gate. */
export interface SwigluCase {
  readonly rows: number;
  readonly cols: number;
  readonly scale: number;
}

export const SWIGLU_CASES: readonly SwigluCase[] = [[0, 5], [1, 1], [1, 31], [3, 33], [5, 127], [13, 989]]
  .flatMap(([rows, cols]) => [0, 1e-6, 1, 30, 1e4].map((scale) => ({ rows: rows!, cols: cols!, scale })));
