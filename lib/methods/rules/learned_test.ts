import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { projectionSigns } from "../../math/random.ts";
import { hostTensor, rowsOf } from "../../tensor.ts";
import { solveCholesky } from "../../math/cholesky.ts";
import {
  createLayerState,
  createScanOutput,
  type LayerSpec,
  type LayerState,
  SLOT,
} from "../../filter/layer.ts";
import { observeLayer, scanLayer } from "../../filter/scan.ts";
import { makeSpec, makeStream, type Stream } from "../../filter/testing.ts";
import { learnedLayout } from "./learned.ts";

const learned = (options: Parameters<typeof makeSpec>[0] = {}) =>
  makeSpec({ fusion: "learned", warmup: 8, block: 4, ...options });
const streamOf = (count: number) => makeStream(9, { count, numKvHeads: 2, headDim: 4, hiddenSize: 12 });
const outcome = (stream: Stream, t: number) =>
  Math.log((stream.outputNorms[t]! + 1e-6) / (stream.residualNorms[t]! + 1e-6));

/** Scans and observes block by block up to token `end`. */
function run(spec: LayerSpec, state: LayerState, stream: Stream, end: number) {
  const output = createScanOutput(end);
  for (let at = 0; at < end;) {
    const taken = scanLayer(spec, state, stream, at, end - at, output);
    const kept = Array.from({ length: taken }, (_, i) => at + i).filter((t) => output.keep[t] === 1);
    observeLayer(spec, state, Float64Array.from(kept, (t) => outcome(stream, t)));
    at += taken;
  }
  return output;
}

Deno.test("solveCholesky() solves a system", () => {
  const A = Float64Array.of(4, 2, 0, 2, 5, 1, 0, 1, 3), x = new Float64Array(3);
  solveCholesky(A, Float64Array.of(8, 15, 11), x);
  [1, 2, 3].forEach((want, i) => assertAlmostEquals(x[i]!, want, 1e-14));
  assertThrows(
    () => solveCholesky(Float64Array.of(1, 2, 2, 1), new Float64Array(2), new Float64Array(2)),
    RangeError,
    "not positive definite",
  );
});

Deno.test("scanLayer() of learned stops at each block's end and goes on after all outcomes", () => {
  const spec = learned(), state = createLayerState(spec), stream = streamOf(40);
  const output = createScanOutput(40);
  assertEquals(scanLayer(spec, state, stream, 0, 5, output), 5); // a chunk may end inside a block
  assertEquals(spec.rule.memory!.room!(spec, state), 3);
  observeLayer(spec, state, Float64Array.from([0, 1], (t) => outcome(stream, t))); // two of five
  assertEquals(scanLayer(spec, state, stream, 5, 35, output), 3);
  assertThrows(
    () => scanLayer(spec, state, stream, 8, 32, output),
    RangeError,
    "Cannot scan layer 0: found 6 kept tokens of the last block not yet observed, expected their outcomes first",
  );
  assertEquals(state.numbers[SLOT.seen], 8);
  observeLayer(spec, state, Float64Array.from([2, 3, 4, 5, 6, 7], (t) => outcome(stream, t)));
  assertEquals(state.numbers[SLOT.fitted], 1);
  assertEquals(state.numbers[SLOT.scored], 8); // the warm-up's scores, token 0 included
  assertEquals(scanLayer(spec, state, stream, 8, 32, output), 4);
  assert(output.keep.slice(0, 8).every((kept) => kept === 1));
  assert(output.redundancy.slice(0, 8).every(Number.isNaN));
  assert(output.redundancy.slice(8, 12).every(Number.isFinite));
});

Deno.test("scanLayer() of learned predicts by ridge regression on standardised features", () => {
  // One feature, ln(norm(q)), of norms e^0..e^7 over the warm-up, y = its index: a line with slope to be found.
  const spec = learned({ features: 8, ridge: 2, numKvHeads: 1, headDim: 1, hiddenSize: 1, invert: true });
  const ones = hostTensor("f32", [9, 1, 1], new Float32Array(9).fill(1));
  const x = hostTensor("f32", [9, 1], new Float32Array(9).fill(1));
  const queries = hostTensor("f32", [9, 1], Float32Array.from({ length: 9 }, (_, t) => Math.exp(t)));
  const input = { keys: ones, values: ones, residual: x, normed: x, queries };
  const state = createLayerState(spec), output = createScanOutput(9);
  scanLayer(spec, state, input, 0, 9, output);
  observeLayer(spec, state, Float64Array.from({ length: 8 }, (_, t) => t));
  scanLayer(spec, state, input, 8, 1, output);
  // Mean 3.5, sum of squares 42; by hand: slope = 42/s / (42/s^2 + 2), bias = 28 / (8 + 2), s = sd + 1e-3.
  const s = Math.sqrt(42 / 8) + 1e-3;
  const slope = 42 / s / (42 / s ** 2 + 2), bias = 28 / 10;
  assertAlmostEquals(output.redundancy[8]!, slope * (8 - 3.5) / s + bias, 1e-6);
  const { F, w } = learnedLayout(spec);
  assertEquals(F, 2);
  assertAlmostEquals(state.learned[w]!, slope, 1e-6);
  assertAlmostEquals(state.learned[w + 1]!, bias, 1e-6);
});

Deno.test("scanLayer() of learned projects with the seed's signs", () => {
  const spec = learned({ features: 4, seed: 5n, layer: 2, projections: 3 });
  const state = createLayerState(spec), stream = streamOf(1);
  scanLayer(spec, state, stream, 0, 1, createScanOutput(1));
  const signs = projectionSigns(5n, 2, 12, 3), h = stream.normed.data as Float32Array;
  const { f } = learnedLayout(spec);
  for (let j = 0; j < 3; j++) {
    let sum = 0;
    for (let a = 0; a < 12; a++) sum += h[a]! * signs[a * 3 + j]!;
    assertAlmostEquals(state.learned[f + j]!, sum / Math.sqrt(12), 1e-12);
  }
  assertEquals(state.learned[f + 3], 1);
});

Deno.test("scanLayer() of learned finds what it is taught", () => {
  // The attention adds little exactly where the first projection is low: the fit must skip those tokens.
  const spec = learned({ warmup: 32, block: 32, hiddenSize: 12, projections: 16 });
  const stream = makeStream(3, { count: 600, numKvHeads: 2, headDim: 4, hiddenSize: 12 });
  const signs = projectionSigns(0n, 0, 12, 16), h = stream.normed.data as Float32Array;
  const added = stream.outputNorms.map((_, t) => {
    let sum = 0;
    for (let a = 0; a < 12; a++) sum += h[t * 12 + a]! * signs[a * 16]!;
    return Math.exp(sum);
  });
  const taught = { ...stream, outputNorms: added, residualNorms: new Float64Array(600).fill(1) };
  const output = run(spec, createLayerState(spec), taught, 600);
  const average = (of: number) => {
    const picked = [...added.slice(100)].filter((_, i) => output.keep[100 + i] === of).map(Math.log);
    return picked.reduce((a, b) => a + b, 0) / picked.length;
  };
  assert(average(0) < average(1) - 2, `skipped ${average(0)}, kept ${average(1)}`);
});

Deno.test("scanLayer() of learned goes on after a block that was skipped whole", () => {
  const spec = learned({ skipRatio: 0.9, block: 1 }), layout = learnedLayout(spec);
  const stream = streamOf(200), state = createLayerState(spec), output = createScanOutput(200);
  let whole = 0;
  for (let at = 0; at < 200;) {
    const fit = state.learned.slice(0, layout.f);
    const taken = scanLayer(spec, state, stream, at, 200 - at, output);
    const kept = Array.from({ length: taken }, (_, i) => at + i).filter((t) => output.keep[t] === 1);
    if (kept.length > 0) observeLayer(spec, state, Float64Array.from(kept, (t) => outcome(stream, t)));
    else {
      whole += 1;
      assertEquals(state.learned.slice(0, layout.f), fit); // nothing was learned
    }
    at += taken;
  }
  assert(whole > 100, `${whole} blocks of one token were skipped`);
});

Deno.test("observeLayer() refuses what does not fit", () => {
  const spec = learned(), state = createLayerState(spec), stream = streamOf(20);
  scanLayer(spec, state, stream, 0, 3, createScanOutput(20));
  assertThrows(
    () => observeLayer(spec, state, new Float64Array(4)),
    RangeError,
    "found 4 outcomes, expected at most 3",
  );
  assertThrows(() => observeLayer(spec, state, Float64Array.of(NaN)), RangeError, "not finite");
  const plain = makeSpec();
  assertThrows(
    () => observeLayer(plain, createLayerState(plain), new Float64Array(1)),
    RangeError,
    'Cannot observe layer 0: found the rule "variance", expected one that learns',
  );
});

Deno.test("scanLayer() of learned refuses inputs that are not finite or not there", () => {
  const spec = learned({ features: 15 }), stream = streamOf(4);
  const scan = (input: Parameters<typeof scanLayer>[2]) =>
    scanLayer(spec, createLayerState(spec), input, 0, 4, createScanOutput(4));
  const { queries: _, ...without } = stream;
  assertThrows(() => scan(without), TypeError, 'found no "queries"');
  assertThrows(
    () => scan({ ...stream, normed: rowsOf(stream.normed, 0, 3) }),
    RangeError,
    'Cannot use "normed"',
  );
  const broken = hostTensor("f32", [4, 12], new Float32Array(48).fill(NaN, 24, 25));
  assertThrows(() => scan({ ...stream, residual: broken }), RangeError, "not finite at token 2");
});
