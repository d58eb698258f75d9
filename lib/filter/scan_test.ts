import { assert, assertEquals, assertThrows } from "@std/assert";
import { toBf16, toF16 } from "../math/half.ts";
import { type HostTensor, hostTensor, rowsOf } from "../tensor.ts";
import { RULES } from "../methods/list.ts";
import {
  createLayerState,
  createScanOutput,
  type LayerSpec,
  type LayerState,
  type ScanOutput,
  SLOT,
} from "./layer.ts";
import { observeLayer, scanLayer } from "./scan.ts";
import { drawSpec, makeSpec, makeStream, type Stream, uniform } from "./testing.ts";

function streamFor(spec: LayerSpec, seed: number, count: number, drift = 1, noise = 1): Stream {
  const { numKvHeads, headDim, hiddenSize } = spec;
  return makeStream(seed, { count, numKvHeads, headDim, hiddenSize, drift, noise });
}

/** Runs a stream through the recurrence in pieces that end at the given tokens, and observes outcomes after each. */
function runInPieces(spec: LayerSpec, stream: Stream, ends: readonly number[]): [ScanOutput, LayerState] {
  const state = createLayerState(spec), output = createScanOutput(stream.keys.shape[0]!);
  let at = 0;
  for (const end of ends) {
    const part = (tensor: HostTensor) => rowsOf(tensor, at, end);
    const input = {
      keys: part(stream.keys),
      values: part(stream.values),
      residual: part(stream.residual),
      normed: part(stream.normed),
      queries: part(stream.queries),
    };
    const rows = createScanOutput(end - at);
    for (let start = 0; start < end - at;) {
      const taken = scanLayer(spec, state, input, start, end - at - start, rows);
      if (spec.reads.includes("outputs")) {
        const y: number[] = [];
        for (let row = start; row < start + taken; row++) {
          if (rows.keep[row] === 0) continue;
          y.push(Math.log((stream.outputNorms[at + row]! + 1e-6) / (stream.residualNorms[at + row]! + 1e-6)));
        }
        observeLayer(spec, state, Float64Array.from(y));
      }
      start += taken;
    }
    for (const column of Object.keys(rows) as (keyof ScanOutput)[]) output[column].set(rows[column], at);
    at = end;
  }
  return [output, state];
}

const steps = (count: number) => Array.from({ length: count }, (_, t) => t + 1);

Deno.test("scanLayer() takes exact numbers from vectors with round cosines", () => {
  // One head, anchors that are the last token (gamma 0); keys turn by 0, 90, 45 degrees, values by 0, 0, 180.
  const spec = makeSpec({
    numKvHeads: 1,
    headDim: 2,
    gamma: 0,
    fusion: "mean",
    threshold: "fixed",
    theta: 0.2,
    warmup: 0,
  });
  const keys = hostTensor("f32", [4, 1, 2], Float32Array.of(2, 0, 3, 0, 0, 5, 4, 4));
  const values = hostTensor("f32", [4, 1, 2], Float32Array.of(1, 0, 1, 0, 2, 0, -3, 0));
  const state = createLayerState(spec), output = createScanOutput(4);
  assertEquals(scanLayer(spec, state, { keys, values }, 0, 4, output), 4);
  const half = 4 / Math.sqrt(32) * 1;
  assertEquals([...output.muK.slice(1, 3)], [1, 0]);
  assert(Math.abs(output.muK[3]! - half) < 1e-15);
  assertEquals([...output.muV], [NaN, 1, 1, -1]);
  assertEquals([...output.varK], [NaN, 0, 0, 0]);
  assertEquals([...output.redundancy.slice(0, 3)], [NaN, 1, 0.5]);
  assertEquals([...output.keep], [1, 0, 0, 1]);
  assertEquals([...output.threshold], [0.2, 0.2, 0.2, 0.2]);
  assertEquals([...output.wK], [0.5, 0.5, 0.5, 0.5]);
  assertEquals([...state.anchorK], [4, 4]);
  assertEquals(state.numbers[SLOT.seen], 4);
  assertEquals(state.numbers[SLOT.decided], 3);
  assertEquals(state.numbers[SLOT.skipped], 2);
});

Deno.test("scanLayer() lets only kept tokens move the anchors where asked", () => {
  const keys = hostTensor("f32", [3, 1, 2], Float32Array.of(1, 0, 2, 0, 0, 1));
  for (const [absorb, anchor] of [["all", [0.75, 0.5]], ["kept", [0.5, 0.5]]] as const) {
    const spec = makeSpec({
      numKvHeads: 1,
      headDim: 2,
      fusion: "key",
      threshold: "fixed",
      theta: 0.5,
      warmup: 0,
      gamma: 0.5,
      absorb,
    });
    const state = createLayerState(spec), output = createScanOutput(3);
    scanLayer(spec, state, { keys, values: keys }, 0, 3, output);
    assertEquals([...output.keep], [1, 0, 1]);
    assertEquals([...state.anchorK], [...anchor]);
    assertEquals(state.numbers[SLOT.absorbed], absorb === "all" ? 3 : 2);
  }
});

Deno.test("scanLayer() decides the same however a sequence is cut, for 200 random specs", () => {
  const next = uniform(11);
  const seen = new Set<string>();
  let cases = 0;
  for (let i = 0; cases < 200; i++) {
    const spec = drawSpec(next, RULES[i % RULES.length]!.name);
    if (spec.threshold === "topk") continue;
    const count = 40 + Math.floor(next() * 120);
    const stream = streamFor(spec, i, count);
    const whole = runInPieces(spec, stream, [count]);
    const cuts = [...new Set(Array.from({ length: 6 }, () => 1 + Math.floor(next() * (count - 1))))];
    assertEquals(runInPieces(spec, stream, steps(count)), whole);
    assertEquals(runInPieces(spec, stream, [...cuts.sort((a, b) => a - b), count]), whole);
    seen.add(`${spec.fusion} ${spec.threshold}`);
    cases += 1;
  }
  assert(seen.size >= 9 * 4, `${seen.size} pairs of rule and policy`);
});

Deno.test("scanLayer() does not let a late token change an earlier decision", () => {
  const next = uniform(5);
  for (let i = 0; i < 60; i++) {
    const spec = { ...drawSpec(next, RULES[i % RULES.length]!.name), headDim: 5 };
    if (spec.threshold === "topk") continue;
    const stream = streamFor(spec, i, 100), changed = streamFor(spec, i, 100);
    const at = 70;
    for (const tensor of [changed.keys, changed.values, changed.residual, changed.normed]) {
      tensor.data.fill(1.5, at * (tensor.data.length / 100));
    }
    const [before] = runInPieces(spec, stream, [100]), [after] = runInPieces(spec, changed, [100]);
    for (const column of Object.keys(before) as (keyof ScanOutput)[]) {
      assertEquals(after[column].slice(0, at), before[column].slice(0, at));
    }
    assert(after.muK[at] !== before.muK[at]);
  }
});

Deno.test("scanLayer() keeps the warm-up and, at ratio 0, everything", () => {
  for (const { name: rule } of RULES) {
    for (const threshold of ["budget", "window", "robbins-monro", "topk"] as const) {
      if (rule === "learned" && threshold !== "budget" && threshold !== "window") continue;
      const spec = makeSpec({ fusion: rule, threshold, warmup: 20, skipRatio: 0.6 });
      const stream = streamFor(spec, 3, 120);
      const [output] = runInPieces(spec, stream, [120]);
      assert(output.keep.slice(0, 20).every((kept) => kept === 1));
      assert(output.keep.slice(20).includes(0));
      const [dense] = runInPieces({ ...spec, skipRatio: 0 }, stream, [120]);
      assert(dense.keep.every((kept) => kept === 1));
    }
  }
});

Deno.test("scanLayer() skips nothing in a text no longer than the warm-up", () => {
  for (const { name: rule } of RULES) {
    const spec = makeSpec({ fusion: rule });
    const [output, state] = runInPieces(spec, streamFor(spec, 1, 32), [32]);
    assertEquals(output.keep, new Uint8Array(32).fill(1));
    assertEquals(state.numbers[SLOT.decided], 0);
  }
});

/** skipped - skipRatio*c after every decided token of a stream under `budget`. */
function surplusOf(spec: LayerSpec, drift: number, count: number): number[] {
  const [output] = runInPieces(spec, streamFor(spec, 17, count, drift), [count]);
  let skipped = 0;
  return [...output.keep.slice(spec.warmup)].map((kept, i) =>
    (skipped += 1 - kept) - spec.skipRatio * (i + 1)
  );
}

Deno.test("scanLayer() holds the budget within max(8, 1%) on drifting streams, at every token", () => {
  for (const fusion of ["variance", "key", "value", "min", "product", "random", "learned"] as const) {
    for (const skipRatio of [0.1, 0.3, 0.5, 2 / 3, 0.9]) {
      for (const drift of [0, 1, 4]) {
        const surplus = surplusOf(makeSpec({ fusion, skipRatio, hiddenSize: 6 }), drift, 1500);
        surplus.forEach((off, i) =>
          assert(
            Math.abs(off) <= Math.max(8, i / 100),
            `${fusion} ${skipRatio} drift ${drift}: ${off} at ${i}`,
          )
        );
      }
    }
  }
});

Deno.test("scanLayer() never skips more than 16*rho + 1 above the budget, however scores drift", () => {
  let most = 0;
  for (const skipRatio of [0.1, 0.5, 0.9]) {
    const surplus = surplusOf(makeSpec({ fusion: "product", skipRatio }), 60, 1500);
    most = Math.max(most, ...surplus);
    assert(Math.max(...surplus) <= 16 * skipRatio + 1);
    assert(Math.abs(surplus.at(-1)!) <= 15, `${surplus.at(-1)} in the end`);
  }
  assert(most > 8, "the stream drifts too little to reach the limit");
});

Deno.test("scanLayer() of topk skips the highest scores of the whole sequence", () => {
  const spec = makeSpec({ threshold: "topk", skipRatio: 0.4, warmup: 10, absorb: "kept" });
  const stream = streamFor(spec, 2, 100);
  const [output, state] = runInPieces(spec, stream, [100]);
  const [all] = runInPieces({ ...spec, threshold: "fixed", theta: 2, absorb: "all" }, stream, [100]);
  assertEquals(output.redundancy, all.redundancy); // anchors absorb every token
  const skipped = [...output.redundancy].filter((_, t) => output.keep[t] === 0);
  const kept = [...output.redundancy.slice(10)].filter((_, t) => output.keep[10 + t] === 1);
  assertEquals(skipped.length, 36);
  assert(Math.min(...skipped) > Math.max(...kept));
  assertEquals(state.numbers[SLOT.skipped], 36);
  assert(output.threshold.every(Number.isNaN));
});

Deno.test("scanLayer() of topk refuses to go on with a sequence", () => {
  const spec = makeSpec({ threshold: "topk" });
  const stream = streamFor(spec, 2, 20);
  assertThrows(
    () => runInPieces(spec, stream, [10, 20]),
    RangeError,
    'found 10 tokens before, expected none, since "topk"',
  );
});

Deno.test("scanLayer() reads f16 and bf16", () => {
  const spec = makeSpec({ warmup: 4 });
  const stream = streamFor(spec, 8, 60);
  for (const [dtype, to, from] of [["f16", toF16, 2e-3], ["bf16", toBf16, 2e-2]] as const) {
    const round = (tensor: HostTensor) =>
      hostTensor(dtype, tensor.shape, Uint16Array.from(tensor.data as Float32Array, to));
    const half = { ...stream, keys: round(stream.keys), values: round(stream.values) };
    const [output] = runInPieces(spec, half, [7, 60]);
    const [full] = runInPieces(spec, stream, [60]);
    for (let t = 1; t < 60; t++) {
      const off = Math.abs(output.muK[t]! - full.muK[t]!);
      assert(off < from, `muK[${t}] off by ${off} in ${dtype}`);
    }
    assert(output.muK[30] !== full.muK[30]);
  }
});

Deno.test("scanLayer() gives 0 for zero vectors and keeps tokens that tie with the threshold", () => {
  const spec = makeSpec({ warmup: 0, threshold: "window" });
  const zeros = hostTensor("f32", [10, 2, 4], new Float32Array(80));
  const output = createScanOutput(10);
  scanLayer(spec, createLayerState(spec), { keys: zeros, values: zeros }, 0, 10, output);
  assertEquals([...output.redundancy], [NaN, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  assertEquals([...output.keep], Array(10).fill(1));
});

Deno.test("scanLayer() refuses what it cannot use", () => {
  const spec = makeSpec();
  const { keys, values } = streamFor(spec, 1, 10);
  const scan = (input: Parameters<typeof scanLayer>[2], start = 0, count = 10, rows = 10, of = spec) =>
    scanLayer(of, createLayerState(of), input, start, count, createScanOutput(rows));
  const ints = hostTensor("i32", keys.shape, new Int32Array(80));
  assertThrows(() => scan({ keys: ints, values }), TypeError, 'Cannot use "keys": found i32');
  const half = hostTensor("f16", keys.shape, new Uint16Array(80));
  assertThrows(() => scan({ keys: half, values }), TypeError, 'Cannot use "values": found f32, expected f16');
  assertThrows(
    () => scan({ keys, values: rowsOf(values, 0, 9) }),
    RangeError,
    'Cannot use "values": found shape [9,2,4]',
  );
  assertThrows(() => scan({ keys, values }, 5, 6), RangeError, "Cannot scan rows [5, 11) of layer 0");
  assertThrows(() => scan({ keys, values }, 0, 10, 9), RangeError, "expected at least one of [0, 9)");
  assertThrows(() => scan({ keys, values }, 0, 0), RangeError, "Cannot scan rows [0, 0)");
  const learned = makeSpec({ fusion: "learned" });
  assertThrows(() => scan({ keys, values }, 0, 10, 10, learned), TypeError, 'found no "residual"');
  for (const at of [0, 3 * 8 + 1]) {
    const broken = hostTensor("f32", keys.shape, (keys.data as Float32Array).slice());
    broken.data[at] = at === 0 ? Infinity : NaN;
    assertThrows(() => scan({ keys: broken, values }), RangeError, `not finite at token ${at === 0 ? 0 : 3}`);
    assertThrows(() => scan({ keys, values: broken }), RangeError, "found a key or value that is not finite");
  }
});
