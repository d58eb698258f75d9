import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import type { Outcomes, Pruner } from "../methods/protocol/pruner.ts";
import { emptyTensor, hostData, rowsOf } from "../tensor.ts";
import { PAGE_ROWS } from "./run/cache/kv_cache.ts";
import { backend, config, firstLayers, ids, maxDifference, patternPruner, tiny } from "./testing.ts";

Deno.test("feed() gives the same states in one prefill, in chunks and token by token", () => {
  const tokens = ids(40);
  const few = firstLayers(4);
  for (const pruner of [undefined, patternPruner([0, 1, 3], (t) => t % 3 !== 1, { recent: 4 })]) {
    const whole = backend.read(few.start(pruner).feed(tokens));
    for (const size of [1, 7]) {
      const sequence = few.start(pruner);
      for (let at = 0; at < tokens.length; at += size) {
        const part = sequence.feed(tokens.slice(at, at + size));
        assert(maxDifference(part, rowsOf(whole, at, Math.min(tokens.length, at + size))) < 1e-4);
      }
      assertEquals(sequence.length, tokens.length);
    }
  }
});

Deno.test("feed() of more rows than fit a piece equals the same tokens fed by hand", () => {
  const small = firstLayers(1);
  const tokens = ids(700);
  const whole = backend.read(small.start().feed(tokens));
  const sequence = small.start();
  sequence.feed(tokens.slice(0, 699));
  assert(maxDifference(sequence.feed(tokens.slice(699)), rowsOf(whole, 699, 700)) < 1e-4);
});

Deno.test("a skipped token adds nothing to the stream and is seen by no later query", () => {
  const one = firstLayers(1);
  const tokens = ids(6);
  const other = tokens.slice();
  other[2] = 77;
  const skipping = () => patternPruner([0], (t) => t !== 2);
  const a = backend.read(one.start(skipping()).feed(tokens)),
    b = backend.read(one.start(skipping()).feed(other));
  for (const row of [0, 1, 3, 4, 5]) {
    assertEquals(maxDifference(rowsOf(a, row, row + 1), rowsOf(b, row, row + 1)), 0);
  }
  const seen = backend.read(one.start(patternPruner([0], (t) => t !== 2, { recent: 2 })).feed(tokens));
  const seenOther = backend.read(one.start(patternPruner([0], (t) => t !== 2, { recent: 2 })).feed(other));
  const moved = [3, 4, 5].map((row) =>
    maxDifference(rowsOf(seen, row, row + 1), rowsOf(seenOther, row, row + 1)) > 0
  );
  assertEquals(moved, [true, true, false]);
  const cached = patternPruner([0], (t) => t !== 2, { cacheSkipped: true });
  const all = backend.read(one.start(cached).feed(tokens)), dense = backend.read(one.start().feed(tokens));
  assert(maxDifference(rowsOf(all, 5, 6), rowsOf(dense, 5, 6)) < 1e-6);
  assert(maxDifference(rowsOf(all, 2, 3), rowsOf(dense, 2, 3)) > 1e-3);
});

Deno.test("feedResidual() from residualAt() equals feed()", () => {
  const tokens = ids(30);
  const pruner = patternPruner([6, 7, 8, 9], (t) => t % 2 === 0, { recent: 3 });
  const whole = tiny.start(pruner), upper = tiny.start(pruner);
  const want = whole.feed(tokens);
  const got = upper.feedResidual(tiny.residualAt(tokens, 6), 6);
  assertEquals(maxDifference(got, want), 0);
  assertEquals(upper.keep, whole.keep);
  const { kvBytesAllocated: _a, kvBytesAvoided: _b, kvBytesHeld: _c, ...flops } = upper.usage();
  const { kvBytesAllocated: _d, kvBytesAvoided, kvBytesHeld, ...wholeFlops } = whole.usage();
  assertEquals(flops, wholeFlops);
  assertEquals([upper.usage().kvBytesHeld, upper.usage().kvBytesAvoided], [kvBytesHeld, kvBytesAvoided]);
  assertThrows(() => upper.feed(tokens), RangeError, "have no cache");
  assertThrows(
    () => tiny.start(pruner).feedResidual(tiny.residualAt(tokens, 7), 7),
    RangeError,
    "filtered",
  );
});

Deno.test("usage() counts what was kept, and the allocated cache falls with the skip ratio", () => {
  const tokens = ids(200);
  const layers = [1];
  const two = firstLayers(2);
  const dense = two.start(), half = two.start(patternPruner(layers, (t) => t % 2 === 0, { recent: 16 }));
  dense.feed(tokens);
  half.feed(tokens);
  const rowBytes = 2 * config.numKvHeads * config.headDim * 4;
  assertEquals(dense.usage().kvBytesHeld, 2 * 200 * rowBytes);
  assertEquals(dense.usage().attentionFlopsAvoided, 0);
  // of 100 skipped tokens per layer, 8 lie within the last 16 and are still held
  assertEquals(half.usage().kvBytesAvoided, (100 - 8) * rowBytes);
  const ceiling = (200 + 100) * rowBytes + 2 * PAGE_ROWS * rowBytes + 16 * rowBytes;
  assert(half.usage().kvBytesAllocated <= ceiling);
  const { hiddenSize, numHeads, headDim } = config;
  // pairs of even queries: with even keys i/2 + 1, with odd keys of the last 16 positions min(i/2, 8)
  let pairs = 0;
  for (let i = 0; i < 200; i += 2) pairs += i / 2 + 1 + Math.min(i / 2, 8);
  const perPair = 4 * numHeads * headDim;
  const want = 100 * 4 * hiddenSize * numHeads * headDim + (200 * 201 / 2 - pairs) * perPair;
  assertEquals(half.usage().attentionFlopsAvoided, want);
  const avoided = (options: Pick<Pruner, "needs">) => {
    const sequence = two.start(patternPruner(layers, (t) => t % 2 === 0, { recent: 16, ...options }));
    sequence.feed(tokens);
    return sequence.usage().attentionFlopsAvoided;
  };
  assertEquals(avoided({ needs: ["future outputs"] }), want); // an oracle's looking does not count, queries read do
  assertEquals(avoided({ needs: ["queries"] }), want - 100 * 2 * hiddenSize * numHeads * headDim);
});

Deno.test("futureOutputs is norm(o)/norm(x) of the dense pass, and non-causal methods want one prefill", () => {
  const tokens = ids(12);
  let seen: Float64Array | undefined;
  const pruner = patternPruner([0], () => true, { needs: ["future outputs"], at: "prefill" });
  const start = pruner.start;
  const watching = {
    ...pruner,
    start: () => {
      const inner = start();
      return {
        ...inner,
        decide: (
          ...[input, at]: Parameters<typeof inner.decide>
        ) => (seen = input.futureOutputs, inner.decide(input, at)),
      };
    },
  };
  const one = firstLayers(1);
  const sequence = one.start(watching);
  sequence.feed(tokens);
  const x = one.embed(tokens);
  const observed: number[] = [];
  const outputs = patternPruner([0], () => true, { needs: ["outputs"] });
  const base = outputs.start;
  one.start({
    ...outputs,
    start: () => ({
      ...base(),
      observe: (_layer: number, { outputNorms, residualNorms }: Outcomes) =>
        outputNorms.forEach((norm, i) => observed.push(norm / residualNorms[i]!)),
    }),
  }).feed(tokens);
  assertEquals(x.shape, [12, config.hiddenSize]);
  assertEquals(observed.length, 12);
  observed.forEach((ratio, i) => assertAlmostEquals(seen![i]!, ratio, 1e-7));
  assertThrows(() => sequence.feed(tokens), RangeError, "a non-causal pruner");
});

Deno.test("start() refuses a layer that the model does not have", () => {
  assertThrows(() => tiny.start(patternPruner([10], () => true)), RangeError, "Cannot filter layer 10");
  assertThrows(() => tiny.embed(Int32Array.of(4096)), RangeError, "4096");
  assertThrows(() => tiny.logits(emptyTensor("f32", [1, 3])), RangeError, '"hidden"');
  assertEquals(hostData(tiny.embed(Int32Array.of(1))).length, config.hiddenSize);
});
