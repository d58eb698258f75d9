/** Filtered attention of one sequence (prefill, or one query over a cache), and decode of a batch. */
import { numbers } from "../../../kernels/testing/inputs.ts";
import type { AttentionArgs, Backend } from "../../../lib/backend.ts";
import type { BatchCache, BatchDecisions } from "../../../lib/batch_ops.ts";
import { byteSize } from "../../../lib/dtype.ts";
import { ReferenceBackend } from "../../../lib/reference/mod.ts";
import {
  emptyTensor,
  f32Data,
  type HostTensor,
  hostTensor,
  rowsOf,
  type Tensor,
} from "../../../lib/tensor.ts";
import type { BenchCase, TorchJob } from "./run.ts";
import { expectClose, type FloatType, i32, mapTensors, randomTensor, rowOf } from "./tensors.ts";

/** Sizes of an attention. */
interface AttentionSizes {
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
}

/** Largest difference to the reference, by type of the cache: a GPU's tensor cores round their sums' factors. */
const TOLERANCE = {
  cpu: { f32: 1e-5, f16: 1e-5, bf16: 1e-5 },
  cuda: { f32: 1e-4, f16: 2e-3, bf16: 2e-2 },
} as const;
/** Attention in full, with half of the tokens skipped, and with those of a window near to each query again. */
export const SKIPS = [{}, { skip: 0.5 }, { skip: 0.5, recent: 16 }] as const;
/** Queries that are compared with the reference. */
const SAMPLES = 8;

const toleranceOf = ({ name }: Backend, dtype: FloatType) => TOLERANCE[name as "cpu" | "cuda"][dtype];
const describe = ({ numHeads, numKvHeads, headDim }: AttentionSizes) =>
  `heads=${numHeads} kvHeads=${numKvHeads} headDim=${headDim}`;
const jobOf = (
  { numHeads, numKvHeads, headDim }: AttentionSizes,
  more: { readonly dtype: FloatType; readonly batch: number; readonly asking: number; readonly rows: number },
): TorchJob => ({ op: "attention", heads: numHeads, kvHeads: numKvHeads, dim: headDim, ...more });

/** Keeps all tokens, or a fraction of them at random past a warm-up of 32. */
function chooseKept(tokens: number, skip: number): { kept: number[]; skipped: number[] } {
  const next = numbers(4), kept: number[] = [], skipped: number[] = [];
  for (let t = 0; t < tokens; t++) {
    (t < 32 || t === tokens - 1 || next() >= 2 * skip - 1 ? kept : skipped).push(t);
  }
  return { kept, skipped };
}

/** Number of pairs of a query and a key that it attends to: cached ones, and skipped ones within `recent` tokens. */
function countPairs(
  { asking, cached, skipped, recent }:
    & Readonly<Record<"asking" | "cached" | "skipped", readonly number[]>>
    & {
      readonly recent: number;
    },
): number {
  let pairs = 0, seen = 0, low = 0, high = 0;
  for (const position of asking) {
    while (seen < cached.length && cached[seen]! <= position) seen++;
    while (high < skipped.length && skipped[high]! <= position) high++;
    while (low < high && position - skipped[low]! > recent) low++;
    pairs += seen + high - low;
  }
  return pairs;
}

/**
 * Attention of one sequence. A prefill with skipped tokens gathers its rows each time; a cache is compact already.
 *
 * @param plan.skip Fraction of tokens skipped.
 * @param plan.use Switches another kernel on, and off afterwards.
 */
export function attentionCase(
  backend: Backend,
  sizes: AttentionSizes,
  { impl, phase, dtype, tokens, skip = 0, recent = 0, use = () => {} }:
    & { readonly impl: string; readonly phase: "prefill" | "decode"; readonly dtype: FloatType }
    & { readonly tokens: number; readonly skip?: number; readonly recent?: number }
    & { readonly use?: (on: boolean) => void },
): BenchCase {
  const { numHeads, numKvHeads, headDim } = sizes, isPrefill = phase === "prefill";
  const { kept: cached, skipped } = chooseKept(tokens, skip), asking = isPrefill ? cached : [tokens - 1];
  // A runner passes all skipped tokens in a prefill, and those of the ring in a decode step.
  const near = skipped.filter((t) => recent > 0 && (isPrefill || tokens - 1 - t <= recent));
  const gathers: (() => void)[] = [];
  const draw = (type: FloatType, rows: number, heads: number, seed: number) =>
    randomTensor(backend, type, [rows, heads * headDim], seed);
  const gather = (from: Tensor, rows: readonly number[]) => {
    const isAll = rows.length === from.shape[0], width = from.shape[1]!;
    const to = isAll ? from : backend.alloc(from.dtype, [rows.length, width]), list = i32(backend, rows);
    if (!isAll && rows.length > 0) gathers.push(() => backend.gatherRows(from, list, to));
    return { ...to, shape: [rows.length, width / headDim, headDim] };
  };
  const queries = gather(draw("f32", isPrefill ? tokens : 1, numHeads, 6), isPrefill ? asking : [0]);
  const keys = draw(dtype, tokens, numKvHeads, 7), values = draw(dtype, tokens, numKvHeads, 8);
  const args: AttentionArgs = {
    ...{
      queries,
      queryPositions: i32(backend, asking),
      numKeys: cached.length,
      numRecent: near.length,
      recent,
    },
    ...{ keys: gather(keys, cached), values: gather(values, cached), keyPositions: i32(backend, cached) },
    ...{
      recentKeys: gather(keys, near),
      recentValues: gather(values, near),
      recentPositions: i32(backend, near),
    },
    ...{ scale: 1 / Math.sqrt(headDim), out: backend.alloc("f32", queries.shape) },
  };
  if (!isPrefill) gathers.splice(0).forEach((copy) => copy());
  const run = () => {
    gathers.forEach((copy) => copy());
    use(true);
    backend.attention(args);
    use(false);
  };
  return {
    ...{ op: "filtered_attention", impl, phase, dtype, skip, recent, args, run },
    shape: `T=${tokens} ${describe(sizes)}`,
    flops: 4 * headDim * numHeads * countPairs({ asking, cached, skipped: near, recent }),
    bytes: byteSize("f32", 2 * asking.length * numHeads * headDim) +
      byteSize(dtype, 2 * (cached.length + near.length) * numKvHeads * headDim),
    job: jobOf(sizes, { dtype, batch: 1, asking: isPrefill ? tokens : 1, rows: tokens }),
    verify() {
      run();
      const what = `${phase} with ${skip} skipped, recent ${recent}`;
      const found = mapTensors(args, (tensor) => backend.read(tensor)), count = asking.length;
      const row = (tensor: Tensor, i: number) => rowsOf(tensor as HostTensor, i, i + 1);
      for (let sample = 0; sample < Math.min(SAMPLES, count); sample++) {
        const i = Math.floor(sample * (count - 1) / (SAMPLES - 1));
        const queries = row(found.queries, i), out = emptyTensor("f32", queries.shape);
        new ReferenceBackend().attention({
          ...found,
          queries,
          queryPositions: row(found.queryPositions, i),
          out,
        });
        expectClose(
          `${what}, query ${i}`,
          f32Data(row(found.out, i)),
          f32Data(out),
          toleranceOf(backend, dtype),
        );
      }
    },
  };
}

/** A step's decisions to keep the slots of a list, as kernels read them. */
const decisionsOf = (
  batch: number,
  list: readonly number[],
  on: (tensor: HostTensor) => Tensor,
): BatchDecisions => ({
  keep: on(hostTensor("u8", [batch], Uint8Array.from({ length: batch }, (_, b) => list.includes(b) ? 1 : 0))),
  kept: on(hostTensor("i32", [batch], Int32Array.from({ length: batch }, (_, i) => list[i] ?? 0))),
  keptCount: on(hostTensor("i32", [2], Int32Array.of(list.length, 0))),
});

/** Decode of `batch` sequences over `rows` cached rows each: `kept` are computed, `near` skipped rows are recent. */
export function decodeCase(
  backend: Backend,
  sizes: AttentionSizes,
  dtype: FloatType,
  { batch, rows, kept, near }: Readonly<Record<"batch" | "rows" | "kept" | "near", number>>,
): BenchCase {
  const { numHeads, numKvHeads, headDim } = sizes;
  const repeat = (values: readonly number[]) => ({
    ...i32(backend, Array.from({ length: batch }, () => values).flat()),
    shape: values.length === 1 ? [batch] : [batch, values.length],
  });
  const draw = (type: FloatType, shape: readonly number[], seed: number) =>
    randomTensor(backend, type, [batch, ...shape, headDim], seed);
  const ring = Array.from({ length: near }, (_, slot) => rows + (slot - rows % near + near) % near);
  const cache: BatchCache = {
    ...{
      keys: draw(dtype, [rows, numKvHeads], 1),
      values: draw(dtype, [rows, numKvHeads], 2),
      counts: repeat([rows]),
    },
    ...{ recentKeys: draw(dtype, [near, numKvHeads], 3), recentValues: draw(dtype, [near, numKvHeads], 4) },
    ...{ positions: repeat(Array.from({ length: rows }, (_, i) => i)), recentPositions: repeat(ring) },
  };
  const list = Array.from({ length: batch }, (_, b) => b).filter((b) => b % Math.round(batch / kept) === 0);
  const decisions = decisionsOf(batch, list, (tensor) => backend.upload(tensor)),
    scale = 1 / Math.sqrt(headDim);
  const queries = draw("f32", [numHeads], 5),
    out = backend.alloc("f32", queries.shape),
    positions = repeat([rows + near]);
  const run = () => backend.attentionDecode(cache, queries, positions, decisions, scale, out);
  return {
    ...{ op: "attention_decode", impl: "tokenfilter", phase: "decode", dtype, run },
    shape: `batch=${batch} cache=${rows}${near > 0 ? `+${near}` : ""} kept=${list.length} ${describe(sizes)}`,
    skip: 1 - list.length / batch,
    flops: 2 * list.length * (rows + near) * numHeads * headDim * 2,
    bytes: byteSize(dtype, list.length * (rows + near) * 2 * numKvHeads * headDim),
    job: jobOf(sizes, { dtype, batch, asking: 1, rows }),
    verify() {
      run();
      const found = f32Data(backend.read(out)),
        width = numHeads * headDim,
        all = decisionsOf(1, [0], (own) => own);
      for (const b of [list[0]!, list.at(-1)!]) {
        const own = (tensor: Tensor) => rowOf(backend, tensor, b),
          expected = emptyTensor("f32", [1, numHeads, headDim]);
        const one = mapTensors(cache, own);
        new ReferenceBackend().attentionDecode(one, own(queries), own(positions), all, scale, expected);
        const got = found.subarray(b * width, (b + 1) * width);
        expectClose(`decode attention, ${dtype}`, got, f32Data(expected), toleranceOf(backend, dtype));
      }
    },
  };
}
