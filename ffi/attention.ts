/** The wrapper of `tkf_attention_filtered`. */
import type { AttentionArgs } from "../lib/backend.ts";
import { DTYPES } from "../lib/dtype.ts";
import { expectTensor, type Tensor } from "../lib/tensor.ts";
import type { KernelContext } from "./context.ts";
import { type Buffer, setInts } from "./symbols.ts";

/** Bytes of `tkf_attention_shape`. */
const SHAPE_BYTES = 56;

/** Checks a cache or ring of `used` rows: keys, values and positions with room for at least that many. */
function expectCache(
  name: string,
  keys: Tensor,
  values: Tensor,
  positions: Tensor,
  used: number,
  [numKvHeads, headDim]: readonly number[],
): void {
  expectTensor(`${name}Keys`, keys, ["f32", "f16", "bf16"], [-1, numKvHeads, headDim]);
  expectTensor(`${name}Values`, values, keys.dtype, [-1, numKvHeads, headDim]);
  expectTensor(`${name}Positions`, positions, "i32", [-1]);
  const room = Math.min(keys.shape[0], values.shape[0], positions.shape[0]);
  if (!Number.isSafeInteger(used) || used < 0 || used > room) {
    throw new RangeError(`Cannot use ${used} ${name} rows: expected 0 to ${room}, the rows of its tensors`);
  }
}

/**
 * {@linkcode Backend.attention} over the C ABI.
 *
 * @param at where a tensor lies
 * @param run makes the call, and throws where it fails
 */
export function callAttention(
  context: KernelContext,
  args: AttentionArgs,
  at: (tensor: Tensor) => Buffer,
  run: (call: () => number) => void,
): void {
  const { queries, queryPositions, keys, values, keyPositions, numKeys, numRecent, recent, scale, out } =
    args;
  const { recentKeys, recentValues, recentPositions } = args;
  expectTensor("queries", queries, "f32", [-1, -1, -1]);
  const [numQueries, numHeads, headDim] = queries.shape;
  expectTensor("queryPositions", queryPositions, "i32", [numQueries]);
  expectTensor("out", out, "f32", queries.shape);
  const numKvHeads = keys.shape[1];
  expectCache("cached", keys, values, keyPositions, numKeys, [numKvHeads, headDim]);
  expectCache("recent", recentKeys, recentValues, recentPositions, numRecent, [numKvHeads, headDim]);
  expectTensor("recentKeys", recentKeys, keys.dtype, recentKeys.shape);

  const shape = new DataView(new ArrayBuffer(SHAPE_BYTES));
  [numQueries, numKeys, numRecent].forEach((size, i) => shape.setBigInt64(8 * i, BigInt(size), true));
  setInts(shape, 24, {
    numHeads,
    numKvHeads,
    headDim,
    kvDtype: DTYPES[keys.dtype].code,
    recent,
    reserved: 0,
  });
  shape.setFloat64(48, scale, true);

  const { symbols, pointer } = context;
  const cached = [...at(keys), ...at(values), ...at(keyPositions)] as const;
  const near = [...at(recentKeys), ...at(recentValues), ...at(recentPositions)] as const;
  const q = at(queries), p = at(queryPositions), o = at(out);
  run(() =>
    symbols.tkf_attention_filtered(pointer, shape, SHAPE_BYTES, ...q, ...p, ...cached, ...near, ...o)
  );
}
