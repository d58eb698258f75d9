/** The wrapper of `tkf_attention_filtered`. */
import type { AttentionArgs } from "../lib/backend.ts";
import type { DType } from "../lib/dtype.ts";
import { expectTensor, type Tensor } from "../lib/tensor.ts";
import type { KernelContext } from "./context.ts";

/** Element types of keys and values. */
const CACHED: readonly DType[] = ["f32", "f16", "bf16"];

/** Checks a cache or ring of `used` rows: keys, values, positions and ends with room for at least that many. */
function expectCache(
  name: string,
  keys: Tensor,
  values: Tensor,
  positions: Tensor,
  used: number,
  [numKvHeads, headDim]: readonly [number, number],
  ends: Tensor = positions,
): void {
  expectTensor(`${name}Keys`, keys, CACHED, [-1, numKvHeads, headDim]);
  expectTensor(`${name}Values`, values, keys.dtype, [-1, numKvHeads, headDim]);
  expectTensor(`${name}Positions`, positions, "i32", [-1]);
  expectTensor(`${name}Ends`, ends, "i32", [-1]);
  const room = Math.min(...[keys, values, positions, ends].map(({ shape }) => shape[0]!));
  if (!Number.isSafeInteger(used) || used < 0 || used > room) {
    throw new RangeError(`Cannot use ${used} ${name} rows: expected 0 to ${room}, the rows of its tensors`);
  }
}

export function callAttention(context: KernelContext, args: AttentionArgs): void {
  const { queries, queryPositions, keys, values, keyPositions, numKeys, numRecent, recent, scale, out } =
    args;
  const { recentKeys, recentValues, recentPositions, keyEnds, windows, sinks = 0, shares, changes } = args;
  const { shareDistance = 0, kvPlaces } = args;
  const [numQueries, heads, headDim] = expectTensor("queries", queries, "f32", [-1, -1, -1]);
  expectTensor("queryPositions", queryPositions, "i32", [numQueries]);
  expectTensor("out", out, "f32", queries.shape);
  const [, numKvHeads] = expectTensor("cachedKeys", keys, CACHED, [-1, -1, headDim]);
  expectCache("cached", keys, values, keyPositions, numKeys, [numKvHeads, headDim], keyEnds);
  expectCache("recent", recentKeys, recentValues, recentPositions, numRecent, [numKvHeads, headDim]);
  expectTensor("recentKeys", recentKeys, keys.dtype, recentKeys.shape);
  if (kvPlaces !== undefined) expectTensor("kvPlaces", kvPlaces.places, "i32", [numKvHeads]);
  if (windows !== undefined) expectTensor("windows", windows, "i32", [numQueries]);
  if (shares !== undefined) expectTensor("shares", shares, "f64", [-1, -1]);
  if (changes !== undefined) {
    expectTensor("changes", changes.out, "f64", shares?.shape ?? [0, 0]);
    expectTensor("headWeights", changes.headWeights, "f32", [heads]);
  }
  context.call("tkf_attention_filtered", {
    queries,
    query_positions: queryPositions,
    keys,
    values,
    key_positions: keyPositions,
    recent_keys: recentKeys,
    recent_values: recentValues,
    recent_positions: recentPositions,
    out,
    key_ends: keyEnds ?? null,
    windows: windows ?? null,
    kv_places: kvPlaces?.places ?? null,
    shares: shares ?? null,
    num_shares: shares?.shape[1] ?? 0,
    changes: changes?.out ?? null,
    head_weights: changes?.headWeights ?? null,
    num_queries: numQueries,
    num_keys: numKeys,
    num_recent: numRecent,
    heads,
    kv_heads: numKvHeads,
    query_kv_heads: kvPlaces?.of ?? numKvHeads,
    head_dim: headDim,
    kv_dtype: keys.dtype,
    recent_window: recent,
    sinks,
    share_distance: shareDistance,
    scale,
  });
}
