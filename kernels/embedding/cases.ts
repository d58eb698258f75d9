/** The cases of `embedding` and of `dequantize`; the widest tables are large enough for several threads. */
import type { DType } from "../../lib/dtype.ts";

/** A table [vocabSize, hiddenSize] and the ids to look up. */
export interface EmbeddingCase {
  readonly dtype: DType;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly rows: number;
}

const DENSE: readonly DType[] = ["f32", "f16", "bf16"];
const BLOCKS_OF_32: readonly DType[] = ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0"];
const BLOCKS_OF_256: readonly DType[] = ["q4_k", "q6_k"];

function casesOf(dtypes: readonly DType[], widths: readonly number[]): EmbeddingCase[] {
  return dtypes.flatMap((dtype) =>
    widths.flatMap((hiddenSize) =>
      [0, 1, 33, 989].map((rows) => ({ dtype, vocabSize: 37, hiddenSize, rows }))
    )
  );
}

export const EMBEDDING_CASES: readonly EmbeddingCase[] = [
  ...casesOf(DENSE, [1, 31, 32, 33, 989]),
  ...casesOf(BLOCKS_OF_32, [32, 96, 1056]),
  ...casesOf(BLOCKS_OF_256, [256, 1024]),
];
