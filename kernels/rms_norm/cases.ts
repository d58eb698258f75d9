/** The cases of `rmsNorm`: x [rows, cols]; `scale` multiplies the inputs. */
export interface RmsNormCase {
  readonly rows: number;
  readonly cols: number;
  readonly scale: number;
}

export const RMS_NORM_CASES: readonly RmsNormCase[] = [0, 1, 2, 33].flatMap((rows) =>
  [1, 7, 31, 32, 33, 127, 576, 989].flatMap((cols) =>
    [0, 1e-20, 1, 1e15].map((scale) => ({ rows, cols, scale }))
  )
);
