import { assert, assertEquals, assertThrows } from "@std/assert";
import { STATUS } from "../../ffi/library/abi.ts";
import { specArgs, statesArgs } from "../../ffi/filter.ts";
import { KernelError } from "../../lib/errors.ts";
import {
  cloneLayerState,
  createLayerState,
  createScanOutput,
  type LayerState,
  SLOT,
} from "../../lib/filter/layer.ts";
import { learnedLayout, type LearnedSpec } from "../../lib/methods/rules/learned.ts";
import { blockLength } from "../../lib/filter/blocks.ts";
import type { HostTensor } from "../../lib/tensor.ts";
import { RUNS_SLOW } from "../../lib/testing.ts";
import { type DeviceWay, testOnDevice } from "../testing/ways.ts";
import { normals, tensorOf } from "../filtered_attention/cases.ts";
import {
  extremeCases,
  type FilterCase,
  filterCase,
  localCase,
  NUM_FILTER_CASES,
  withHeads,
} from "./cases.ts";
import {
  advance,
  countFlips,
  executorOf,
  expectSame,
  expectState,
  float32Exactness,
  longPast,
  REFERENCE,
} from "./testing.ts";

/** Decisions that rounding took otherwise; cosines of heads of one number are all 1 or -1, so that most scores tie. */
interface Flips {
  decisions: number;
  flips: number;
  ofTies: number;
}

function follow(device: DeviceWay, c: FilterCase, chunk: number, count: Flips): void {
  const executor = executorOf(device, c), name = `${device.name}, chunks of ${chunk}, ${c.name}`;
  const flips = countFlips(name, () => executor, c, chunk, float32Exactness(c));
  if (c.spec.headDim === 1) count.ofTies += flips;
  else {
    count.flips += flips;
    count.decisions += c.tokens;
  }
}

testOnDevice("kvFilterScan() finds quantiles of windows of any length", (device) => {
  let runs = 0, flips = 0;
  for (const i of [0, 3, 11, 15, 21, 24]) { // budget, window and robbins-monro, about to begin, of absorb "all" and "kept"
    for (const window of [31, 32, 33, 1023, 1024, 1025, 3001]) {
      const { c, past } = longPast(filterCase(i), window), executor = executorOf(device, c);
      const short = { ...c, tokens: Math.min(c.tokens, 40) };
      for (const chunk of [40, 1]) {
        const name = `${device.name}, window ${window}, chunks of ${chunk}, ${c.name}`;
        flips += countFlips(name, () => executor, short, chunk, float32Exactness(c), past);
        runs++;
      }
    }
  }
  assertEquals(runs, 84);
  assert(flips <= 3, `${flips} decisions differed`);
});

testOnDevice("kvFilterScan() decides as the reference does: whole and in chunks", (device) => {
  const topk: Flips = { decisions: 0, flips: 0, ofTies: 0 }, others = { ...topk };
  let runs = 0, all = 0;
  // Each rule meets each policy in three cases, 50 apart: the fast tier takes the first of them, every other one in chunks.
  const numCases = RUNS_SLOW ? NUM_FILTER_CASES : 50;
  for (let i = 0; i < numCases; i++) {
    const c = filterCase(i), looksAhead = c.spec.threshold === "topk";
    const chunks = looksAhead ? [c.tokens] : [c.tokens, 41];
    if (c.spec.headDim > 1) all += c.tokens * chunks.length;
    for (const chunk of RUNS_SLOW ? chunks : [chunks[i % chunks.length]!]) {
      follow(device, c, chunk, looksAhead ? topk : others);
      runs++;
    }
  }
  assertEquals(runs, RUNS_SLOW ? 2 * NUM_FILTER_CASES - 27 : numCases);
  assert(all > 166 * numCases);
  const flips = topk.flips + others.flips; // most are of topk, whose cases run once in either tier
  assert(flips <= all / 1000, `${flips} of ${all} decisions differed`);
  assert(
    others.flips <= others.decisions / 1000,
    `${others.flips} of ${others.decisions} decisions differed`,
  );
});

testOnDevice("kvFilterScan() measures heads of every size in every type", (device) => {
  const count: Flips = { decisions: 0, flips: 0, ofTies: 0 };
  for (const base of [0, 10, 9].map(filterCase)) { // absorb "all" and "kept"; `learned`, whose anchors are float64
    for (const headDim of [32, 64, 80, 96, 128, 256]) {
      for (const dtype of ["f32", "f16", "bf16"] as const) {
        const c = withHeads(base, headDim, dtype);
        follow(device, c, c.tokens, count);
      }
    }
  }
  assert(count.decisions > 3000, `${count.decisions}`);
  assert(count.flips <= 2, `${count.flips} of ${count.decisions} decisions differed`);
});

testOnDevice("kvFilterScan() in steps decides by wide heads, and by tiny and huge numbers", (device) => {
  const count: Flips = { decisions: 0, flips: 0, ofTies: 0 };
  for (const c of [0, 1, 9].map(filterCase).flatMap(extremeCases)) { // rules `variance`, another and `learned`
    follow(device, c, 1, count);
    follow(device, c, c.tokens, count);
  }
  assert(count.flips <= 1, `${count.flips} of ${count.decisions} decisions differed`);
});

testOnDevice("kvFilterScan() decides the same, in steps too, small cases", (device) => {
  const chosen = [0, 4, 9, 11, 20, 22, 33, 38, 40, 59].map(filterCase);
  const count: Flips = { decisions: 0, flips: 0, ofTies: 0 };
  for (const whole of chosen) {
    const c = { ...whole, tokens: Math.min(whole.tokens, 75) };
    if (c.spec.threshold !== "topk") follow(device, c, 1, count);
    follow(device, c, c.tokens, count);
  }
  assert(count.flips <= 2, `${count.flips} of ${count.decisions} decisions differed`);
});

testOnDevice("kvFilterScan() goes on from a state of the reference, and the other way round", (device) => {
  const count: Flips = { decisions: 0, flips: 0, ofTies: 0 };
  let runs = 0;
  for (let i = 1; i < NUM_FILTER_CASES; i += 7) {
    const c = filterCase(i), executor = executorOf(device, c);
    if (c.spec.threshold === "topk" || c.spec.headDim === 1) continue;
    const inTurns = (call: number) => call % 2 === 0 ? executor : REFERENCE;
    count.flips += countFlips(`in turns, ${c.name}`, inTurns, c, 17, float32Exactness(c));
    runs++;
  }
  assert(runs >= 10 && count.flips <= 5, `${count.flips} differed in ${runs} runs`);
});

/** A case of `learned` with so many projections, on two heads of 8. */
function wideCase(projections: number): FilterCase {
  const base = filterCase(9), tokens = 90, hiddenSize = 45, normal = normals(projections);
  const spec = {
    ...base.spec,
    numKvHeads: 2,
    headDim: 8,
    hiddenSize,
    projections,
    features: 15,
    warmup: 30 + projections % 4, // sums over its tokens go on by four
    block: 16,
  };
  const stream = (width: number) => tensorOf("f32", [tokens, width], normal);
  const heads = () => tensorOf("f32", [tokens, 2, 8], normal);
  const input = {
    keys: heads(),
    values: heads(),
    residual: stream(45),
    normed: stream(45),
    queries: stream(32),
  };
  const outcomes = Float64Array.from({ length: tokens }, () => normal() - 1);
  return { name: `learned, ${projections} projections`, tokens, spec, input, outcomes };
}

testOnDevice("kvFilterObserve() solves regressions of any width", (device) => {
  for (const projections of [0, 55, 56, 121, 256]) { // 64 features are the most whose factor lies in shared memory
    const c = wideCase(projections), executor = executorOf(device, c);
    assertEquals(countFlips(c.name, () => executor, c, c.tokens, float32Exactness(c)), 0);
  }
});

/** Inputs with a number that is not finite at the first value of row `bad`. */
function spoilt(c: FilterCase, bad: number): FilterCase {
  const keys: HostTensor = { ...c.input.keys, data: c.input.keys.data.slice() };
  keys.data[bad * (keys.data.length / c.input.keys.shape[0]!)] = keys.dtype === "f32" ? Infinity : 0xFFFF;
  return { ...c, input: { ...c.input, keys } };
}

testOnDevice("kvFilterScan() stops before a token that is not finite, and can go on", (device) => {
  let runs = 0;
  for (const [i, absorb] of [[0, "all"], [22, "kept"], [9, "all"]] as const) {
    const c = filterCase(i);
    assertEquals(c.spec.absorb, absorb);
    const count = Math.min(c.tokens, c.spec.reads.includes("outputs") ? c.spec.warmup : 60);
    for (const bad of [0, 5, count - 1]) {
      const { kvFilterScan, input } = executorOf(device, spoilt(c, bad));
      const state = createLayerState(c.spec), output = createScanOutput(c.tokens);
      const scan = () => kvFilterScan(c.spec, state, input!, 0, count, output);
      assertThrows(scan, KernelError, "not finite", c.name);
      assertEquals([state.numbers[SLOT.seen], state.numbers[SLOT.absorbed] <= bad], [bad, true]);

      const good = executorOf(device, c),
        whole = createScanOutput(c.tokens),
        expected = createLayerState(c.spec);
      assertEquals(good.kvFilterScan(c.spec, state, good.input!, bad, count - bad, output), count - bad);
      REFERENCE.kvFilterScan(c.spec, expected, c.input, 0, count, whole);
      for (let t = 0; t < count; t++) expectSame(c.name, t, output, whole, float32Exactness(c).decision);
      expectState(c.name, state, expected, float32Exactness(c));
      runs++;
    }
  }
  assertEquals(runs, 9);
});

testOnDevice("kvFilterScan() refuses a state that it cannot go on from", (device) => {
  const c = filterCase(9); // learned
  assertEquals(c.spec.rule.name, "learned");
  const { kvFilterScan, input } = executorOf(device, c);
  const scan = (change: (state: LayerState) => void) => {
    const state = createLayerState(c.spec);
    change(state);
    const count = Math.min(c.tokens, 6);
    assertThrows(
      () => kvFilterScan(c.spec, state, input!, 0, count, createScanOutput(c.tokens)),
      KernelError,
      "state that does not allow",
    );
  };
  let runs = 0;
  for (const value of [-1, 0.5, NaN, Infinity]) {
    for (const slot of [SLOT.seen, SLOT.scored, SLOT.pending, SLOT.settled, SLOT.fitted]) {
      scan((state) => state.numbers[slot] = value);
      runs++;
    }
  }
  scan((state) => state.numbers[SLOT.skipped] = 3);
  scan((state) => (state.numbers[SLOT.scored] = 1, state.scores[0] = NaN));
  scan((state) => state.numbers.set([c.spec.warmup, c.spec.warmup, 0, 0, 0, 0, 0, c.spec.warmup])); // outcomes missing
  assertEquals(runs, 20);
});

testOnDevice("kvFilterObserve() refuses what is too much or not finite", (device) => {
  const c = filterCase(9), { kvFilterScan, kvFilterObserve, input } = executorOf(device, c);
  const state = createLayerState(c.spec);
  const taken = kvFilterScan(c.spec, state, input!, 0, c.tokens, createScanOutput(c.tokens));
  assertEquals(taken, c.spec.warmup);
  const observe = (y: Float64Array<ArrayBuffer>) => () => kvFilterObserve(c.spec, state, y);
  assertThrows(observe(new Float64Array(taken + 1)), KernelError, "state that does not allow");
  assertThrows(observe(new Float64Array(taken).fill(NaN)), KernelError, "not finite");
  assertEquals(state.numbers[SLOT.pending], taken);
  observe(c.outcomes.slice(0, taken))();
  assertEquals([state.numbers[SLOT.fitted], state.numbers[SLOT.pending]], [1, 0]);
  const { A, F } = learnedLayout(c.spec),
    executor = executorOf(device, c),
    output = createScanOutput(c.tokens);
  const end = taken + blockLength(c.spec as LearnedSpec, taken); // the next fit
  assert(end <= c.tokens);
  for (const [index, value] of [[0, -1e6], [F * F - 1, -1e6], [F + 1, NaN]] as const) { // not positive definite
    const broken = cloneLayerState(state);
    broken.learned[A + index] = value;
    const goOn = () => advance(() => executor, c, broken, output, taken, end, c.tokens);
    assertThrows(goOn, KernelError, "state that does not allow");
  }
});

testOnDevice("kvFilterScan() on a device refuses features of local attention", (device) => {
  const c = localCase(0), executor = executorOf(device, c);
  const scan = () =>
    advance(() => executor, c, createLayerState(c.spec), createScanOutput(c.tokens), 0, 1, 1);
  assertThrows(scan, KernelError, "found features = ");
});

testOnDevice("tkf_filter_scan on a device takes keys and values of f32 alone", ({ context }) => {
  const none = null, names = ["keys", "values", "residual", "normed", "queries", "keep", "columns", "taken"];
  const args = {
    spec: specArgs(filterCase(0).spec, 0),
    states: statesArgs({ anchorK: none, anchorV: none, numbers: none, scores: none, learned: none }),
    ...Object.fromEntries(names.map((name) => [name, none])),
    count: 1,
  };
  for (const kv_dtype of ["f16", "bf16"] as const) {
    const error = assertThrows(() => context.call("tkf_filter_scan", { ...args, kv_dtype }), KernelError);
    assertEquals(error.code, STATUS.dtype);
  }
});
