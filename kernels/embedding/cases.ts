/** The cases of `embedding` and of `dequantize`; the largest tables are cut into ranges for several threads. */
import type { DType } from "../../lib/dtype.ts";
import { type Calls, WEIGHTS } from "../testing/fuzz/draw.ts";

/** A table [vocabSize, hiddenSize] and the ids to look up. */
interface EmbeddingCase {
  readonly dtype: DType;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly rows: number;
}

const DENSE: readonly DType[] = ["f32", "f16", "bf16"];
const BLOCKS_OF_32: readonly DType[] = ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0"];
const BLOCKS_OF_256: readonly DType[] = ["q4_k", "q6_k"];
/** Types that are unpacked their own way, and looked up as the others of their block's size. */
const MORE: readonly DType[] = ["iq4_nl", "mxfp4", "q2_k", "q3_k", "q5_k", "iq4_xs"];

function casesOf(
  dtypes: readonly DType[],
  vocabSize: number,
  widths: readonly number[],
  rows: readonly number[] = [0, 1, 33, 989],
): EmbeddingCase[] {
  return dtypes.flatMap((dtype) =>
    widths.flatMap((hiddenSize) => rows.map((rows) => ({ dtype, vocabSize, hiddenSize, rows })))
  );
}

export const EMBEDDING_CASES: readonly EmbeddingCase[] = [
  ...casesOf(DENSE, 263, [1, 31, 32, 33, 127]),
  ...casesOf(BLOCKS_OF_32, 67, [32, 96, 576]),
  ...casesOf(BLOCKS_OF_256, 67, [256, 512]),
  ...casesOf(MORE, 67, [512], [33]),
];

export const CALLS: Calls = {
  tkf_tensor_dequantize(d) {
    const dtype = d.pick(WEIGHTS), count = d.columns(dtype);
    return { values: d.values(dtype, count), out: d.room("f32", count), count, dtype };
  },
  tkf_embedding_gather(d) {
    const dtype = d.pick(WEIGHTS), vocab = d.size(6, 1), cols = d.columns(dtype), rows = d.size(9);
    const table = d.values(dtype, vocab * cols), ids = d.indices(rows, vocab);
    const scale = d.pick([1, 1, 24]);
    return { table, ids, out: d.room("f32", rows * cols), vocab, cols, rows, scale, dtype };
  },
};
