/** Cases of attention on a device: decode of batches of sequences, and prefill of one sequence after the other. */
import { dequantize } from "../../lib/reference/dequantize.ts";
import { attention } from "../../lib/reference/attention.ts";
import { f32Data, type HostTensor, hostTensor } from "../../lib/tensor.ts";
import { normals, tensorOf } from "./cases.ts";

/** One call, in words. */
export interface BatchCase {
  /** Tokens of each sequence before the queries' end; 0 is an idle sequence (decode) or an empty one (prefill). */
  readonly tokens: readonly number[];
  /** Sequences that skip their attention (decode). */
  readonly skipping?: readonly number[];
  readonly numKvHeads: number;
  readonly group: number;
  readonly headDim: number;
  readonly dtype: "f32" | "f16" | "bf16";
  /** Fraction of the tokens that are kept. */
  readonly kept: number;
  readonly recent: number;
  /** Whether a query's own token is among the recent ones, not among the kept (decode). */
  readonly ownIsRecent?: boolean;
  /** Sliding window; 0 = none. */
  readonly window: number;
  /** Factor on the products of queries and keys; 1 / sqrt(headDim) by default. */
  readonly scale?: number;
}

/** The factor of a case. */
export const scaleOf = (c: BatchCase) => c.scale ?? 1 / Math.sqrt(c.headDim);

/** Cases of `tkf_attention_decode`. */
export function decodeCases(): BatchCase[] {
  const base: BatchCase = {
    tokens: [127, 1, 0, 33, 400, 32, 31],
    skipping: [5],
    numKvHeads: 2,
    group: 4,
    headDim: 64,
    dtype: "bf16",
    kept: 0.5,
    recent: 16,
    window: 0,
  };
  const cases = [base, { ...base, kept: 1 }, { ...base, kept: 0 }, { ...base, recent: 0 }];
  for (const headDim of [32, 64, 80, 96, 128, 256]) {
    for (const dtype of ["f32", "f16", "bf16"] as const) {
      for (const group of [1, 3, 4, 8]) cases.push({ ...base, headDim, dtype, group, tokens: [70, 0, 45] });
    }
  }
  const narrow: BatchCase = { ...base, tokens: [120, 9], kept: 0.9, window: 100, skipping: [] };
  for (const headDim of [61, 125, 253]) { // rows that are not whole pieces of 16 bytes
    for (const dtype of ["f32", "f16", "bf16"] as const) {
      for (const group of [1, 3, 8]) {
        const c = { ...narrow, headDim, dtype, group };
        cases.push(c, { ...c, tokens: [20, 9], window: 1, ownIsRecent: true }); // sees no cached row
      }
    }
  }
  for (const window of [1, 10, 100]) cases.push({ ...base, window });
  cases.push({ ...base, window: 20, recent: 40, dtype: "f32" });
  cases.push({ ...base, tokens: [989], kept: 0.7, group: 3, dtype: "f16" }); // many splits
  cases.push({ ...base, tokens: [989, 5], kept: 0.9, group: 11, headDim: 20 }); // heads in two chunks
  return cases;
}

/** Cases of prefill: the queries are the kept ones of the last half of each sequence, or all. */
export function prefillCases(): BatchCase[] {
  const base: BatchCase = {
    tokens: [127, 1, 0, 33, 200],
    numKvHeads: 2,
    group: 4,
    headDim: 64,
    dtype: "bf16",
    kept: 0.5,
    recent: 16,
    window: 0,
  };
  const cases = [base, { ...base, kept: 1 }, { ...base, kept: 0 }, { ...base, recent: 0 }];
  for (const headDim of [32, 80, 96, 128, 256]) {
    for (const [dtype, group] of [["f32", 3], ["f16", 8], ["bf16", 1], ["bf16", 4]] as const) {
      cases.push({ ...base, headDim, dtype, group, tokens: [60, 0, 45] });
    }
  }
  for (const dtype of ["f32", "f16", "bf16"] as const) {
    for (const window of [1, 10, 100]) cases.push({ ...base, dtype, window });
    for (const headDim of [20, 100, 132]) { // what tensor cores do not take
      cases.push({ ...base, dtype, headDim, group: 5, tokens: [60, 0, 45] });
    }
  }
  return cases;
}

/** A case's name in a failure. */
export function nameOf(c: BatchCase): string {
  return `[${c.tokens}] tokens, ${c.kept} kept, ${c.numKvHeads}x${c.group} heads of ${c.headDim}, ${c.dtype}, ` +
    `recent ${c.recent}, window ${c.window}`;
}

/** One sequence's tokens: which are kept, and keys and values of all. */
export interface Sequence {
  readonly kept: readonly boolean[];
  /** [tokens, numKvHeads * headDim] each, as the type holds them. */
  readonly keys: Float32Array;
  readonly values: Float32Array;
}

/** Makes the sequences of a case. */
export function sequencesOf(c: BatchCase, seed = 7): { sequences: Sequence[]; normal: () => number } {
  const normal = normals(seed + c.headDim * 31 + c.group + c.recent), width = c.numKvHeads * c.headDim;
  const rows = (tokens: number) =>
    Float32Array.from(dequantize(tensorOf(c.dtype, [tokens, width], normal), 0, tokens * width));
  const sequences = c.tokens.map((tokens) => ({
    // The last token's attention is what a decode computes: mostly it was kept.
    kept: Array.from(
      { length: tokens },
      (_, t) => t === tokens - 1 ? !c.ownIsRecent : (normal() + 100) * 1000 % 1 < c.kept,
    ),
    keys: rows(tokens),
    values: rows(tokens),
  }));
  return { sequences, normal };
}

/** The reference's output for one query at token `at` of a sequence: [heads * headDim]. */
export function expectedOf(c: BatchCase, { kept, keys, values }: Sequence, at: number, query: Float32Array) {
  const width = c.numKvHeads * c.headDim, near = (t: number) => c.window === 0 || at - t < c.window;
  const part = (wanted: boolean) => {
    const tokens = kept.flatMap((k, t) => k === wanted && near(t) ? [t] : []);
    const take = (from: Float32Array) => {
      const to = new Float32Array(tokens.length * width);
      tokens.forEach((t, i) => to.set(from.subarray(t * width, (t + 1) * width), i * width));
      return hostTensor("f32", [tokens.length, c.numKvHeads, c.headDim], to);
    };
    return {
      count: tokens.length,
      keys: take(keys),
      values: take(values),
      positions: hostTensor("i32", [tokens.length], Int32Array.from(tokens)),
    };
  };
  const cached = part(true), recent = part(false), shape = [1, c.numKvHeads * c.group, c.headDim];
  const out: HostTensor = hostTensor("f32", shape, new Float32Array(query.length));
  attention({
    queries: hostTensor("f32", shape, Float32Array.from(query)),
    queryPositions: hostTensor("i32", [1], Int32Array.of(at)),
    keys: cached.keys,
    values: cached.values,
    keyPositions: cached.positions,
    numKeys: cached.count,
    recentKeys: recent.keys,
    recentValues: recent.values,
    recentPositions: recent.positions,
    numRecent: recent.count,
    recent: c.recent,
    scale: scaleOf(c),
    out,
  });
  return f32Data(out);
}
