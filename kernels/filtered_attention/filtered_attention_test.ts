import { assert, assertEquals, assertThrows } from "@std/assert";
import { type CpuBackend, cpuLevels, openCpu } from "../../ffi/mod.ts";
import type { AttentionArgs } from "../../lib/backend.ts";
import { KernelError } from "../../lib/errors.ts";
import { ReferenceBackend } from "../../lib/reference/mod.ts";
import { dequantize } from "../../lib/reference/dequantize.ts";
import { countOf, f32Data, type HostTensor, hostTensor, rowsOf, type Tensor } from "../../lib/tensor.ts";
import { ATTENTION_CASES, attentionArgs, type AttentionCase, nameOf, seesCached, tensorOf } from "./cases.ts";

const LEVELS = await cpuLevels();
const reference = new ReferenceBackend();

function open(level: string, threads: number): Promise<CpuBackend> {
  return openCpu({ level, threads, blas: "none" });
}

/** Largest |x| in a tensor, and largest Euclidean norm of its vectors along the last dimension. */
function sizes(tensor: Tensor, rows = tensor.shape[0]!): { value: number; norm: number } {
  const width = tensor.shape.at(-1)!;
  const count = rows * countOf(tensor.shape.slice(1));
  const x = dequantize(tensor as HostTensor, 0, count);
  let value = 0, norm = 0;
  for (let i = 0; i < count; i += width) {
    let sum = 0;
    for (let c = i; c < i + width; c++) {
      value = Math.max(value, Math.abs(x[c]!));
      sum += x[c]! ** 2;
    }
    norm = Math.max(norm, Math.sqrt(sum));
  }
  return { value, norm };
}

/**
 * What float32 allows: an error of a score moves its weight by that share, and a score may be as large as
 * |q| |k| scale; the weights then mix values.
 */
function tolerance(a: AttentionArgs): number {
  const keys = Math.max(sizes(a.keys, a.numKeys).norm, sizes(a.recentKeys, a.numRecent).norm);
  const values = Math.max(sizes(a.values, a.numKeys).value, sizes(a.recentValues, a.numRecent).value);
  return 1.5e-7 * (1 + sizes(a.queries).norm * keys * a.scale) * values;
}

/** Largest difference of two results; NaN anywhere counts as infinite. */
function difference(a: Float32Array, b: Float32Array): number {
  let worst = 0;
  for (let i = 0; i < a.length; i++) {
    const d = Math.abs(a[i]! - b[i]!);
    worst = d <= worst ? worst : Number.isNaN(d) ? Infinity : d;
  }
  return worst;
}

function run(backend: { attention(args: AttentionArgs): void }, args: AttentionArgs): Float32Array {
  const out = tensorOf("f32", args.out.shape, () => NaN);
  backend.attention({ ...args, out });
  return f32Data(out);
}

Deno.test("attention() equals the reference on all cases, at every level, on one and two threads", async () => {
  const cases = ATTENTION_CASES.map((c) => {
    const args = attentionArgs(c);
    return { c, args, expected: run(reference, args), allowed: tolerance(args) };
  });
  let runs = 0;
  for (const level of LEVELS) {
    for (const threads of [1, 2]) {
      const backend = await open(level, threads);
      for (const { c, args, expected, allowed } of cases) {
        const worst = difference(run(backend, args), expected);
        assert(
          worst <= allowed,
          `${level}, ${threads} threads, ${nameOf(c)}: off by ${worst}, allowed ${allowed}`,
        );
        runs++;
      }
    }
  }
  assertEquals(runs, ATTENTION_CASES.length * LEVELS.length * 2);
});

const COMMON: AttentionCase = {
  tokens: 200,
  keep: "half",
  phase: "prefill",
  numKvHeads: 2,
  group: 3,
  headDim: 64,
  dtype: "f32",
  recent: 16,
  data: "plain",
};

Deno.test("attention() gives a query 0 when it sees nothing", async () => {
  const args = attentionArgs({ ...COMMON, tokens: 1 });
  for (const level of LEVELS) {
    const out = run(await open(level, 2), { ...args, numKeys: 0, numRecent: 0 });
    assert(out.length > 0 && out.every((x) => x === 0));
  }
  // Also beside a query that sees so many keys that they are cut into stretches.
  const long = attentionArgs({
    ...COMMON,
    tokens: 1500,
    keep: "all",
    phase: "decode",
    numKvHeads: 1,
    group: 1,
  });
  const shape = [2, 1, 64], query = f32Data(long.queries);
  const two = {
    ...long,
    queries: hostTensor("f32", shape, new Float32Array([...query, ...query])),
    queryPositions: hostTensor("i32", [2], new Int32Array([-1, 1499])),
    out: tensorOf("f32", shape, () => NaN),
  };
  const expected = new Float32Array(128);
  expected.set(run(reference, long), 64);
  for (const level of LEVELS) {
    const out = run(await open(level, 3), two);
    assert(out.subarray(0, 64).every((x) => x === 0), level);
    assert(difference(out, expected) <= tolerance(long), level);
  }
});

Deno.test("attention() lets no later key or value reach an earlier query", async () => {
  const args = attentionArgs({ ...COMMON, keep: "all" });
  const positions = args.queryPositions.shape[0]!, row = args.out.shape[1]! * args.out.shape[2]!;
  for (const level of LEVELS) {
    const backend = await open(level, 2);
    const before = run(backend, args).slice(0, (positions - 1) * row);
    f32Data(args.keys).fill(50, (args.numKeys - 1) * 128, args.numKeys * 128);
    f32Data(args.values).fill(-1e6, (args.numKeys - 1) * 128, args.numKeys * 128);
    assertEquals(run(backend, args).slice(0, (positions - 1) * row), before);
  }
});

Deno.test("attention() shows NaN and infinity to the queries that see them, and to no others", async () => {
  /** `part`: how far into the store the key lies. */
  const shapes: (Partial<AttentionCase> & { part?: number })[] = [
    { keep: "all" },
    { keep: "half" },
    { keep: "all", tokens: 7, group: 1 }, // few rows: keys are read in place
    { keep: "half", tokens: 12, group: 1, headDim: 40 },
    { keep: "half", headDim: 80, dtype: "bf16" },
    { keep: "all", tokens: 39, headDim: 16, part: 1 }, // the last key, in what no whole vectors hold
    { keep: "all", ends: "odd", local: "half", sinks: 2, headDim: 40 },
    { keep: "all", ends: "odd", local: "half", sinks: 2, part: 0.01 }, // a sink
    { keep: "all", tokens: 8, group: 1, ends: "odd", local: "half", sinks: 2 },
  ];
  const tensors = ["keys", "values", "recentKeys", "recentValues"] as const;
  let reached = 0, spared = 0;
  for (const level of LEVELS) {
    const backend = await open(level, 2);
    for (const shape of shapes) {
      for (const what of tensors) {
        for (const poison of [NaN, Infinity]) {
          const args = attentionArgs({ ...COMMON, ...shape });
          const recent = what.startsWith("recent"), used = recent ? args.numRecent : args.numKeys;
          if (used === 0) continue;
          const before = run(backend, args);
          const { data } = args[what] as HostTensor, width = countOf(args.keys.shape.slice(1));
          const at = Math.ceil(used * (shape.part ?? 2 / 3)) - 1;
          const bits = Number.isNaN(poison) ? 0x7fc0 : 0x7f80; // of bf16
          data.fill(args.keys.dtype === "bf16" ? bits : poison, at * width, (at + 1) * width);
          const after = run(backend, args);
          const position = ((recent ? args.recentPositions : args.keyPositions) as HostTensor).data[at]!;
          const row = countOf(args.out.shape.slice(1));
          ((args.queryPositions as HostTensor).data as Int32Array).forEach((query, i) => {
            const found = after.slice(i * row, (i + 1) * row);
            const sees = recent
              ? query >= position && query - position <= args.recent
              : seesCached(args, i, at);
            if (!sees) {
              assertEquals(
                found,
                before.slice(i * row, (i + 1) * row),
                `${level}, ${what} ${poison}, query ${i}`,
              );
              spared++;
            } else {
              assert(found.every((x) => !Number.isFinite(x)), `${level}, ${what} ${poison}, query ${i}`);
              reached++;
            }
          });
        }
      }
    }
  }
  assert(
    reached > 500 * LEVELS.length && spared > 1000 * LEVELS.length,
    `${reached} reached, ${spared} spared`,
  );
});

Deno.test("attention() of one query over a long cache that holds NaN is NaN", async () => {
  const args = attentionArgs({ ...COMMON, phase: "decode", tokens: 3000, keep: "all" });
  f32Data(args.keys)[5 * 128 + 3] = NaN;
  for (const level of LEVELS) {
    const half = args.out.shape[1]! / 2 * 64, out = run(await open(level, 2), args).slice(-2 * half);
    assert(out.slice(0, half).every(Number.isNaN));
    assert(out.slice(half).every(Number.isFinite));
  }
});

Deno.test("attention() of one query at a time equals attention of all", async () => {
  const args = attentionArgs(COMMON);
  const [count, heads, headDim] = args.queries.shape as [number, number, number];
  const row = heads * headDim, queries = f32Data(args.queries);
  const positions = (args.queryPositions as HostTensor).data as Int32Array;
  for (const level of LEVELS) {
    const backend = await open(level, 2);
    const all = run(backend, args);
    for (let i = 0; i < count; i++) {
      const one = run(backend, {
        ...args,
        queries: hostTensor("f32", [1, heads, headDim], queries.subarray(i * row, (i + 1) * row)),
        queryPositions: hostTensor("i32", [1], positions.subarray(i, i + 1)),
        out: tensorOf("f32", [1, heads, headDim], () => NaN),
      });
      assert(difference(one, all.subarray(i * row, (i + 1) * row)) <= tolerance(args));
    }
  }
});

Deno.test("attention() refuses what it cannot compute", async () => {
  const backend = await open(LEVELS.at(-1)!, 1);
  const args = attentionArgs({ ...COMMON, tokens: 33 });
  const refuses = (change: Partial<AttentionArgs>, says: string) =>
    assertThrows(() => run(backend, { ...args, ...change }), KernelError, says);
  const heads = (count: number, headDim: number) => {
    const queries = tensorOf("f32", [args.queries.shape[0]!, count, headDim], () => 0);
    return { queries, out: queries };
  };
  refuses(heads(7, 64), "7 query heads over 2 KV heads");
  refuses({ scale: NaN }, "scale that is not finite");
  refuses({ recent: -1 }, "recent_window");
  refuses({ sinks: -1 }, "sinks");
  const empty = hostTensor("i32", [0], new Int32Array(0));
  assertThrows(() => run(backend, { ...args, windows: empty }), RangeError, '"windows": found shape [0]');
  const floats = tensorOf("f32", [args.numKeys], () => 0);
  assertThrows(() => run(backend, { ...args, keyEnds: floats }), TypeError, '"cachedEnds"');
  for (const recent of [1.5, 2 ** 32 + 5]) {
    assertThrows(() => run(backend, { ...args, recent }), RangeError, `found ${recent}`);
  }
  for (const [name, used] of [["cached", "numKeys"], ["recent", "numRecent"]] as const) {
    const count = args[used];
    const tensors = name === "cached"
      ? ["keys", "values", "keyPositions", "keyEnds"] as const
      : ["recentKeys", "recentValues", "recentPositions"] as const;
    for (const tensor of tensors) { // a store has as many rows as its shortest tensor
      const short = { [tensor]: rowsOf((args[tensor] ?? args.keyPositions) as HostTensor, 0, count - 1) };
      const message = `Cannot use ${count} ${name} rows: expected 0 to ${count - 1}, the rows of its tensors`;
      assertThrows(() => run(backend, { ...args, ...short }), RangeError, message);
    }
    for (const wrong of [-1, 0.5, NaN]) {
      const message = `Cannot use ${wrong} ${name} rows`;
      assertThrows(() => run(backend, { ...args, [used]: wrong }), RangeError, message);
    }
  }
  refuses({ scale: 1e300 }, "scale that is not finite in f32");
  const descending = hostTensor("i32", [2], new Int32Array([5, 3]));
  refuses({ keyPositions: descending, numKeys: 2 }, "found position 3 after 5");
  const wide = tensorOf("f32", [1, 1, 257], () => 0);
  const one = hostTensor("i32", [1], new Int32Array(1));
  refuses({
    queries: wide,
    out: wide,
    queryPositions: one,
    keys: wide,
    values: wide,
    keyPositions: one,
    numKeys: 1,
    recentKeys: wide,
    recentValues: wide,
    recentPositions: one,
    numRecent: 0,
  }, "head_dim = 257");
});
