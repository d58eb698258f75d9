import { assert, assertEquals, assertThrows } from "@std/assert";
import { ptxCounts } from "../../ffi/cuda/testing.ts";
import type { AttentionArgs, Backend } from "../../lib/backend.ts";
import { KernelError } from "../../lib/errors.ts";
import { dequantize } from "../../lib/reference/dequantize.ts";
import { ReferenceBackend } from "../../lib/reference/mod.ts";
import {
  countOf,
  f32Data,
  hostData,
  type HostTensor,
  hostTensor,
  rowsOf,
  type Tensor,
} from "../../lib/tensor.ts";
import { RUNS_SLOW } from "../../lib/testing.ts";
import {
  cpuWays,
  isSampled,
  testCases,
  testInEveryWay,
  testOnCpu,
  testOnDevice,
  type Way,
  wayOf,
} from "../testing/ways.ts";
import {
  ATTENTION_CASES,
  attentionArgs,
  type AttentionCase,
  KERNEL_CASES,
  nameOf,
  roundQueries,
  seesCached,
  tensorOf,
} from "./cases.ts";
import { BAR, difference } from "./testing.ts";

/** A small case for every kernel of a device. */
const SMALL_KERNEL_CASES = KERNEL_CASES.filter(({ keep, ends }) => keep === "all" && ends === undefined)
  .map((c): AttentionCase => ({ ...c, tokens: 33, last: c.last && 2 }));
const REFERENCE = wayOf("reference", new ReferenceBackend());

/** Largest |x| of a tensor's first rows, and largest Euclidean norm of its vectors along the last dimension. */
function sizes(tensor: Tensor, rows = tensor.shape[0]!): { value: number; norm: number } {
  const width = tensor.shape.at(-1)!, count = rows * countOf(tensor.shape.slice(1));
  const x = dequantize(tensor as HostTensor, 0, count);
  let value = 0, norm = 0;
  for (let i = 0; i < count; i += width) {
    const vector = x.subarray(i, i + width);
    let squares = 0;
    for (const a of vector) {
      squares += a * a;
      value = Math.max(value, Math.abs(a));
    }
    norm = Math.max(norm, Math.sqrt(squares));
  }
  return { value, norm };
}

/** Largest value, and error of a weight that float32 allows: a score may be as large as |q| |k| scale. */
function limits(a: AttentionArgs): { values: number; weight: number } {
  const keys = Math.max(sizes(a.keys, a.numKeys).norm, sizes(a.recentKeys, a.numRecent).norm);
  const values = Math.max(sizes(a.values, a.numKeys).value, sizes(a.recentValues, a.numRecent).value);
  return { values, weight: 1.5e-7 * sizes(a.queries).norm * keys * a.scale };
}

/** Tolerance of float32: an error of a score changes its weight by that fraction; the weights then mix values. */
function tolerance(a: AttentionArgs): number {
  const { values, weight } = limits(a);
  return (1.5e-7 + weight) * values;
}

/** On a device the tolerance of the type; relative to values and scores where these are large. */
function deviceTolerance(c: AttentionCase, a: AttentionArgs): number {
  if (c.data !== "outliers" && c.data !== "peak") return BAR[c.dtype];
  const { values, weight } = limits(a);
  return (BAR[c.dtype] + weight) * values;
}

function run({ backend, on, values }: Way<Backend>, args: AttentionArgs): Float32Array {
  const out = on(tensorOf("f32", args.out.shape, () => NaN));
  const placed = Object.entries(args).map(([name, x]) => [name, typeof x === "object" ? on(x) : x]);
  backend.attention({ ...Object.fromEntries(placed), out });
  return values(out);
}

testCases(
  "attention() equals the reference on all cases",
  ATTENTION_CASES,
  [285 + 3 * 35, 277 + 3 * 35],
  (c) => {
    const exact = attentionArgs(c), rounded = c.dtype === "f32" ? exact : roundQueries(exact, c.dtype);
    const expected = run(REFERENCE, exact), onDevice = rounded === exact ? expected : run(REFERENCE, rounded);
    const allowedOnCpu = tolerance(exact), allowedOnDevice = deviceTolerance(c, rounded);
    return (way) => {
      const cpu = way.backend.name !== "cuda", allowed = cpu ? allowedOnCpu : allowedOnDevice;
      const worst = difference(run(way, cpu ? exact : rounded), cpu ? expected : onDevice);
      assert(worst <= allowed, `${way.name}, ${nameOf(c)}: off by ${worst}, allowed ${allowed}`);
    };
  },
  ({ tokens, ends, local }) => tokens <= 300 || !(ends || local),
);

testInEveryWay(
  "attention() gives shares of the last queries and keys, and what changes without them, which change nothing else",
  (ways) => {
    const onCpu = ways[0]!.backend.name === "cpu", each = onCpu ? 1 : 6; // a device takes one case of six
    let runs = 0, given = 0, near = 0;
    const cases = ATTENTION_CASES.filter(({ tokens }, i) => tokens < 300 && isSampled(i) && i % each === 0);
    for (const c of onCpu ? cases : [...cases, ...SMALL_KERNEL_CASES]) {
      const exact = attentionArgs(c), rows = exact.queries.shape[0]!, last = Math.min(exact.numKeys, 150);
      if (rows * last === 0) continue;
      const args = onCpu || c.dtype === "f32" ? exact : roundQueries(exact, c.dtype);
      const headWeights = tensorOf("f32", [args.queries.shape[1]!], (head) => 0.5 + head);
      /** Shares of the last queries, what changes where that is asked for, and the output. */
      const attend = (
        { backend, on, values }: Way<Backend>,
        count: number,
        changes: boolean,
        shareDistance = 0,
      ) => {
        const numbers = () => on(hostTensor("f64", [count, last], new Float64Array(count * last).fill(NaN)));
        const placed = Object.entries(args).map(([name, x]) => [name, typeof x === "object" ? on(x) : x]);
        const shares = numbers(), moved = changes ? numbers() : undefined;
        const out = on(tensorOf("f32", args.out.shape, () => NaN));
        backend.attention({
          ...Object.fromEntries(placed),
          ...{ shares, shareDistance, out },
          ...(moved && { changes: { out: moved, headWeights: on(headWeights) } }),
        });
        return {
          shares: values(shares),
          out: values(out),
          changes: moved ? values(moved) : new Float32Array(0),
        };
      };
      const expected = attend(REFERENCE, rows, true), distance = 1 + Math.floor(c.tokens / 4);
      const isNear = (at: number) =>
        hostData(args.queryPositions as HostTensor)[Math.floor(at / last)]! -
            hostData(args.keyPositions as HostTensor)[args.numKeys - last + at % last]! < distance;
      /** The same without near keys. */
      const withoutNear = (all: ArrayLike<number>) => Array.from(all, (x, at) => isNear(at) ? 0 : x);
      near += withoutNear(expected.shares).filter((x, at) => x !== expected.shares[at]).length;
      given += expected.shares.filter((x) => x > 0).length;
      const allowed = Math.min(1, (onCpu ? 3e-7 : BAR[c.dtype]) + limits(args).weight);
      const most = expected.changes.reduce((a, b) => Math.max(a, b), 0);
      for (const way of ways) {
        const all = attend(way, rows, true), few = Math.ceil(rows / 3), lastOnes = attend(way, few, true);
        assertEquals(attend(way, rows, false).shares, all.shares);
        assertEquals(lastOnes.shares, all.shares.slice(-few * last));
        assertEquals(lastOnes.changes, all.changes.slice(-few * last));
        const far = attend(way, rows, true, distance);
        assertEquals(Array.from(far.shares), withoutNear(all.shares));
        assertEquals(Array.from(far.changes), withoutNear(all.changes));
        const worst = difference(Float32Array.from(all.shares), Float32Array.from(expected.shares));
        assert(worst <= allowed, `${way.name}, ${nameOf(c)}: off by ${worst}, allowed ${allowed}`);
        const off = difference(Float32Array.from(all.changes), Float32Array.from(expected.changes));
        // An error of w changes (w / (1 - w))^2 by up to 2 / 0.0196 times as much, where 1 - w is least.
        assert(off <= 110 * allowed * most, `${way.name}, ${nameOf(c)}: changes off by ${off} of ${most}`);
        assertEquals(all.out, run(way, args));
        runs++;
      }
    }
    const least = (RUNS_SLOW ? 100 : 50) / each;
    assert(runs > least * ways.length && given > 10_000 / each, `${runs} runs, ${given} shares`);
    assert(near > given / 10, `${near} shares of near keys`);
  },
);

/** Prefills of 16-bit heads of at most 128 numbers, which wgmma takes where it is asked for. */
const GAPS_BY_WGMMA = ATTENTION_CASES.filter(({ phase, dtype, headDim, ends, local }) =>
  phase === "prefill" && dtype !== "f32" && headDim <= 128 && (ends || local)
);

testOnDevice(
  "attention() by wgmma equals the reference where keys end and queries are local, small cases",
  (way) => {
    const { context } = way;
    if (!context.useWgmma(true)) return;
    for (const c of GAPS_BY_WGMMA) {
      const args = roundQueries(attentionArgs(c), c.dtype), before = ptxCounts();
      const worst = difference(run(way, args), run(REFERENCE, args)), allowed = deviceTolerance(c, args);
      assert(worst <= allowed, `${way.name}, ${nameOf(c)}: off by ${worst}, allowed ${allowed}`);
      if (before !== undefined) assert(ptxCounts()!.products > before.products, nameOf(c));
    }
    context.useWgmma(false);
    assertEquals(GAPS_BY_WGMMA.length, 9 + 12);
  },
);

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

testOnCpu("attention() gives a query 0 when it sees nothing", async () => {
  const args = attentionArgs({ ...COMMON, tokens: 1 }), ways = await cpuWays();
  for (const way of ways) {
    const out = run(way, { ...args, numKeys: 0, numRecent: 0 });
    assert(out.length > 0 && out.every((x) => x === 0));
  }
  // Also next to a query with enough keys that they are cut into stretches.
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
  expected.set(run(REFERENCE, long), 64);
  for (const way of ways) {
    const out = run(way, two);
    assert(out.subarray(0, 64).every((x) => x === 0), way.name);
    assert(difference(out, expected) <= tolerance(long), way.name);
  }
});

testOnCpu("attention() lets no later key or value reach an earlier query", async () => {
  const args = attentionArgs({ ...COMMON, keep: "all" });
  const positions = args.queryPositions.shape[0]!, row = args.out.shape[1]! * args.out.shape[2]!;
  for (const way of await cpuWays()) {
    const before = run(way, args).slice(0, (positions - 1) * row);
    f32Data(args.keys).fill(50, (args.numKeys - 1) * 128, args.numKeys * 128);
    f32Data(args.values).fill(-1e6, (args.numKeys - 1) * 128, args.numKeys * 128);
    assertEquals(run(way, args).slice(0, (positions - 1) * row), before);
  }
});

testOnCpu("attention() shows NaN and infinity to the queries that see them, and to no others", async () => {
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
    { keep: "all", local: "half", sinks: 2, part: 0.015 }, // the one behind the sinks
    { keep: "all", tokens: 8, group: 1, ends: "odd", local: "half", sinks: 2 },
  ];
  const tensors = ["keys", "values", "recentKeys", "recentValues"] as const;
  let reached = 0, spared = 0;
  for (const way of await cpuWays()) {
    for (const [i, shape] of shapes.entries()) {
      for (const [j, what] of tensors.entries()) {
        for (const poison of RUNS_SLOW ? [NaN, Infinity] : [(i + j) % 2 === 0 ? NaN : Infinity]) {
          const args = attentionArgs({ ...COMMON, ...shape });
          const recent = what.startsWith("recent"), used = recent ? args.numRecent : args.numKeys;
          if (used === 0) continue;
          const before = run(way, args);
          const { data } = args[what] as HostTensor, width = countOf(args.keys.shape.slice(1));
          const at = Math.ceil(used * (shape.part ?? 2 / 3)) - 1;
          const bits = Number.isNaN(poison) ? 0x7fc0 : 0x7f80; // of bf16
          data.fill(args.keys.dtype === "bf16" ? bits : poison, at * width, (at + 1) * width);
          const after = run(way, args);
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
                `${way.name}, ${what} ${poison}, query ${i}`,
              );
              spared++;
            } else {
              assert(found.every((x) => !Number.isFinite(x)), `${way.name}, ${what} ${poison}, query ${i}`);
              reached++;
            }
          });
        }
      }
    }
  }
  const poisoned = (RUNS_SLOW ? 2 : 1) * (await cpuWays()).length;
  assert(reached > 250 * poisoned && spared > 500 * poisoned, `${reached} reached, ${spared} spared`);
});

testOnCpu("attention() of one query over a long cache that holds NaN is NaN", async () => {
  const args = attentionArgs({ ...COMMON, phase: "decode", tokens: 3000, keep: "all" });
  f32Data(args.keys)[5 * 128 + 3] = NaN;
  for (const way of await cpuWays()) {
    const half = args.out.shape[1]! / 2 * 64, out = run(way, args).slice(-2 * half);
    assert(out.slice(0, half).every(Number.isNaN));
    assert(out.slice(half).every(Number.isFinite));
  }
});

/** Output of queries [from, to) of a call, [to - from, heads, headDim]. */
function runSome(way: Way<Backend>, args: AttentionArgs, from: number, to: number): Float32Array {
  const [, ...heads] = args.queries.shape as number[], row = countOf(heads);
  const positions = (args.queryPositions as HostTensor).data as Int32Array;
  return run(way, {
    ...args,
    queries: hostTensor("f32", [to - from, ...heads], f32Data(args.queries).subarray(from * row, to * row)),
    queryPositions: hostTensor("i32", [to - from], positions.subarray(from, to)),
    out: tensorOf("f32", [to - from, ...heads], () => NaN),
  });
}

testOnCpu("attention() of one query at a time equals attention of all", async () => {
  const args = attentionArgs(COMMON),
    count = args.queries.shape[0]!,
    row = countOf(args.queries.shape) / count,
    allowed = tolerance(args);
  for (const way of await cpuWays()) {
    const all = run(way, args);
    for (let i = 0; i < count; i++) {
      const one = runSome(way, args, i, i + 1);
      assert(difference(one, all.subarray(i * row, (i + 1) * row)) <= allowed);
    }
  }
});

testOnCpu(
  "attention() of some queries, whose keys are not packed, has the bits of attention of all",
  async () => {
    for (const [i, dtype] of (["f32", "f16", "bf16"] as const).entries()) {
      for (const [j, data] of (["plain", "outliers", "peak"] as const).entries()) {
        if (i !== j && !RUNS_SLOW) continue;
        const headDim = dtype === "f16" ? 80 : 64;
        const chunk = { phase: "chunk", last: 64, tokens: 300, keep: "all" } as const;
        const args = attentionArgs({ ...COMMON, ...chunk, dtype, data, headDim });
        const count = args.queries.shape[0]!, row = countOf(args.queries.shape) / count;
        for (const way of await cpuWays()) {
          const all = run(way, args);
          for (const some of [3, 8, 10, 16, 20]) { // 9 to 60 rows of a KV head
            const found = runSome(way, args, count - some, count);
            assertEquals(
              found,
              all.subarray((count - some) * row),
              `${way.name}, ${some} of ${dtype}, ${data}`,
            );
          }
        }
      }
    }
  },
);

testOnCpu("attention() refuses what it cannot compute", async () => {
  const way = (await cpuWays()).at(-1)!;
  const args = attentionArgs({ ...COMMON, tokens: 33 });
  const refuses = (change: Partial<AttentionArgs>, says: string) =>
    assertThrows(() => run(way, { ...args, ...change }), KernelError, says);
  const heads = (count: number, headDim: number) => {
    const queries = tensorOf("f32", [args.queries.shape[0]!, count, headDim], () => 0);
    return { queries, out: queries };
  };
  refuses(heads(7, 64), "7 query heads over 2 KV heads");
  refuses({ scale: NaN }, "scale that is not finite");
  refuses({ recent: -1 }, "recent_window");
  refuses({ sinks: -1 }, "sinks");
  const empty = hostTensor("i32", [0], new Int32Array(0));
  assertThrows(() => run(way, { ...args, windows: empty }), RangeError, '"windows": found shape [0]');
  const floats = tensorOf("f32", [args.numKeys], () => 0);
  assertThrows(() => run(way, { ...args, keyEnds: floats }), TypeError, '"cachedEnds"');
  for (const recent of [1.5, 2 ** 32 + 5]) {
    assertThrows(() => run(way, { ...args, recent }), RangeError, `found ${recent}`);
  }
  for (const [name, used] of [["cached", "numKeys"], ["recent", "numRecent"]] as const) {
    const count = args[used];
    const tensors = name === "cached"
      ? ["keys", "values", "keyPositions", "keyEnds"] as const
      : ["recentKeys", "recentValues", "recentPositions"] as const;
    for (const tensor of tensors) { // a store has as many rows as its shortest tensor
      const short = { [tensor]: rowsOf((args[tensor] ?? args.keyPositions) as HostTensor, 0, count - 1) };
      const message = `Cannot use ${count} ${name} rows: expected 0 to ${count - 1}, the rows of its tensors`;
      assertThrows(() => run(way, { ...args, ...short }), RangeError, message);
    }
    for (const wrong of [-1, 0.5, NaN]) {
      const message = `Cannot use ${wrong} ${name} rows`;
      assertThrows(() => run(way, { ...args, [used]: wrong }), RangeError, message);
    }
  }
  refuses({ scale: 1e300 }, "scale that is not finite in f32");
  const descending = hostTensor("i32", [2], new Int32Array([5, 3]));
  refuses({ keyPositions: descending, numKeys: 2 }, "found position 3 after 5");
  const one = hostTensor("i32", [1], new Int32Array(1));
  for (
    const [heads, headDim, says] of [[1, 257, "head_dim = 257"], [65536, 1, "kv_heads = 65536"]] as const
  ) {
    const wide = tensorOf("f32", [1, heads, headDim], () => 0), keys = { keys: wide, values: wide };
    const recent = { recentKeys: wide, recentValues: wide, recentPositions: one, numRecent: 0 };
    const rows = { queries: wide, out: wide, queryPositions: one, keyPositions: one, numKeys: 1 };
    refuses({ ...rows, ...keys, ...recent }, says);
  }
});

testInEveryWay(
  "attention() of some KV heads gives what a call of these alone gives, and leaves the others",
  (ways) => {
    let runs = 0;
    const onCpu = ways[0]!.backend.name === "cpu";
    const several = ATTENTION_CASES.filter(({ tokens, group }) => tokens < 300 && group < 9);
    const cases = several.filter((_, i) => i % (onCpu ? 7 : 40) === 0);
    if (!onCpu) cases.push(...SMALL_KERNEL_CASES);
    for (const [i, c] of cases.entries()) {
      const args = attentionArgs({ ...c, numKvHeads: 2 }), [rows, numHeads, headDim] = args.queries.shape;
      const group = numHeads! / 2, width = group * headDim!, last = Math.min(args.numKeys, onCpu ? 40 : 5);
      const own = f32Data(args.queries), of = 5, places = [[1, 3], [0, 2]][i % 2]!;
      // Queries of five KV heads, of which the keys have two; what the others have is NaN.
      const wide = tensorOf("f32", [rows!, of * group, headDim!], () => NaN);
      for (let row = 0; row < rows!; row++) {
        places.forEach((place, kvHead) => {
          const part = own.subarray((row * 2 + kvHead) * width, (row * 2 + kvHead + 1) * width);
          f32Data(wide).set(part, (row * of + place) * width);
        });
      }
      const weigh = (heads: number, at: (head: number) => number) => tensorOf("f32", [heads], at);
      for (const { name, backend, on, values } of ways) {
        const attend = (queries: HostTensor, headWeights: HostTensor, more: Partial<AttentionArgs>) => {
          const out = on(tensorOf("f32", queries.shape, () => -7)),
            numbers = () => on(hostTensor("f64", [rows!, last], new Float64Array(rows! * last)));
          const placed = Object.fromEntries(
            Object.entries(args).map(([key, x]) => [key, typeof x === "object" ? on(x) : x]),
          );
          const shares = numbers(), changes = { out: numbers(), headWeights: on(headWeights) };
          const shown = rows! * last > 0 ? { shares, changes } : {};
          backend.attention({ ...placed, queries: on(queries), out, ...shown, ...more } as AttentionArgs);
          const read = (x: Tensor) => [...backend.read(x).data];
          return { out: values(out), shown: [...read(shares), ...read(changes.out)] };
        };
        const alone = attend(args.queries as HostTensor, weigh(2 * group, (head) => 1 + head), {});
        const kvPlaces = { places: on(hostTensor("i32", [2], Int32Array.from(places))), of };
        const weights = weigh(of * group, (head) => {
          const kvHead = places.indexOf(Math.floor(head / group));
          return kvHead < 0 ? NaN : 1 + kvHead * group + head % group;
        });
        const found = attend(wide, weights, { kvPlaces }), message = `${name}, ${nameOf(c)}`;
        assertEquals(found.shown, alone.shown, message);
        for (let row = 0; row < rows!; row++) {
          for (let place = 0; place < of; place++) {
            const part = found.out.subarray((row * of + place) * width, (row * of + place + 1) * width);
            const kvHead = places.indexOf(place), from = (row * 2 + kvHead) * width;
            const expected = kvHead < 0
              ? new Float32Array(width).fill(-7)
              : alone.out.subarray(from, from + width);
            assertEquals(part, expected, message);
          }
        }
        runs++;
      }
    }
    assert(runs > 4, `${runs}`);
  },
);
