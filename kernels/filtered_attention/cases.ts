/** The cases that test every execution of filtered attention, and their inputs. */
import type { AttentionArgs } from "../../lib/backend.ts";
import type { DType } from "../../lib/dtype.ts";
import { toBf16, toF16 } from "../../lib/math/half.ts";
import { dequantize } from "../../lib/reference/dequantize.ts";
import { countOf, emptyTensor, f32Data, type HostTensor, hostTensor, type Tensor } from "../../lib/tensor.ts";
import { type Calls, type Draw, FLOATS } from "../testing/fuzz/draw.ts";

/** One call of filtered attention, in words. */
export interface AttentionCase {
  /** Tokens of the sequence: the kept ones are cached, the skipped ones are recent rows. */
  readonly tokens: number;
  /** Which tokens are kept. */
  readonly keep: "all" | "half" | "one" | "none";
  /** The tokens with queries: all kept ones, the last ones, or only the last one. */
  readonly phase: "prefill" | "chunk" | "decode";
  /** Tokens of a chunk. Default 40. */
  readonly last?: number;
  readonly numKvHeads: number;
  /** Query heads of a KV head. */
  readonly group: number;
  readonly headDim: number;
  readonly dtype: "f32" | "f16" | "bf16";
  readonly recent: number;
  /**
   * `ties`: all keys are equal. `zeros`: some queries, keys and values are 0. `outliers`: some are large. `peak`: the
   * middle key's scores are more than 127 powers of two above or below all others, further than a float's exponent.
   */
  readonly data: "plain" | "outliers" | "ties" | "zeros" | "peak";
  /**
   * Where cached rows end. `blocks`: half of them at the first multiple of 32 more than 8 tokens later, as in an
   * eviction by blocks. `odd`: anywhere, some before they begin. `last`: some at the last query, the others behind it.
   * Otherwise no row ends.
   */
  readonly ends?: "blocks" | "odd" | "last";
  /** Half of the queries are local, with windows of 0 to 63, or all are, with one of 20. */
  readonly local?: "half" | "all";
  /** Positions that local queries see from anywhere. */
  readonly sinks?: number;
}

const BASE: AttentionCase = {
  tokens: 127,
  keep: "half",
  phase: "prefill",
  numKvHeads: 2,
  group: 3,
  headDim: 32,
  dtype: "f32",
  recent: 16,
  data: "plain",
};

function* list(): Generator<AttentionCase> {
  for (const tokens of [0, 1, 31, 32, 33, 127]) {
    for (const keep of ["all", "half", "one", "none"] as const) {
      for (const recent of [0, 1, 16]) yield { ...BASE, tokens, keep, recent };
    }
  }
  for (const phase of ["prefill", "chunk", "decode"] as const) {
    for (const keep of ["all", "half"] as const) {
      yield { ...BASE, tokens: 989, keep, phase, numKvHeads: 1 };
    }
    for (const headDim of [32, 64, 80, 96, 128, 256]) {
      for (const group of [1, 3, 4, 8]) yield { ...BASE, headDim, group, phase, tokens: 65 };
    }
    for (const headDim of [1, 7, 20, 33]) yield { ...BASE, headDim, phase };
    for (const dtype of ["f16", "bf16"] as const) {
      for (const headDim of [20, 64, 80]) yield { ...BASE, headDim, phase, dtype };
      for (const [headDim, group] of [[32, 1], [96, 4], [128, 8], [256, 3]] as const) {
        yield { ...BASE, headDim, group, phase, dtype, tokens: 97 };
      }
    }
    for (const data of ["outliers", "ties", "zeros"] as const) {
      for (const dtype of ["f32", "f16", "bf16"] as const) yield { ...BASE, phase, dtype, data };
    }
  }
  // Keys cut into stretches, and a group larger than a register block.
  yield { ...BASE, tokens: 1500, phase: "decode", keep: "all", dtype: "bf16", headDim: 80 };
  yield { ...BASE, tokens: 1500, phase: "chunk", keep: "all", numKvHeads: 1, group: 1 };
  yield { ...BASE, tokens: 1500, phase: "decode", keep: "all", data: "peak" };
  yield { ...BASE, tokens: 1500, phase: "chunk", keep: "all", numKvHeads: 1, group: 1, data: "peak" };
  yield { ...BASE, tokens: 600, phase: "decode", keep: "all", numKvHeads: 1, group: 71, headDim: 16 };
  // Keys that end, and local queries.
  for (const phase of ["prefill", "chunk", "decode"] as const) {
    for (const ends of ["blocks", "odd"] as const) {
      yield { ...BASE, phase, ends };
      yield { ...BASE, phase, ends, local: "half", sinks: 4, dtype: "f16", headDim: 64 };
      yield { ...BASE, phase, ends, local: "all", sinks: 3, dtype: "bf16", headDim: 80, keep: "all" };
    }
    yield { ...BASE, phase, local: "all", keep: "all", sinks: 5 };
    yield { ...BASE, phase, local: "half", sinks: 40, recent: 3, headDim: 128, dtype: "bf16" };
    yield { ...BASE, phase, local: "half", sinks: 7, keep: "all", tokens: 400, headDim: 20 };
    yield {
      ...BASE,
      phase,
      ends: "blocks",
      local: "half",
      sinks: 4,
      keep: "all",
      tokens: 989,
      numKvHeads: 1,
    };
  }
  const tiles = {
    ...BASE,
    tokens: 300,
    keep: "all",
    numKvHeads: 1,
    group: 1,
    dtype: "bf16",
    headDim: 64,
  } as const;
  yield* [{ ...tiles, ends: "odd" }, { ...tiles, ends: "last" }, {
    ...tiles,
    local: "all",
    sinks: 3,
  }] as const;
  yield { ...tiles, local: "half", sinks: 4 };
  yield { ...BASE, phase: "decode", keep: "all", ends: "last" };
  for (const last of [2, 4, 5, 7, 12]) {
    yield { ...BASE, phase: "chunk", last, keep: "all", tokens: 290, headDim: 16 };
    yield { ...BASE, phase: "chunk", last, group: 1, tokens: 290, headDim: 16, dtype: "bf16" };
  }
  yield { ...BASE, tokens: 1500, phase: "decode", keep: "all", ends: "blocks" };
  yield {
    ...BASE,
    tokens: 1500,
    phase: "chunk",
    keep: "all",
    numKvHeads: 1,
    group: 1,
    ends: "blocks",
    local: "half",
  };
  for (const local of ["half", "all"] as const) { // few rows of several queries
    yield { ...BASE, tokens: 7, keep: "all", group: 1, ends: "odd", local, sinks: 1 };
  }
}

/**
 * Keys that end, and local queries, for every kernel of a device: by type, size of heads, and heads of a block. The rows
 * of the odd sizes are not whole pieces of 16 bytes.
 */
function* listKernels(): Generator<AttentionCase> {
  const few = { ...BASE, phase: "chunk", last: 5, local: "half", sinks: 4, numKvHeads: 1 } as const;
  const many = { ...few, phase: "prefill", last: undefined } as const;
  for (const dtype of ["f32", "f16", "bf16"] as const) {
    for (const headDim of [64, 128, 256]) {
      for (const group of [1, 4, 8]) {
        yield { ...few, dtype, headDim, group, keep: "all", tokens: 97 };
        yield { ...few, dtype, headDim, group, ends: "odd", tokens: 150 };
        yield { ...few, dtype, headDim: headDim - 3, group, ends: "odd", tokens: 70 };
      }
    }
    for (const headDim of [64, 96, 128, 256]) {
      yield { ...many, dtype, headDim, group: 2, ends: "odd", tokens: 65, keep: "all" };
      yield { ...many, dtype, headDim, group: 1, local: "all", sinks: 1, tokens: 130, keep: "all" };
    }
  }
}

/** A list for every kernel of a device. */
export const KERNEL_CASES: readonly AttentionCase[] = [...listKernels()];

/** The list. */
export const ATTENTION_CASES: readonly AttentionCase[] = [...list(), ...KERNEL_CASES];

/** A case's name in a failure. */
export function nameOf(c: AttentionCase): string {
  return `${c.phase}${
    c.last === undefined ? "" : ` of ${c.last}`
  } of ${c.tokens} tokens, ${c.keep} kept, ${c.numKvHeads}x${c.group} heads of ${c.headDim}, ` +
    `${c.dtype}, recent ${c.recent}, ${c.data}, ends ${c.ends}, local ${c.local}, ${c.sinks} sinks`;
}

/** A stream of normal numbers (Box and Muller over a 32-bit generator). */
export function normals(seed: number): () => number {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6D2B79F5) >>> 0;
    let z = Math.imul(state ^ (state >>> 15), state | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32;
  };
  return () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
}

/** Values as a tensor of a type; `spare` rows beyond the shape contain NaN: they must not be read. */
export function tensorOf(
  dtype: "f32" | "f16" | "bf16",
  shape: readonly number[],
  value: (index: number) => number,
  spare = 0,
): HostTensor {
  const [rows, ...rest] = shape;
  const tensor = emptyTensor(dtype, [rows! + spare, ...rest]);
  const encode = { f32: (x: number) => x, f16: toF16, bf16: toBf16 }[dtype];
  const count = countOf(shape);
  for (let i = 0; i < tensor.data.length; i++) tensor.data[i] = encode(i < count ? value(i) : NaN);
  return tensor;
}

function keptTokens({ tokens, keep }: AttentionCase, normal: () => number): boolean[] {
  return Array.from({ length: tokens }, (_, t) => {
    switch (keep) {
      case "all":
        return true;
      case "half":
        return normal() > 0;
      case "one":
        return t === tokens >> 1;
      case "none":
        return false;
    }
  });
}

/** Ends of cached rows and windows of queries of a case; also two ends of rows that are not in use. */
function gapsOf(c: AttentionCase, cached: readonly number[], asking: readonly number[]) {
  const normal = normals(c.tokens * 31 + c.headDim),
    below = (end: number) => Math.floor(end * 1e4 * normal() ** 2) % end;
  const end = {
    blocks: (t: number) => below(2) === 0 ? Math.ceil((t + 9) / 32) * 32 : 2 ** 31 - 1,
    odd: (t: number) => t - 3 + below(90),
    last: (t: number) => c.tokens - (t % 5 === 0 ? 1 : 0),
  };
  const window = { half: () => below(2) === 0 ? below(64) : -1, all: () => 20 };
  const i32 = (list: readonly number[]) => hostTensor("i32", [list.length], Int32Array.from(list));
  return {
    ...c.ends && { keyEnds: i32([...cached.map(end[c.ends]), 2 ** 31 - 1, 0]) },
    ...c.local && { windows: i32(asking.map(window[c.local])), sinks: c.sinks },
  };
}

/** Makes the arguments of a case. `out` holds NaN. */
export function attentionArgs(c: AttentionCase): AttentionArgs {
  const { tokens, phase, numKvHeads, group, headDim, dtype, data } = c;
  const normal = normals(tokens * 7919 + headDim * 31 + group);
  const kept = keptTokens(c, normal);
  const all = Array.from({ length: tokens }, (_, t) => t);
  const cached = all.filter((t) => kept[t]), skipped = all.filter((t) => !kept[t]);
  const first = phase === "prefill"
    ? 0
    : phase === "chunk"
    ? Math.max(0, tokens - (c.last ?? 40))
    : tokens - 1;
  // If no token is kept, skipped tokens have queries: they attend only to the recent rows, or to none.
  const asking = all.filter((t) => t >= first && (kept[t] || c.keep === "none" || phase === "decode"));
  const row = numKvHeads * headDim;
  const value = (width: number) => (index: number) => {
    const at = Math.floor(index / width);
    if (data === "zeros" && at % 3 === 1) return 0;
    return normal() * (data === "outliers" && at % 5 === 2 ? 20 : 1);
  };
  const tie = Array.from({ length: row }, normal);
  const key = {
    ties: (index: number) => tie[index % row]!,
    peak: (index: number) => normal() * (Math.floor(index / row) === tokens >> 1 ? 400 : 1),
    ...{ plain: value(row), outliers: value(row), zeros: value(row) },
  }[data];
  const positions = (list: readonly number[], spare: number) =>
    hostTensor("i32", [list.length + spare], Int32Array.from([...list, ...Array(spare).fill(-9)]));
  const rows = (list: readonly number[], f: (index: number) => number) =>
    tensorOf(dtype, [list.length, numKvHeads, headDim], f, 3);
  const shape = [asking.length, numKvHeads * group, headDim];
  return {
    queries: tensorOf("f32", shape, value(numKvHeads * group * headDim)),
    queryPositions: positions(asking, 0),
    keys: rows(cached, key),
    values: rows(cached, value(row)),
    keyPositions: positions(cached, 3),
    numKeys: cached.length,
    recentKeys: rows(skipped, key),
    recentValues: rows(skipped, value(row)),
    recentPositions: positions(skipped, 3),
    numRecent: skipped.length,
    recent: c.recent,
    scale: 1 / Math.sqrt(headDim),
    out: tensorOf("f32", shape, () => NaN),
    ...gapsOf(c, cached, asking),
  };
}

/** Whether query `i` of a call attends to cached row `row`. */
export function seesCached(args: AttentionArgs, i: number, row: number): boolean {
  const number = (tensor: Tensor | undefined, at: number) => (tensor as HostTensor | undefined)?.data[at];
  const query = number(args.queryPositions, i)!, key = number(args.keyPositions, row)!;
  const window = number(args.windows, i) ?? -1;
  return key <= query && query < (number(args.keyEnds, row) ?? Infinity) &&
    (window < 0 || query - key <= window || key < (args.sinks ?? 0));
}

/** Values that a type can hold: kernels for tensor cores round queries to the keys' type. */
export function roundTo(
  dtype: "f32" | "f16" | "bf16",
  shape: readonly number[],
  value: (index: number) => number,
): Float32Array<ArrayBuffer> {
  return Float32Array.from(dequantize(tensorOf(dtype, shape, value), 0, countOf(shape)));
}

/** The same arguments with queries that a type can hold. */
export function roundQueries(args: AttentionArgs, dtype: "f32" | "f16" | "bf16"): AttentionArgs {
  const { shape } = args.queries, values = f32Data(args.queries);
  return { ...args, queries: hostTensor("f32", shape, roundTo(dtype, shape, (i) => values[i]!)) };
}

/** A cache, as `tkf_kv_cache`. */
export function drawCache(d: Draw, batch: number, kv_heads: number, head_dim: number, dtype: DType) {
  const capacity = d.size(40, 1), recent = d.from(0, 6), width = kv_heads * head_dim;
  return {
    keys: d.values(dtype, batch * capacity * width),
    values: d.values(dtype, batch * capacity * width),
    positions: d.positions(batch * capacity),
    counts: d.indices(batch, capacity),
    recent_keys: d.values(dtype, batch * recent * width),
    recent_values: d.values(dtype, batch * recent * width),
    recent_positions: d.indices(batch * recent, 40, -1),
    ...{ capacity, batch, kv_heads, head_dim, dtype, recent },
  };
}

export const CALLS: Calls = {
  tkf_attention_filtered(d) {
    const num_queries = d.size(d.pick([4, 40])), num_keys = d.size(d.pick([8, 100])), num_recent = d.size(8);
    const kv_heads = d.from(1, 2), group = d.pick([1, 2, 3, 16]); // 16: rows enough for wgmma
    const isPart = d.pick([false, true]),
      query_kv_heads = kv_heads + (isPart ? 1 : 0),
      heads = query_kv_heads * group;
    const head_dim = d.pick([1, 3, 16, 32, 33, 64, 80, 96, 128, 256]), width = kv_heads * head_dim;
    const kv_dtype = d.pick(FLOATS), count = num_queries * heads * head_dim;
    return {
      query_positions: d.positions(num_queries),
      keys: d.values(kv_dtype, num_keys * width),
      values: d.values(kv_dtype, num_keys * width),
      key_positions: d.positions(num_keys),
      recent_keys: d.values(kv_dtype, num_recent * width),
      recent_values: d.values(kv_dtype, num_recent * width),
      recent_positions: d.positions(num_recent),
      ...{ queries: d.floats(count), out: d.room("f32", count) },
      key_ends: d.pick([null, d.indices(num_keys, 2 * num_keys + 9)]),
      windows: d.pick([null, d.indices(num_queries, 20, -9)]),
      kv_places: isPart ? Int32Array.from({ length: kv_heads }, (_, i) => i + 1) : null,
      ...{
        num_queries,
        num_keys,
        num_recent,
        kv_heads,
        query_kv_heads,
        heads,
        head_dim,
        kv_dtype,
        scale: 0.25,
      },
      ...{ recent_window: d.below(20), sinks: d.below(6) },
      ...{ shares: null, num_shares: 0, share_distance: 0, changes: null, head_weights: null },
    };
  },
  tkf_attention_decode(d) {
    const batch = d.size(4), kv_heads = d.from(1, 2), head_dim = d.pick([1, 3, 16, 33, 64, 80, 128, 256]);
    const isPart = d.pick([false, true]), query_kv_heads = kv_heads + (isPart ? 1 : 0);
    const cache = drawCache(d, batch, kv_heads, head_dim, d.pick(FLOATS)),
      heads = query_kv_heads * d.from(1, 4);
    const change_rows = d.from(1, 9), change_keys = d.from(1, 70), count = batch * change_rows * change_keys;
    const shown = {
      changes: d.room("f64", count),
      head_weights: d.floats(heads),
      first: d.indices(batch, 60, -1),
    };
    const queries = d.floats(batch * heads * head_dim), out = d.room("f32", batch * heads * head_dim);
    const rows = { positions: d.indices(batch, 60, -1), keep: d.flags(batch), window: d.below(20) };
    return {
      ...{ cache, queries, out, ...rows, heads, query_kv_heads, scale: 0.25 },
      kv_places: isPart ? Int32Array.from({ length: kv_heads }, (_, i) => i + 1) : null,
      ...d.pick([{ changes: null, head_weights: null, first: null }, shown]),
      ...{ change_rows, change_keys, change_distance: d.below(9) },
    };
  },
};
