/** Filtered attention of one sequence (prefill, or one query over a cache), and decode of a batch. */
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
import type { TorchJob } from "./python.ts";
import type { BenchCase } from "./run.ts";
import { expectClose, type FloatType, i32, numbers, randomTensor } from "./tensors.ts";

/** Sizes of an attention. */
export interface AttentionSizes {
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
}

/** The tokens of a call. */
export interface Selection {
  readonly asking: readonly number[];
  readonly cached: readonly number[];
  /** Skipped tokens that are passed to the call; only those within `recent` tokens are attended to. */
  readonly skipped: readonly number[];
  readonly recent: number;
}

/** Largest difference to the reference, by type of the cache: a GPU's tensor cores round their sums' factors. */
const TOLERANCE = {
  cpu: { f32: 1e-5, f16: 1e-5, bf16: 1e-5 },
  cuda: { f32: 1e-4, f16: 2e-3, bf16: 2e-2 },
} as const;
/** Queries that are compared with the reference. */
const SAMPLES = 8;

const toleranceOf = ({ name }: Backend, dtype: FloatType) => TOLERANCE[name as "cpu" | "cuda"][dtype];
const words = ({ numHeads, numKvHeads, headDim }: AttentionSizes) =>
  `heads=${numHeads} kvHeads=${numKvHeads} headDim=${headDim}`;

/** Keeps all tokens, or a fraction of them at random past a warm-up of 32. */
export function chooseKept(tokens: number, skip: number): { kept: number[]; skipped: number[] } {
  const next = numbers(4), kept: number[] = [], skipped: number[] = [];
  for (let t = 0; t < tokens; t++) {
    (t < 32 || t === tokens - 1 || next() >= 2 * skip - 1 ? kept : skipped).push(t);
  }
  return { kept, skipped };
}

/** Number of pairs of a query and a key that it attends to. */
export function countPairs({ asking, cached, skipped, recent }: Selection): number {
  let pairs = 0, seen = 0, low = 0, high = 0;
  for (const position of asking) {
    while (seen < cached.length && cached[seen]! <= position) seen++;
    while (high < skipped.length && skipped[high]! <= position) high++;
    while (low < high && position - skipped[low]! > recent) low++;
    pairs += seen + high - low;
  }
  return pairs;
}

/** Attention of one sequence. */
export interface AttentionPlan {
  readonly impl: string;
  readonly phase: "prefill" | "decode";
  readonly dtype: FloatType;
  readonly tokens: number;
  /** Fraction of tokens skipped. */
  readonly skip?: number;
  readonly recent?: number;
  /** Switches another kernel on, and off afterwards. */
  readonly use?: (on: boolean) => void;
}

/** A case, with the tensors of its call and the job of PyTorch that computes the same. */
export interface AttentionCase extends BenchCase {
  readonly args: AttentionArgs;
  readonly job: TorchJob;
}

/** Attention of one sequence. A prefill with skipped tokens gathers its rows each time; a cache is compact already. */
export function attentionCase(
  backend: Backend,
  sizes: AttentionSizes,
  { impl, phase, dtype, tokens, skip = 0, recent = 0, use = () => {} }: AttentionPlan,
): AttentionCase {
  const { numHeads, numKvHeads, headDim } = sizes, isPrefill = phase === "prefill";
  const { kept, skipped } = chooseKept(tokens, skip);
  const selection = {
    asking: isPrefill ? kept : [tokens - 1],
    cached: kept,
    // A runner passes all skipped tokens in a prefill, and those of the ring in a decode step.
    skipped: skipped.filter((t) => recent > 0 && (isPrefill || tokens - 1 - t <= recent)),
    recent,
  };
  const { asking, cached, skipped: near } = selection;
  const gathers: (() => void)[] = [];
  const draw = (type: FloatType, rows: number, heads: number, seed: number) =>
    randomTensor(backend, type, [rows, heads * headDim], seed);
  const shaped = (tensor: Tensor) => ({
    ...tensor,
    shape: [tensor.shape[0]!, tensor.shape[1]! / headDim, headDim],
  });
  const gather = (from: Tensor, rows: readonly number[]) => {
    if (rows.length === from.shape[0]) return shaped(from);
    const to = backend.alloc(from.dtype, [rows.length, from.shape[1]!]), list = i32(backend, rows);
    if (rows.length > 0) gathers.push(() => backend.gatherRows(from, list, to));
    return shaped(to);
  };
  const all = {
    queries: draw("f32", isPrefill ? tokens : 1, numHeads, 6),
    keys: draw(dtype, tokens, numKvHeads, 7),
    values: draw(dtype, tokens, numKvHeads, 8),
  };
  const queries = gather(all.queries, asking);
  const args: AttentionArgs = {
    queries,
    queryPositions: i32(backend, asking),
    keys: gather(all.keys, cached),
    values: gather(all.values, cached),
    keyPositions: i32(backend, cached),
    numKeys: cached.length,
    recentKeys: gather(all.keys, near),
    recentValues: gather(all.values, near),
    recentPositions: i32(backend, near),
    numRecent: near.length,
    recent,
    scale: 1 / Math.sqrt(headDim),
    out: backend.alloc("f32", queries.shape),
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
    shape: `T=${tokens} ${words(sizes)}`,
    flops: 4 * headDim * numHeads * countPairs(selection),
    bytes: byteSize("f32", 2 * asking.length * numHeads * headDim) +
      byteSize(dtype, 2 * (cached.length + near.length) * numKvHeads * headDim),
    job: {
      ...{ op: "attention", dtype, batch: 1, asking: isPrefill ? tokens : 1, rows: tokens },
      ...{ heads: numHeads, kvHeads: numKvHeads, dim: headDim },
    },
    verify() {
      run();
      expectQueries(
        `${phase} with ${skip} skipped, recent ${recent}`,
        backend,
        args,
        toleranceOf(backend, dtype),
      );
    },
  };
}

/** Compares some rows of a call's output with the reference. */
function expectQueries(what: string, backend: Backend, onDevice: AttentionArgs, tolerance: number): void {
  const read = (value: Tensor | number) => typeof value === "number" ? value : backend.read(value);
  const args = Object.fromEntries(
    Object.entries(onDevice).map(([name, value]) => [name, read(value)]),
  ) as unknown as AttentionArgs;
  const count = args.queries.shape[0]!,
    row = (tensor: Tensor, i: number) => rowsOf(tensor as HostTensor, i, i + 1);
  for (let sample = 0; sample < Math.min(SAMPLES, count); sample++) {
    const i = Math.floor(sample * (count - 1) / (SAMPLES - 1));
    const queries = row(args.queries, i), out = emptyTensor("f32", queries.shape);
    new ReferenceBackend().attention({ ...args, queries, queryPositions: row(args.queryPositions, i), out });
    expectClose(`${what}, query ${i}`, f32Data(row(args.out, i)), f32Data(out), tolerance);
  }
}

/** Decode of `batch` sequences over `rows` cached rows each: `kept` are computed, `near` skipped rows are recent. */
export function decodeCase(
  backend: Backend,
  sizes: AttentionSizes,
  dtype: FloatType,
  { batch, rows, kept, near }: { batch: number; rows: number; kept: number; near: number },
): BenchCase & { readonly job: TorchJob } {
  const { numHeads, numKvHeads, headDim } = sizes, perToken = 2 * numKvHeads * headDim;
  const repeat = (values: readonly number[]) => {
    const tensor = i32(backend, Array.from({ length: batch }, () => values).flat());
    return values.length === 1 ? tensor : { ...tensor, shape: [batch, values.length] };
  };
  const draw = (type: FloatType, shape: readonly number[], seed: number) =>
    randomTensor(backend, type, [batch, ...shape, headDim], seed);
  const cache: BatchCache = {
    keys: draw(dtype, [rows, numKvHeads], 1),
    values: draw(dtype, [rows, numKvHeads], 2),
    positions: repeat(Array.from({ length: rows }, (_, i) => i)),
    counts: repeat([rows]),
    recentKeys: draw(dtype, [near, numKvHeads], 3),
    recentValues: draw(dtype, [near, numKvHeads], 4),
    recentPositions: repeat(
      Array.from({ length: near }, (_, slot) => rows + (slot - rows % near + near) % near),
    ),
  };
  const keep = Uint8Array.from({ length: batch }, (_, b) => b % Math.round(batch / kept) === 0 ? 1 : 0);
  const list = Array.from(keep.keys()).filter((b) => keep[b] === 1);
  const decisions: BatchDecisions = {
    keep: backend.upload(hostTensor("u8", [batch], keep)),
    kept: i32(backend, [...list, ...new Array(batch - list.length).fill(0)]),
    keptCount: i32(backend, [list.length, 0]),
  };
  const queries = draw("f32", [numHeads], 5), out = backend.alloc("f32", queries.shape);
  const positions = repeat([rows + near]), scale = 1 / Math.sqrt(headDim);
  const run = () => backend.attentionDecode(cache, queries, positions, decisions, scale, out);
  return {
    ...{ op: "attention_decode", impl: "tokenfilter", phase: "decode", dtype, run },
    shape: `batch=${batch} cache=${rows}${near > 0 ? `+${near}` : ""} kept=${list.length} ${words(sizes)}`,
    skip: 1 - list.length / batch,
    flops: 2 * list.length * (rows + near) * numHeads * headDim * 2,
    bytes: byteSize(dtype, list.length * (rows + near) * perToken),
    job: {
      op: "attention",
      dtype,
      batch,
      asking: 1,
      rows,
      heads: numHeads,
      kvHeads: numKvHeads,
      dim: headDim,
    },
    verify() {
      run();
      const reference = new ReferenceBackend(),
        found = f32Data(backend.read(out)),
        width = numHeads * headDim;
      const one = { keep: Uint8Array.of(1), kept: Int32Array.of(0), keptCount: Int32Array.of(1, 0) };
      const kept: BatchDecisions = {
        keep: hostTensor("u8", [1], one.keep),
        kept: hostTensor("i32", [1], one.kept),
        keptCount: hostTensor("i32", [2], one.keptCount),
      };
      for (const b of [list[0]!, list.at(-1)!]) {
        const own = (tensor: Tensor) => rowOf(backend, tensor, b);
        const rowsOfCache = Object.fromEntries(
          Object.entries(cache).map(([name, tensor]) => [name, own(tensor)]),
        ) as unknown as BatchCache;
        const expected = emptyTensor("f32", [1, numHeads, headDim]);
        reference.attentionDecode(rowsOfCache, own(queries), own(positions), kept, scale, expected);
        const got = found.subarray(b * width, (b + 1) * width);
        expectClose(`decode attention, ${dtype}`, got, f32Data(expected), toleranceOf(backend, dtype));
      }
    },
  };
}

/** One row of a tensor, as a batch of one on the host. */
export function rowOf(backend: Backend, tensor: Tensor, index: number): HostTensor {
  const row = backend.read(backend.row(tensor, index));
  return { ...row, shape: [1, ...row.shape] };
}
