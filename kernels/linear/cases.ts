/**
 * The cases of `linear`: every weight type, sizes on both sides of every block, tile and thread boundary, and of the
 * 2,048 values whose scales are made at once.
 */
import type { Gate } from "../../lib/backend.ts";
import type { DType } from "../../lib/dtype.ts";
import { GATES } from "../swiglu/cases.ts";
import { type Calls, WEIGHTS } from "../testing/fuzz/draw.ts";

/** One product: x [rows, k] times the transpose of weight [n, k]. */
export interface LinearCase {
  readonly dtype: DType;
  readonly rows: number;
  readonly n: number;
  readonly k: number;
}

const DENSE: readonly DType[] = ["f32", "f16", "bf16"];
const BLOCKS_OF_32: readonly DType[] = ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0"];
const BLOCKS_OF_256: readonly DType[] = ["q4_k", "q6_k"];

/** Types that are unpacked their own way, and multiplied as the others of their block's size. */
const MORE_OF_32: readonly DType[] = ["iq4_nl", "mxfp4"];
const MORE_OF_256: readonly DType[] = ["q2_k", "q3_k", "q5_k", "iq4_xs"];

function casesOf(
  dtypes: readonly DType[],
  sizes: readonly (readonly [number, number])[],
  rows: readonly number[] = [0, 1, 2, 3, 4, 5, 7, 8, 9, 31, 130],
): LinearCase[] {
  return dtypes.flatMap((dtype) => sizes.flatMap(([n, k]) => rows.map((rows) => ({ dtype, rows, n, k }))));
}

/** Types of all cases: one for each way of multiplying. */
export const MULTIPLIED: readonly DType[] = [...DENSE, ...BLOCKS_OF_32, ...BLOCKS_OF_256];

export const LINEAR_CASES: readonly LinearCase[] = [
  ...casesOf(DENSE, [[1, 1], [0, 5], [3, 0], [2, 31], [33, 32], [5, 33], [127, 127], [7, 2077]]),
  ...casesOf(BLOCKS_OF_32, [[1, 32], [0, 32], [3, 0], [33, 96], [127, 64], [3, 2112], [66, 1056]]),
  ...casesOf(BLOCKS_OF_256, [[1, 256], [0, 256], [3, 0], [33, 256], [5, 2304], [31, 1280]]),
  ...casesOf(MORE_OF_32, [[33, 96], [3, 2112]], [1, 2, 3, 8, 31, 70]),
  ...casesOf(MORE_OF_256, [[33, 256], [5, 2304]], [1, 2, 3, 8, 31, 70]),
  ...casesOf(["f16", "bf16"], [[70, 1064]], [5, 8, 12, 16]),
  ...casesOf(["f32", "q4_0"], [[300, 1024], [35, 2048]], [20, 45, 130]), // rows a power of two apart
  ...casesOf(["f32", "q8_0"], [[70, 64]], [200, 300]), // rows enough to share panels
];

/** Products of one x; with a gate the first two are one result. */
export interface ProductsCase {
  readonly dtypes: readonly DType[];
  readonly ns: readonly number[];
  readonly rows: number;
  readonly k: number;
  readonly gate?: Gate;
}

/** Products of like and of unlike matrices, and of none; for all ways of multiplying. */
export const PRODUCTS_CASES: readonly ProductsCase[] = [1, 2, 4, 7, 12, 20, 70].flatMap((rows) => [
  ...[...MULTIPLIED, "iq4_nl" as const].flatMap((dtype) => [
    { dtypes: [dtype, dtype, dtype], ns: [35, 9, 16], rows, k: 256 },
    ...GATES.map((gate) => ({ dtypes: [dtype, dtype], ns: [35, 35], rows, k: 256, gate })),
  ]),
  { dtypes: ["q4_k", "q4_k", "q6_k"], ns: [5, 0, 33], rows, k: 512 },
  { dtypes: ["f32", "bf16"], ns: [3, 7], rows, k: 33 },
  { dtypes: ["q8_0", "f16"], ns: [6, 6], rows, k: 64, gate: "swiglu" },
  { dtypes: ["bf16", "bf16"], ns: [1, 1], rows, k: 0, gate: "geglu" },
  { dtypes: [], ns: [], rows, k: 3 },
]);

export const CALLS: Calls = {
  tkf_linear_apply(d) {
    const dtype = d.pick(WEIGHTS), k = d.columns(dtype), rows = d.size(d.pick([4, 30]));
    const gate = d.pick([0, 0, 0, 1, 2]), n = d.size(20);
    const product = (n: number) => {
      return { weight: d.values(dtype, n * k), out: d.room("f32", rows * n), n, dtype };
    };
    const [first, second] = [product(n), product(gate === 0 ? d.size(20) : n)];
    const third = gate === 0 ? product(d.size(20)) : { weight: null, out: null, n: 0, dtype: 0 };
    const kept = gate === 0 ? d.kept(rows) : { kept: null, kept_count: null };
    return { x: d.floats(rows * k), ...kept, first, second, third, rows, k, same_x: 0, gate };
  },
};
