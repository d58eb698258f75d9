/** Races of filtered attention on a GPU: decode over a cache of a batch, and prefill. */
import type { AttentionArgs } from "../../../lib/backend.ts";
import type { BatchCache, BatchDecisions } from "../../../lib/batch_ops.ts";
import type { Backend } from "../../../lib/backend.ts";
import { ReferenceBackend } from "../../../lib/reference/mod.ts";
import { emptyTensor, f32Data, hostTensor, rowsOf, type Tensor } from "../../../lib/tensor.ts";
import { attentionArgs, chooseKept, countPairs, expectQueries } from "../bench/attention_call.ts";
import { expectClose } from "../bench/run.ts";
import { bytesOf, type FloatType, type Gpu, i32, randomTensor } from "./device.ts";
import type { GpuBenchCase } from "./row.ts";

/** Sizes of an attention. */
export interface AttentionSizes {
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
}

/** Largest difference to the reference that is taken for right, by type. */
const TOLERANCE: { readonly [D in FloatType]: number } = { f32: 1e-4, f16: 2e-3, bf16: 2e-2 };
const words = ({ numHeads, numKvHeads, headDim }: AttentionSizes) =>
  `heads=${numHeads}/${numKvHeads} d=${headDim}`;

/** Decode of `batch` sequences over `rows` cached rows each: `kept` are computed, `near` skipped rows are recent. */
export function decodeCase(
  gpu: Gpu,
  sizes: AttentionSizes,
  dtype: FloatType,
  { batch, rows, kept, near }: { batch: number; rows: number; kept: number; near: number },
): GpuBenchCase {
  const { backend } = gpu, { numHeads, numKvHeads, headDim } = sizes;
  const position = rows + near;
  const repeat = (values: readonly number[]) =>
    i32(backend, Array.from({ length: batch }, () => values).flat());
  const shaped = (tensor: Tensor, shape: readonly number[]) => ({ ...tensor, shape });
  const cache: BatchCache = {
    keys: randomTensor(gpu, dtype, [batch, rows, numKvHeads, headDim], 1),
    values: randomTensor(gpu, dtype, [batch, rows, numKvHeads, headDim], 2),
    positions: shaped(repeat(Array.from({ length: rows }, (_, i) => i)), [batch, rows]),
    counts: repeat([rows]),
    recentKeys: randomTensor(gpu, dtype, [batch, near, numKvHeads, headDim], 3),
    recentValues: randomTensor(gpu, dtype, [batch, near, numKvHeads, headDim], 4),
    recentPositions: shaped(
      repeat(Array.from({ length: near }, (_, slot) => rows + (slot - rows % near + near) % near)),
      [batch, near],
    ),
  };
  const keep = Uint8Array.from({ length: batch }, (_, b) => b % Math.round(batch / kept) === 0 ? 1 : 0);
  const list = Array.from(keep.keys()).filter((b) => keep[b] === 1);
  const decisions: BatchDecisions = {
    keep: backend.upload(hostTensor("u8", [batch], keep)),
    kept: i32(backend, [...list, ...new Array(batch - list.length).fill(0)]),
    keptCount: i32(backend, [list.length, 0]),
  };
  const queries = randomTensor(gpu, "f32", [batch, numHeads, headDim], 5);
  const out = backend.alloc("f32", queries.shape);
  const positions = repeat([position]);
  const scale = 1 / Math.sqrt(headDim);
  const run = () => backend.attentionDecode(cache, queries, positions, decisions, scale, out);
  return {
    op: "attention_decode",
    impl: "tokenfilter",
    phase: "decode",
    shape: `batch=${batch} cache=${rows}${near > 0 ? `+${near}` : ""} kept=${list.length} ${words(sizes)}`,
    dtype,
    skip: 1 - list.length / batch,
    flops: 4 * list.length * (rows + near) * numHeads * headDim,
    bytes: list.length * (rows + near) * 2 * numKvHeads * headDim * bytesOf(dtype),
    run,
    verify() {
      run();
      const found = f32Data(backend.read(out)), width = numHeads * headDim;
      for (const b of [list[0]!, list.at(-1)!]) {
        const row = (tensor: Tensor) => backend.read(backend.row(tensor, b));
        const expected = emptyTensor("f32", [1, numHeads, headDim]);
        new ReferenceBackend().attention({
          queries: rowsOf(backend.read(queries), b, b + 1),
          queryPositions: hostTensor("i32", [1], Int32Array.of(position)),
          keys: row(cache.keys),
          values: row(cache.values),
          keyPositions: row(cache.positions),
          numKeys: rows,
          ...sortedRing(row, cache, near, numKvHeads * headDim),
          numRecent: near,
          recent: near,
          scale,
          out: expected,
        });
        const got = found.subarray(b * width, (b + 1) * width);
        expectClose(`decode attention, ${dtype}`, got, f32Data(expected), TOLERANCE[dtype]);
      }
    },
  };
}

/** The ring's rows by position, as the reference needs them. */
function sortedRing(
  row: Backend["read"],
  cache: BatchCache,
  near: number,
  width: number,
): Pick<AttentionArgs, "recentKeys" | "recentValues" | "recentPositions"> {
  const positions = [...row(cache.recentPositions).data as Int32Array];
  const order = positions.map((_, i) => i).sort((a, b) => positions[a]! - positions[b]!);
  const sorted = (tensor: Tensor) => {
    const host = row(tensor), out = emptyTensor(host.dtype, host.shape);
    order.forEach((from, to) =>
      out.data.set(host.data.subarray(from * width, (from + 1) * width), to * width)
    );
    return out;
  };
  return {
    recentKeys: sorted(cache.recentKeys),
    recentValues: sorted(cache.recentValues),
    recentPositions: hostTensor("i32", [near], Int32Array.from(order, (i) => positions[i]!)),
  };
}

/** Queries that are compared with the reference. */
const SAMPLES = 5;

/**
 * Prefill of `tokens` tokens, of which a fraction is skipped past a warm-up of 32; gathering kept rows included. `wgmma`:
 * see `CudaBackend.useWgmma`.
 */
export function prefillCase(
  gpu: Gpu,
  sizes: AttentionSizes,
  dtype: FloatType,
  { tokens, skip, recent, wgmma }: { tokens: number; skip: number; recent: number; wgmma: boolean },
): GpuBenchCase & { readonly inputs: { readonly [name in "queries" | "keys" | "values" | "out"]: Tensor } } {
  const { backend } = gpu, { numHeads, numKvHeads, headDim } = sizes;
  const all = {
    queries: randomTensor(gpu, "f32", [tokens, numHeads * headDim], 6),
    keys: randomTensor(gpu, dtype, [tokens, numKvHeads * headDim], 7),
    values: randomTensor(gpu, dtype, [tokens, numKvHeads * headDim], 8),
  };
  const { kept, skipped } = chooseKept(tokens, skip, 9);
  const selection = { asking: kept, cached: kept, skipped: recent > 0 ? skipped : [], recent };
  const near = selection.skipped, gathers: (() => void)[] = [];
  const args = attentionArgs(selection, {
    gather: (name, rows) => {
      const from = all[name], shape = [rows.length, from.shape[1]! / headDim, headDim];
      if (rows.length === tokens) return { ...from, shape };
      const to = backend.alloc(from.dtype, [rows.length, from.shape[1]!]), list = i32(backend, rows);
      if (rows.length > 0) gathers.push(() => backend.gatherRows(from, list, to));
      return { ...to, shape };
    },
    i32: (list) => i32(backend, list),
    alloc: (shape) => backend.alloc("f32", shape),
  });
  const run = () => {
    for (const work of gathers) work();
    backend.useWgmma(wgmma);
    backend.attention(args);
    backend.useWgmma(false);
  };
  return {
    op: "attention_prefill",
    impl: wgmma ? "tokenfilter wgmma" : "tokenfilter",
    phase: "prefill",
    shape: `T=${tokens} ${words(sizes)}${recent > 0 ? ` recent=${recent}` : ""}`,
    dtype,
    skip,
    flops: 4 * countPairs(selection) * numHeads * headDim,
    bytes: kept.length * numHeads * headDim * 8 +
      (kept.length + near.length) * 2 * numKvHeads * headDim * bytesOf(dtype),
    run,
    inputs: { ...all, out: args.out },
    verify() {
      run();
      const host = Object.fromEntries(
        Object.entries(args).map(([name, value]) => [
          name,
          typeof value === "number" ? value : backend.read(value),
        ]),
      ) as unknown as AttentionArgs;
      expectQueries(`prefill attention, ${dtype}`, host, SAMPLES, TOLERANCE[dtype]);
    },
  };
}
