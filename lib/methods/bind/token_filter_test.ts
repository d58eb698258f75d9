import { assert, assertEquals, assertThrows } from "@std/assert";
import { toF16 } from "../../math/half.ts";
import { type HostTensor, hostTensor, rowsOf } from "../../tensor.ts";
import { codeOf } from "../../filter/layer.ts";
import { observeLayer, scanLayer } from "../../filter/scan.ts";
import type { FilterDecisions } from "../../filter/sequence.ts";
import { makeStream } from "../../filter/testing.ts";
import { TokenFilter } from "./token_filter.ts";

const shape = { numLayers: 4, numHeads: 4, numKvHeads: 2, headDim: 4, hiddenSize: 12 };
const stream = makeStream(1, { count: 100, numKvHeads: 2, headDim: 4, hiddenSize: 12 });
const keys = stream.keys.data as Float32Array<ArrayBuffer>;
const values = stream.values.data as Float32Array<ArrayBuffer>;

function join(parts: readonly FilterDecisions[]): Record<string, number[]> {
  const all: Record<string, number[]> = {};
  for (const { taken: _, ...rows } of parts) {
    for (const [name, column] of Object.entries(rows)) (all[name] ??= []).push(...column);
  }
  return all;
}

Deno.test("TokenFilter plans layers and resolves specs", () => {
  const filter = new TokenFilter(shape, { pruneRatio: 0.3, seed: 4, features: ["norm", "query"] });
  assertEquals(filter.layers, [1, 2, 3]);
  const [spec] = filter.specs;
  assertEquals(spec!.skipRatio, 0.3 * 4 / 3);
  assertEquals([spec!.chunk, spec!.numKvHeads, codeOf(spec!, "features")], [0, 2, 0b1010]);
  assertEquals((spec as unknown as { seed: bigint }).seed, 4n);
});

Deno.test("TokenFilter refuses sizes that are none", () => {
  assertThrows(
    () => new TokenFilter({ ...shape, headDim: 0 }),
    RangeError,
    'Cannot use "headDim": found 0, expected an integer of at least 1',
  );
  const { hiddenSize: _, ...without } = shape;
  assertThrows(
    () => new TokenFilter(without as typeof shape),
    TypeError,
    'Cannot use "hiddenSize": found undefined',
  );
});

Deno.test("FilterSequence.step() decides as scan() does", () => {
  for (const fusion of ["variance", "random", "learned"] as const) {
    const filter = new TokenFilter(shape, {
      fusion,
      warmup: 16,
      block: 8,
      features: ["similarity", "query"],
    });
    const extra = { residual: stream.residual, normed: stream.normed, queries: stream.queries };
    const whole = filter.start(), single = filter.start();
    const observe = (sequence: typeof whole, start: number, keep: Uint8Array) => {
      if (fusion !== "learned") return;
      const kept = [...keep.keys()].filter((i) => keep[i] === 1).map((i) => start + i);
      const of = (norms: Float64Array) => Float64Array.from(kept, (t) => norms[t]!);
      sequence.observe(2, of(stream.outputNorms), of(stream.residualNorms));
    };
    const scanned: FilterDecisions[] = [], stepped: FilterDecisions[] = [];
    for (let start = 0; start < 100;) {
      const part = whole.scan(2, keys, values, extra, start);
      scanned.push(part);
      observe(whole, start, part.keep);
      start += part.taken;
    }
    for (let t = 0; t < 100; t++) {
      const at = (tensor: typeof stream.residual) => rowsOf(tensor, t, t + 1);
      const row = single.step(2, keys.slice(t * 8, t * 8 + 8), values.slice(t * 8, t * 8 + 8), {
        residual: at(stream.residual),
        normed: at(stream.normed),
        queries: at(stream.queries).data as Float32Array<ArrayBuffer>,
      });
      assertEquals(row.taken, 1);
      stepped.push(row);
      observe(single, t, row.keep);
    }
    assertEquals(join(stepped), join(scanned));
    assertEquals(scanned.length, fusion === "learned" ? 1 + 11 : 1);
    assert(join(scanned).keep!.includes(0));
  }
});

Deno.test("FilterSequence.scan() keeps layers and sequences apart", () => {
  const filter = new TokenFilter(shape, { warmup: 8 });
  const one = filter.start(), two = filter.start();
  const first = one.scan(1, keys, values);
  one.scan(2, values, keys);
  assertEquals(two.scan(1, keys, values), first);
  assertEquals(filter.start().scan(1, stream.keys, stream.values), first);
});

Deno.test("FilterSequence.scan() gives rows that a later scan leaves alone", () => {
  const sequence = new TokenFilter(shape).start();
  const first = sequence.scan(1, keys, values), copy = structuredClone(first);
  sequence.scan(1, values, keys);
  assertEquals(first, copy);
});

Deno.test("FilterSequence.fork() copies the state", () => {
  for (const threshold of ["budget", "robbins-monro"] as const) {
    const trunk = new TokenFilter(shape, { threshold, warmup: 8 }).start();
    trunk.scan(3, keys.slice(0, 400), values.slice(0, 400));
    const branch = trunk.fork();
    branch.scan(3, values, keys); // continues with other input
    const straight = new TokenFilter(shape, { threshold, warmup: 8 }).start();
    straight.scan(3, keys.slice(0, 400), values.slice(0, 400));
    const rest = [keys.slice(400), values.slice(400)] as const;
    assertEquals(trunk.fork().scan(3, ...rest), straight.scan(3, ...rest));
  }
});

Deno.test("TokenFilter.start() draws other random scores for another chunk", () => {
  const filter = new TokenFilter(shape, { fusion: "random", seed: 2 });
  const of = (chunk: number) => filter.start({ chunk }).scan(1, keys, values).redundancy;
  assert(of(0)[5] !== of(1)[5]);
  assertEquals(
    of(1),
    new TokenFilter(shape, { fusion: "random", seed: 3 }).start().scan(1, keys, values).redundancy,
  );
  assertThrows(
    () => filter.start({ chunk: -1 }),
    RangeError,
    'Cannot use "chunk": found -1, expected an integer from 0 to 2147483647',
  );
  assertThrows(() => filter.start({ chunk: 2 ** 31 }), RangeError, '"chunk": found 2147483648');
  assert(of(2 ** 31 - 1)[5] !== of(0)[5]);
});

Deno.test("TokenFilter computes on the backend that it is given", () => {
  const calls: string[] = [];
  const filter = new TokenFilter(shape, { fusion: "learned", warmup: 8 }, {
    kvFilterScan: (...args) => (calls.push("scan"), scanLayer(...args)),
    kvFilterObserve: (...args) => (calls.push("observe"), observeLayer(...args)),
    read: (tensor) => tensor as HostTensor,
  });
  const sequence = filter.start();
  sequence.scan(1, keys, values, { residual: stream.residual, normed: stream.normed });
  sequence.observe(1, stream.outputNorms.slice(0, 8), stream.residualNorms.slice(0, 8));
  assertEquals(calls, ["scan", "observe"]);
});

Deno.test("FilterSequence takes half floats", () => {
  const half = (x: Float32Array) => hostTensor("f16", [100, 2, 4], Uint16Array.from(x, toF16));
  const { keep } = new TokenFilter(shape).start().scan(1, half(keys), half(values));
  assertEquals(keep.length, 100);
  assert(keep.includes(0));
});

Deno.test("FilterSequence refuses what the method does not define", () => {
  const ahead = new TokenFilter(shape, { threshold: "topk" }).start();
  assertThrows(
    () => ahead.step(1, keys.slice(0, 8), values.slice(0, 8)),
    RangeError,
    'Cannot step layer 1: the policy "topk" looks at a whole sequence at once, expected scan()',
  );
  const plain = new TokenFilter(shape).start();
  assertThrows(
    () => plain.step(0, keys.slice(0, 8), values.slice(0, 8)),
    RangeError,
    "expected one of 1, 2, 3",
  );
  assertThrows(
    () => plain.step(1, keys, values),
    RangeError,
    "Cannot step layer 1: found 100 tokens, expected 1",
  );
  assertThrows(
    () => plain.scan(1, keys.slice(1), values),
    RangeError,
    'Cannot use "keys": found 799 numbers',
  );
  assertThrows(
    () => plain.scan(1, new Float32Array(0), values),
    RangeError,
    'Cannot use "keys": found 0 numbers',
  );
  assertThrows(
    () => plain.scan(1, keys, values, {}, 100),
    RangeError,
    "Cannot scan rows [100, 100) of layer 1",
  );
  assertThrows(
    () => plain.observe(1, Float64Array.of(1), Float64Array.of(1)),
    RangeError,
    'found the rule "variance", expected one that learns',
  );
  const learned = new TokenFilter(shape, { fusion: "learned" }).start();
  learned.scan(1, keys, values, { residual: stream.residual, normed: stream.normed });
  assertThrows(
    () => learned.observe(1, Float64Array.of(1, 1), Float64Array.of(1)),
    RangeError,
    "found 2 and 1 norms",
  );
  assertThrows(
    () => learned.observe(1, Float64Array.of(-1), Float64Array.of(1)),
    RangeError,
    "negative or not finite",
  );
  assertThrows(() => learned.observe(1, Float64Array.of(1), Float64Array.of(NaN)), RangeError, "not finite");
});
