/** The ops of a batch by themselves; as parts of a model: `lib/model/run/batch/batch_decoder_test.ts`. */
import { assertEquals, assertThrows } from "@std/assert";
import type { BatchCache, BatchDecisions, BatchStates } from "../batch_ops.ts";
import { createLayerState, createScanOutput, SCAN_COLUMNS } from "../filter/layer.ts";
import { projectionsOf } from "../filter/layer.ts";
import { scanLayer } from "../filter/scan.ts";
import { TokenFilter } from "../methods/bind/token_filter.ts";
import { projectionSigns } from "../math/random.ts";
import { emptyTensor, f32Data, hostData, hostTensor, rowsOf } from "../tensor.ts";
import { ReferenceBackend } from "./mod.ts";

const backend = new ReferenceBackend();
const i32 = (...values: number[]) => hostTensor("i32", [values.length], Int32Array.from(values));
const f32 = (shape: number[], ...values: number[]) => hostTensor("f32", shape, Float32Array.from(values));
const decisionsOf = (batch: number, ...kept: number[]): BatchDecisions => ({
  keep: emptyTensor("u8", [batch]),
  kept: i32(...kept, ...new Array(batch - kept.length).fill(0)),
  keptCount: i32(kept.length, 0),
});

function cacheOf(batch: number, capacity: number, recent: number): BatchCache {
  const rows = (count: number) => emptyTensor("f32", [batch, count, 1, 2]);
  return {
    keys: rows(capacity),
    values: rows(capacity),
    positions: emptyTensor("i32", [batch, capacity]),
    counts: emptyTensor("i32", [batch]),
    recentKeys: rows(recent),
    recentValues: rows(recent),
    recentPositions: hostTensor("i32", [batch, recent], new Int32Array(batch * recent).fill(-1)),
  };
}

Deno.test("linear(), rope() and add() with kept slots leave the others as they are", () => {
  const x = f32([3, 2], 1, 2, 3, 4, 5, 6), weight = f32([1, 2], 10, 1), out = f32([3, 1], NaN, NaN, NaN);
  backend.linear(x, weight, out, decisionsOf(3, 0, 2));
  assertEquals([...f32Data(out)], [12, NaN, 56]);
  backend.linear(x, weight, out, decisionsOf(3));
  assertEquals([...f32Data(out)], [12, NaN, 56]);
  backend.add(x, x, decisionsOf(3, 1));
  assertEquals([...f32Data(x)], [1, 2, 6, 8, 5, 6]);
  backend.add(x, f32([3, 2], 1, 1, 1, 1, 1, 1));
  assertEquals([...f32Data(x)], [2, 3, 7, 9, 6, 7]);
  const heads = f32([2, 1, 2], 1, 0, 1, 0);
  backend.rope(heads, i32(1, 1), hostTensor("f64", [1, 2], Float64Array.of(1, 1)), decisionsOf(2, 1));
  assertEquals([...f32Data(heads)], [1, 0, Math.cos(1), Math.sin(1)].map(Math.fround));
  assertThrows(() => backend.add(x, f32([2, 2], 1, 1, 1, 1)), RangeError, "delta");
});

Deno.test("kvFilterStep() writes the columns of each sequence's scan, its cache and its ring", () => {
  const shape = { numLayers: 1, numHeads: 1, numKvHeads: 1, headDim: 2, hiddenSize: 2 };
  const options = {
    fusion: "key",
    threshold: "fixed",
    theta: 0.5,
    warmup: 0,
    pruneRatio: 0.5,
    tail: 1,
  } as const;
  const [spec] = new TokenFilter(shape, options).specs, state = createLayerState(spec!);
  const keys = f32([3, 1, 2], 1, 0, 0, 1, 2, 0), values = f32([3, 1, 2], 1, 2, 3, 4, 5, 6);
  const want = createScanOutput(3);
  scanLayer(spec!, createLayerState(spec!), { keys, values }, 0, 3, want);
  assertEquals([...want.keep], [1, 1, 0]);

  const states: BatchStates = {
    spec: spec!,
    anchorK: emptyTensor("f32", [2, 1, 2]),
    anchorV: emptyTensor("f32", [2, 1, 2]),
    numbers: emptyTensor("f64", [2, state.numbers.length]),
    scores: emptyTensor("f64", [2, state.scores.length]),
    learned: emptyTensor("f64", [2, 0]),
    signs: backend.kvFilterSigns(spec!),
  };
  const cache = cacheOf(2, 2, 2), columns = hostTensor("f64", [7, 2], new Float64Array(14).fill(9));
  const decisions = { ...decisionsOf(2), columns };
  const none = emptyTensor("f32", [2, 2]);
  for (let t = 0; t < 3; t++) {
    const rows = (all: typeof keys) => f32([2, 1, 2], NaN, NaN, ...f32Data(rowsOf(all, t, t + 1)));
    const [k, v] = [rows(keys), rows(values)], positions = i32(-1, t);
    const step = {
      filterKeys: k,
      keys: k,
      values: v,
      residual: none,
      normed: none,
      queries: undefined,
      positions,
    };
    backend.kvFilterStep(states, cache, step, false, decisions);
    assertEquals([...hostData(decisions.keep)], [0, want.keep[t]]);
    SCAN_COLUMNS.forEach((name, i) =>
      assertEquals([...columns.data.subarray(2 * i, 2 * i + 2)], [9, want[name][t]], name)
    );
  }
  assertEquals([...hostData(decisions.keptCount)], [0, 0]);
  assertEquals([...hostData(cache.counts)], [0, 2]);
  assertEquals([...hostData(cache.positions)], [0, 0, 0, 1]);
  assertEquals([...f32Data(cache.values)], [0, 0, 0, 0, 1, 2, 3, 4]);
  assertEquals([...hostData(cache.recentPositions)], [-1, -1, 2, -1]); // token 2 lies at 2 % 2
  assertEquals([...f32Data(cache.recentKeys)], [0, 0, 0, 0, 2, 0, 0, 0]);
  const more = { filterKeys: keys, keys, values, residual: none, normed: none, queries: undefined };
  assertThrows(
    () => backend.kvFilterStep(undefined, cache, { ...more, positions: i32(-1, 3) }, false, decisions),
    RangeError,
    "Cannot append to slot 1: found its capacity of 2 rows used up",
  );
});

Deno.test("kvFilterSigns() has a row for each projection of the learned rule, and none for other rules", () => {
  const shape = { numLayers: 1, numHeads: 1, numKvHeads: 1, headDim: 2, hiddenSize: 3 };
  const [learned] = new TokenFilter(shape, { fusion: "learned", projections: 2, tail: 1 }).specs;
  const signs = projectionSigns(projectionsOf(learned!).seed, 0, 3, 2),
    found = backend.kvFilterSigns(learned!);
  assertEquals(found.shape, [2, 3]);
  assertEquals([...f32Data(found)], [0, 2, 4, 1, 3, 5].map((i) => signs[i]));
  const [other] = new TokenFilter(shape, { tail: 1 }).specs;
  assertEquals(backend.kvFilterSigns(other!).shape, [0, 3]);
});

Deno.test("advance() moves all but idle positions; argmax() takes the lowest index on ties", () => {
  const positions = i32(0, -1, 7);
  backend.advance(positions);
  assertEquals([...hostData(positions)], [1, -1, 8]);
  const ids = i32(9, 9);
  backend.argmax(f32([2, 3], 1, 5, 5, -2, -3, -2), ids);
  assertEquals([...hostData(ids)], [1, 0]);
});

Deno.test("row(), write() and copyRows() reach rows that are there alone", () => {
  const x = f32([2, 2], 1, 2, 3, 4), y = f32([3, 2], 0, 0, 0, 0, 0, 0);
  backend.write(backend.row(x, 1), f32([2], 8, 9));
  assertEquals([...f32Data(x)], [1, 2, 8, 9]);
  backend.copyRows(x, 0, y, 1, 2);
  assertEquals([...f32Data(y)], [0, 0, 1, 2, 8, 9]);
  for (const index of [-1, 2, NaN]) assertThrows(() => backend.row(x, index), RangeError, `row ${index}`);
  assertThrows(() => backend.write(x, f32([2], 1, 2)), RangeError, "values");
  assertThrows(() => backend.write(x, i32(1, 2)), TypeError, "values");
  assertThrows(
    () => backend.copyRows(x, 1, y, 0, 2),
    RangeError,
    "Cannot take 2 rows from 1 on: found 2 rows",
  );
  assertThrows(() => backend.copyRows(x, 0, y, 2, 2), RangeError, "found 3 rows");
  assertThrows(() => backend.copyRows(x, 0, f32([2, 1], 1, 2), 0, 1), RangeError, "rows of shape [2] to [1]");
  assertThrows(() => backend.copyRows(i32(1), 0, f32([1], 1), 0, 1), TypeError, "to");
});

Deno.test("attentionDecode() sees the recent row of position 0, and no empty one", () => {
  const cache = cacheOf(1, 1, 3);
  f32Data(cache.recentValues).set([7, 0, 0, 8]);
  hostData(cache.recentPositions).set([0, 1]);
  const out = f32([1, 1, 2], NaN, NaN);
  backend.attentionDecode(cache, f32([1, 1, 2], 0, 0), i32(2), decisionsOf(1, 0), 1, out);
  assertEquals([...f32Data(out)], [3.5, 4]);
});
