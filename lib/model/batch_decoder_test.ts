/** What a batch decoder refuses and enqueues, on a device that computes nothing; its numbers: `ffi/cuda/`. */
import { assertEquals, assertThrows } from "@std/assert";
import type { DecodeOps } from "../decode.ts";
import { createPruner } from "../methods/mod.ts";
import { ReferenceBackend } from "../reference/mod.ts";
import { emptyTensor, type Tensor } from "../tensor.ts";
import { BatchDecoder, batchUnsupportedReason } from "./batch_decoder.ts";
import { Llama } from "./llama.ts";
import { config, ids, llama, patternPruner } from "./testing.ts";

const shape = { ...config, numLayers: 2 };

/** A backend whose operations of a batch note what they are given, and a model of two layers on it. */
function fakeDevice() {
  const calls: { readonly op: keyof DecodeOps | "launch" | "dispose"; readonly args: readonly unknown[] }[] =
    [];
  const note = (op: (typeof calls)[number]["op"]) => (...args: unknown[]) => void calls.push({ op, args });
  const decode: DecodeOps = {
    signs: ({ hiddenSize }) => emptyTensor("f32", [0, hiddenSize]),
    filterStep: note("filterStep"),
    filterObserve: note("filterObserve"),
    attention: note("attention"),
    linear: note("linear"),
    rope: note("rope"),
    add: note("add"),
    advance: note("advance"),
    argmax: note("argmax"),
    row: (tensor, index) => {
      if (!(index >= 0 && index < tensor.shape[0]!)) throw new Error(`row ${index} of ${tensor.shape}`);
      return { ...tensor, shape: tensor.shape.slice(1) };
    },
    write: note("write"),
    copyRows: note("copyRows"),
    record: (work) => {
      note("record")();
      work();
      return { launch: note("launch"), [Symbol.dispose]: note("dispose") };
    },
  };
  const backend = Object.assign(new ReferenceBackend(), { decode });
  const count = (op: (typeof calls)[number]["op"]) => calls.filter((call) => call.op === op).length;
  return { backend, calls, count, model: new Llama(shape, llama.weights, backend) };
}

Deno.test("batchUnsupportedReason() names what keeps a method from a device", () => {
  const device = fakeDevice().backend;
  const filtering = createPruner("token-filtering", shape, { warmup: 8 });
  assertEquals(
    batchUnsupportedReason(new ReferenceBackend(), undefined),
    'backend "reference" has no recorded steps',
  );
  assertEquals(batchUnsupportedReason(device, undefined), undefined);
  assertEquals(batchUnsupportedReason(device, createPruner("dense", shape, {})), undefined);
  assertEquals(batchUnsupportedReason(device, filtering), undefined);
  assertEquals(
    batchUnsupportedReason(device, createPruner("oracle", shape, {})),
    'the method "oracle" looks ahead',
  );
  const reason = (name: string) => `the method "${name}" decides on the host, or is traced`;
  assertEquals(batchUnsupportedReason(device, patternPruner([1], () => true)), reason("pattern"));
  const traced = createPruner("token-filtering", shape, { warmup: 8 }, { trace: () => {} });
  assertEquals(batchUnsupportedReason(device, traced), reason("token-filtering"));
});

Deno.test("BatchDecoder() refuses sizes, methods and backends that it has no steps for", () => {
  const { model } = fakeDevice();
  for (const [batch, capacity] of [[0, 8], [1.5, 8], [1, 0], [1, NaN]] as const) {
    assertThrows(
      () => new BatchDecoder(model, undefined, { batch, capacity }),
      RangeError,
      `Cannot decode ${batch} sequences of ${capacity} tokens`,
    );
  }
  const oracle = createPruner("oracle", shape, {});
  assertThrows(() => new BatchDecoder(model, oracle, { batch: 1, capacity: 8 }), RangeError, "looks ahead");
  assertThrows(() => new BatchDecoder(llama, undefined, { batch: 1, capacity: 8 }), TypeError, '"reference"');
});

Deno.test("BatchDecoder.admit() takes an idle slot that is there, and a sequence with room to grow", () => {
  const { model } = fakeDevice();
  const decoder = model.startBatch(undefined, { batch: 2, capacity: 4 });
  for (const slot of [-1, 2, 0.5, NaN]) {
    assertThrows(() => decoder.begin(slot), RangeError, `slot ${slot}: expected an idle one of 0 to 1`);
  }
  const sequence = model.start();
  sequence.feed(ids(3));
  decoder.admit(0, sequence);
  assertEquals([...decoder.lengths], [3, -1]);
  assertThrows(() => decoder.begin(0), RangeError, "slot 0: expected an idle one of 0 to 1");
  sequence.feed(ids(1));
  assertThrows(
    () => decoder.admit(1, sequence),
    RangeError,
    "4 tokens: expected fewer than the capacity of 4",
  );
  decoder.begin(1);
  decoder.release(0);
  decoder.begin(0);
  assertEquals([...decoder.lengths], [0, 0]);
});

Deno.test("BatchDecoder.step() runs once, is recorded once, then launched, and feeds itself from there on", () => {
  const { model, calls, count } = fakeDevice();
  const decoder = model.startBatch(undefined, { batch: 2, capacity: 4 });
  decoder.begin(1);
  assertThrows(() => decoder.step(), RangeError, "expected ids for the first step");
  const before = calls.length;
  assertEquals(decoder.step(Int32Array.of(9, 5)).shape, [2, config.vocabSize]);
  const [written] = calls.slice(before).filter(({ op }) => op === "write");
  assertEquals((written!.args[1] as { data: unknown }).data, Int32Array.of(0, 5)); // slot 0 is idle
  assertEquals([count("record"), count("launch"), count("argmax"), count("advance")], [0, 0, 0, 1]);
  decoder.step();
  assertEquals([count("record"), count("launch"), count("argmax"), count("advance")], [1, 1, 1, 2]);
  decoder.step(Int32Array.of(0, 7));
  decoder.step();
  assertEquals([count("record"), count("launch"), count("argmax"), count("advance")], [1, 3, 2, 2]);
  assertEquals([...decoder.lengths], [-1, 4]);
  assertThrows(() => decoder.step(), RangeError, "a sequence has reached the capacity of 4 tokens");
  decoder[Symbol.dispose]();
  decoder[Symbol.dispose]();
  assertEquals(count("dispose"), 1);
  assertThrows(() => decoder.step(), Error, "it was disposed");
});

Deno.test("BatchDecoder hands each operation tensors of the sizes that it takes", () => {
  const { numHeads, numKvHeads, headDim, hiddenSize, vocabSize } = config;
  const learned = { fusion: "learned", features: ["similarity", "query"], warmup: 8, tail: 1 } as const;
  for (const options of [undefined, { keyState: "pre-rope", warmup: 8, tail: 1 } as const, learned]) {
    const { model, calls } = fakeDevice();
    const pruner = options && createPruner("token-filtering", shape, options);
    const decoder = model.startBatch(pruner, { batch: 3, capacity: 4 });
    decoder.begin(0);
    decoder.step(Int32Array.of(1, 2, 3));
    const argsOf = (op: keyof DecodeOps) =>
      calls.filter((call) => call.op === op).map(({ args }) => args as (Tensor | undefined)[]);
    const linear = argsOf("linear").map(([x, weight, _, out]) => [x!.shape, weight!.shape, out!.shape]);
    assertEquals(linear.length, 7 * 2 + 1);
    for (const [x, [n, k], out] of linear) assertEquals([x, out], [[3, k], [3, n]]);
    assertEquals(linear.at(-1)![2], [3, vocabSize]);
    const attention = argsOf("attention").map((args) => [args[1]!.shape, args[5]!.shape]);
    assertEquals(attention, Array(2).fill([[3, numHeads, headDim], [3, numHeads, headDim]]));
    const steps = argsOf("filterStep").map((args) => args[2] as unknown as Record<string, Tensor>);
    assertEquals(steps.length, 2);
    for (const { filterKeys, keys, values, residual, normed, queries } of steps) {
      assertEquals(
        [filterKeys, keys, values].map((rows) => rows!.shape),
        Array(3).fill([3, numKvHeads, headDim]),
      );
      assertEquals([residual!.shape, normed!.shape], [[3, hiddenSize], [3, hiddenSize]]);
      assertEquals(queries?.shape, options === learned ? [3, numHeads * headDim] : undefined);
    }
  }
});
