import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import type { AttentionArgs } from "../backend.ts";
import { toBf16, toF16 } from "../math/half.ts";
import { emptyTensor, f32Data, hostData, hostTensor, type Tensor } from "../tensor.ts";
import { ReferenceBackend } from "./mod.ts";

const backend = new ReferenceBackend();
const f32 = (shape: number[], values: number[]) => hostTensor("f32", shape, Float32Array.from(values));
const i32 = (values: number[]) => hostTensor("i32", [values.length], Int32Array.from(values));
const near = (tensor: Tensor, want: number[], tolerance = 1e-6) => {
  assertEquals(hostData(tensor).length, want.length);
  want.forEach((value, i) => assertAlmostEquals(hostData(tensor)[i]!, value, tolerance));
};

Deno.test("embedding() takes rows by id, scaled, and refuses an unknown id", () => {
  const out = emptyTensor("f32", [3, 2]);
  backend.embedding(f32([3, 2], [1, 2, 3, 4, 5, 6]), i32([2, 0, 2]), out);
  near(out, [5, 6, 1, 2, 5, 6]);
  backend.embedding(f32([3, 2], [1, 2, 3, 4, 5, 6]), i32([2, 0, 2]), out, -0.5);
  near(out, [-2.5, -3, -0.5, -1, -2.5, -3]);
  assertThrows(
    () => backend.embedding(f32([3, 2], [1, 2, 3, 4, 5, 6]), i32([3, 0, 2]), out),
    RangeError,
    "id 3",
  );
});

Deno.test("rmsNorm() divides by the root of the mean square", () => {
  const out = emptyTensor("f32", [1, 4]);
  backend.rmsNorm(f32([1, 4], [2, 2, -2, 2]), f32([4], [1, 2, 3, 0]), 0, out);
  near(out, [1, 2, -3, 0]);
  backend.rmsNorm(f32([1, 4], [0, 0, 0, 0]), f32([4], [1, 2, 3, 0]), 1e-5, out);
  near(out, [0, 0, 0, 0]);
});

Deno.test("addRmsNorm(), linears() and gatedLinear() are what they are made of, one after the other", () => {
  const x = f32([1, 2], [1, 5]), out = emptyTensor("f32", [1, 2]);
  backend.addRmsNorm(x, f32([1, 2], [2, -2]), f32([2], [1, 2]), 0, out);
  near(x, [3, 3]);
  near(out, [1, 2]);
  const [gate, up] = [[1, 0], [0, 2]].map((row) => ({
    weight: f32([1, 2], row),
    out: emptyTensor("f32", [1, 1]),
  }));
  backend.linears(x, [gate!, up!]);
  near(gate!.out, [3]);
  near(up!.out, [6]);
  backend.gatedLinear(x, gate!, up!, "swiglu");
  near(gate!.out, [6 * 3 / (1 + Math.exp(-3))]);
});

Deno.test("linear() gives every column its own sum, however many there are", () => {
  for (let n = 1; n <= 9; n++) {
    const out = emptyTensor("f32", [3, n]);
    backend.linear(
      f32([3, 2], [1, 0, 0, 1, 2, 3]),
      f32([n, 2], Array.from({ length: 2 * n }, (_, i) => i)),
      out,
    );
    const columns = Array.from({ length: n }, (_, i) => i);
    near(
      out,
      [columns.map((i) => 2 * i), columns.map((i) => 2 * i + 1), columns.map((i) => 10 * i + 3)].flat(),
    );
  }
});

Deno.test("linear() multiplies by the transpose, of q8_0 weights too", () => {
  const out = emptyTensor("f32", [2, 2]);
  backend.linear(f32([2, 3], [1, 2, 3, 4, 5, 6]), f32([2, 3], [1, 0, -1, 2, 2, 2]), out);
  near(out, [-2, 12, -2, 30]);
  const block = new Uint8Array(34);
  new DataView(block.buffer).setUint16(0, toF16(0.5), true);
  for (let i = 0; i < 32; i++) block[2 + i] = (i - 16) & 255;
  const ones = f32([1, 32], Array(32).fill(1)), sum = emptyTensor("f32", [1, 1]);
  backend.linear(ones, hostTensor("q8_0", [1, 32], block), sum);
  near(sum, [-8]);
});

Deno.test("rope() turns adjacent pairs by position times frequency", () => {
  const x = f32([1, 1, 4], [1, 0, 0, 1]);
  backend.rope(x, i32([3]), hostTensor("f64", [2, 2], Float64Array.of(1, 1, 0.1, 2)));
  near(x, [Math.cos(3), Math.sin(3), -2 * Math.sin(0.3), 2 * Math.cos(0.3)]);
});

Deno.test("swiglu() is silu(gate) * up, also in place", () => {
  const gate = f32([1, 3], [0, 1, -100]);
  backend.swiglu(gate, f32([1, 3], [5, 2, 3]), gate);
  near(gate, [0, 2 / (1 + Math.exp(-1)), 0]);
});

Deno.test("geglu() is gelu(gate) * up by the tanh formula, also in place", () => {
  const gate = f32([1, 3], [1, -2, 100]);
  backend.geglu(gate, f32([1, 3], [2, 10, 3]), gate);
  near(gate, [2 * 0.8411919906, -10 * 0.0454023059, 300]);
});

Deno.test("gatherRows(), scatterAddRows() and storeRows() move rows and round to 16 bits", () => {
  const x = f32([3, 2], [1, 2, 3, 4, 5, 6]);
  const out = emptyTensor("f32", [2, 2]);
  backend.gatherRows(x, i32([2, 0]), out);
  near(out, [5, 6, 1, 2]);
  backend.scatterAddRows(x, i32([1, 2]), f32([2, 2], [10, 20, 30, 40]));
  near(x, [1, 2, 13, 24, 35, 46]);
  for (const [dtype, round] of [["f16", toF16], ["bf16", toBf16]] as const) {
    const half = emptyTensor(dtype, [3, 2]);
    backend.storeRows(f32([1, 2], [1 / 3, 7]), half, 1);
    assertEquals([...hostData(half)], [0, 0, round(1 / 3), 7].slice(0, 3).concat(round(7), 0, 0));
    const back = emptyTensor("f32", [1, 2]);
    backend.gatherRows(half, i32([1]), back);
    near(back, [1 / 3, 7], 2e-3);
  }
  assertThrows(
    () => backend.storeRows(x, emptyTensor("f32", [3, 2]), 1),
    RangeError,
    "expected them to fit into the 3",
  );
  assertThrows(() => backend.gatherRows(x, i32([3, 0]), out), RangeError, "row 3");
});

Deno.test("rowNorms() is Euclidean", () => {
  assertEquals([...backend.rowNorms(f32([2, 2], [3, 4, 0, 0]))], [5, 0]);
});

Deno.test("nll() and compareLogits() give losses, divergence and agreement of known distributions", () => {
  const log = (values: number[]) => values.map(Math.log);
  const p = f32([2, 4], [...log([0.5, 0.25, 0.125, 0.125]), 1000, 1000, -1000, 0]);
  const q = f32([2, 4], [...log([0.25, 0.25, 0.25, 0.25]), 1000, 1001, 0, 0]);
  const nll = backend.nll(p, i32([2, 0]));
  assertAlmostEquals(nll[0]!, Math.log(8), 1e-6);
  assertAlmostEquals(nll[1]!, Math.log(2), 1e-6);
  const result = backend.compareLogits(p, q, i32([2, 1]));
  assertAlmostEquals(result.baseNll[0]!, Math.log(8), 1e-6);
  assertAlmostEquals(result.nll[0]!, Math.log(4), 1e-6);
  assertAlmostEquals(result.kl[0]!, Math.log(4) - 1.75 * Math.log(2), 1e-6);
  const other = [1 / (1 + Math.E), Math.E / (1 + Math.E)];
  assertAlmostEquals(result.kl[1]!, Math.log(0.5) - (Math.log(other[0]!) + Math.log(other[1]!)) / 2, 1e-6);
  assertEquals([...result.agree], [1, 0]);
  assertThrows(() => backend.nll(p, i32([4, 0])), RangeError, "target 4");
  const narrow = f32([2, 2], [0, 0, 0, 0]);
  assertThrows(() => backend.compareLogits(p, narrow, i32([2, 1])), RangeError, "other");
});

/** Attention over keys [n, 1, 2] at given positions, two query heads on one KV head. */
function attend(change: Partial<AttentionArgs> & { rows?: number } = {}): number[] {
  const rows = change.rows ?? 1;
  const none = emptyTensor("f32", [0, 1, 2]);
  const args: AttentionArgs = {
    queries: f32([rows, 2, 2], Array.from({ length: rows }, () => [1, 0, 0, 2]).flat()),
    queryPositions: i32(Array.from({ length: rows }, (_, i) => 2 + i)),
    keys: f32([3, 1, 2], [1, 0, 0, 1, 5, 5]),
    values: f32([3, 1, 2], [1, 0, 0, 1, 9, 9]),
    keyPositions: i32([0, 2, 3]),
    numKeys: 3,
    recentKeys: none,
    recentValues: none,
    recentPositions: i32([]),
    numRecent: 0,
    recent: 0,
    scale: 1,
    out: emptyTensor("f32", [rows, 2, 2]),
    ...change,
  };
  backend.attention(args);
  return [...f32Data(args.out)];
}

Deno.test("attention() is the softmax over keys at or before the query, shared by the heads of a group", () => {
  const e = Math.E, w = e / (e + 1), u = 1 / (1 + e * e);
  attend().forEach((value, i) => assertAlmostEquals(value, [w, 1 - w, u, 1 - u][i]!, 1e-6));
});

Deno.test("attention() sees recent rows within the window alone", () => {
  const recentKeys = f32([2, 1, 2], [0, 0, 0, 0]), recentValues = f32([2, 1, 2], [3, 3, 6, 6]);
  const seen = { recentKeys, recentValues, recentPositions: i32([0, 1]), numRecent: 2, numKeys: 0 };
  assertEquals(attend({ ...seen, recent: 0 }), [0, 0, 0, 0]);
  assertEquals(attend({ ...seen, recent: 1 }), [6, 6, 6, 6]);
  assertEquals(attend({ ...seen, recent: 2 }), [4.5, 4.5, 4.5, 4.5]);
  assertEquals(attend({ ...seen, recent: 1, rows: 2 }).slice(4), [0, 0, 0, 0]);
});

/** Outputs for queries at 2 and 3, which attend to the keys at 0, 2 and 3: the mean of 2, 10 and 36, or of some. */
function attendMeans(change: Partial<AttentionArgs>): number[] {
  const keys = f32([3, 1, 2], [0, 0, 0, 0, 0, 0]), values = f32([3, 1, 2], [2, 2, 10, 10, 36, 36]);
  return attend({ rows: 2, keys, values, ...change }).filter((_, i) => i % 4 === 0);
}

Deno.test("attention() sees a cached row up to the position before its end", () => {
  assertEquals(attendMeans({}), [6, 16]);
  assertEquals(attendMeans({ keyEnds: i32([3, 4, 2 ** 31 - 1]) }), [6, 23]);
  assertEquals(attendMeans({ keyEnds: i32([2, 3, 4]) }), [10, 36]);
  assertEquals(attendMeans({ keyEnds: i32([0, 0, 0]) }), [0, 0]);
});

Deno.test("attention() of a local query sees its window and the sinks, beside a full query", () => {
  assertEquals(attendMeans({ windows: i32([-1, 3]) }), [6, 16]);
  assertEquals(attendMeans({ windows: i32([-1, 2]) }), [6, 23]);
  assertEquals(attendMeans({ windows: i32([1, 0]) }), [10, 36]);
  assertEquals(attendMeans({ windows: i32([0, 0]), sinks: 1 }), [6, 19]);
  assertEquals(attendMeans({ windows: i32([0, -1]), sinks: 1, keyEnds: i32([2, 3, 4]) }), [10, 36]);
  const far = { recentKeys: f32([1, 1, 2], [0, 0]), recentValues: f32([1, 1, 2], [20, 20]) };
  const recent = { ...far, recentPositions: i32([1]), numRecent: 1, recent: 2 };
  assertEquals(
    attendMeans({ windows: i32([0, 0]), ...recent }),
    [15, 28],
    "recent rows have their own window",
  );
});

Deno.test("attention() gives each key's share, and what the outputs change without the key", () => {
  const e = Math.E, w = e / (e + 1), u = 1 / (1 + e * e);
  const shares = emptyTensor("f64", [1, 3]), out = emptyTensor("f64", [1, 3]);
  attend({ shares, changes: { headWeights: f32([2], [2, 3]), out } });
  // Each head attends to two keys, of values (1, 0) and (0, 1): without one, its output is the other's value.
  const change = (a: number, b: number) => 2 * (2 * a ** 2) + 3 * (2 * b ** 2);
  near(shares, [(w + u) / 2, 1 - (w + u) / 2, 0]);
  near(out, [change(w, u), change(1 - w, 1 - u), 0]);
});

Deno.test("attention() refuses heads that do not divide and keys that are not there", () => {
  const three = f32([1, 3, 2], [0, 0, 0, 0, 0, 0]), two = emptyTensor("f32", [3, 2, 2]);
  assertThrows(() => attend({ queries: three, keys: two, values: two }), RangeError, "expected a multiple");
  assertThrows(() => attend({ numKeys: 4 }), RangeError, "found fewer rows");
  assertThrows(() => attend({ keyEnds: i32([9, 9]) }), RangeError, "found fewer rows");
  assertThrows(() => attend({ keyEnds: f32([3], [9, 9, 9]) }), TypeError, '"keyEnds"');
  assertThrows(() => attend({ windows: i32([0, 0]) }), RangeError, '"windows"');
});
