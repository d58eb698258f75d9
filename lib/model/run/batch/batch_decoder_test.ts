/** A batch on the reference, compared with the same sequences fed one by one; refused input, and recorded steps. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import type { RecordedWork } from "../../../batch_ops.ts";
import { createDense, createPruner, type MethodOptions } from "../../../methods/mod.ts";
import type { Backend } from "../../../backend.ts";
import { ReferenceBackend } from "../../../reference/mod.ts";
import { f32Data } from "../../../tensor.ts";
import { BatchDecoder, batchUnsupportedReason } from "./batch_decoder.ts";
import { Model } from "../../model.ts";
import { judgedTokens } from "../../../filter/blocks.ts";
import { endingOf } from "../key_judge.ts";
import { LayerTally } from "../usage.ts";
import {
  CONFIG,
  filtering,
  ids,
  truth as model,
  weights,
  WHOLE_HEADS,
  WHOLE_HEADS_ON_DEVICE,
} from "../../small_testing.ts";
import { patternPruner } from "../../testing.ts";

const CASES: readonly (MethodOptions | undefined)[] = [
  undefined,
  { fusion: "variance", recent: 0 },
  { fusion: "variance", recent: 5, keyState: "pre-rope" },
  { fusion: "learned", recent: 4, block: 8 },
  { fusion: "learned", recent: 3, block: 8, features: ["similarity", "norm", "query"] },
  { fusion: "mean", recent: 4, cacheSkipped: true, threshold: "robbins-monro" },
  { side: "key", recent: 3, block: 4 },
  { side: "key", fusion: "mean", recent: 0, block: 5, warmup: 0, keyState: "pre-rope", kvTail: 0.5 },
  { fusion: "learned", kvFusion: "value", kvRatio: 0.6, recent: 4, block: 8 },
  { fusion: "key", kvFusion: "random", kvRatio: 0.6, recent: 5, block: 4, tail: 0.5, threshold: "window" },
  { side: "key", kvFusion: "leave-one-out", recent: 4, block: 4, kvRatio: 0.6 },
  WHOLE_HEADS,
  ...WHOLE_HEADS_ON_DEVICE,
];

Deno.test("BatchDecoder.ids() gives the tokens that the next step feeds where it gets none", () => {
  using decoder = model.startBatch(undefined, { batch: 2, capacity: 12 });
  const alone = [model.start(), model.start()], first = Int32Array.of(5, 9);
  for (const slot of [0, 1]) decoder.begin(slot);
  assertThrows(() => decoder.ids(), RangeError, "expected a step before");
  decoder.step(first);
  let fed = first;
  for (let step = 0; step < 6; step++) {
    const chosen = alone.map((sequence, slot) => {
      const logits = f32Data(model.logits(sequence.feed(fed.slice(slot, slot + 1))));
      return logits.indexOf(Math.max(...logits));
    });
    assertEquals([...decoder.ids()], chosen, `step ${step}`);
    assertEquals([...decoder.ids()], chosen);
    fed = Int32Array.from(chosen);
    decoder.step(step % 2 === 0 ? undefined : fed);
  }
});

for (const options of CASES) {
  for (const cacheDType of ["f32", "bf16"] as const) {
    Deno.test(`a batch decodes as its sequences do: ${JSON.stringify(options)}, cache of ${cacheDType}`, () => {
      const pruner = options && filtering(options);
      const texts = [ids(30), ids(33, 5)], starts = [11, 0], slots = [0, 2], steps = 19;
      const decoder = model.startBatch(pruner, { batch: 3, capacity: 40, cacheDType });
      const alone = texts.map(() => model.start(pruner, { cacheDType }));
      texts.forEach((text, i) => {
        if (starts[i] === 0) return decoder.begin(slots[i]!);
        const prefill = model.start(pruner, { cacheDType });
        for (const sequence of [prefill, alone[i]!]) sequence.feed(text.slice(0, starts[i]));
        decoder.admit(slots[i]!, prefill);
      });
      const keep = texts.map(() => Array.from({ length: CONFIG.numLayers }, () => [] as number[]));
      const keySide = pruner?.keySide, kvLayers = keySide?.layers ?? [];
      const kvKeep = texts.map(() => kvLayers.map(() => [] as number[]));
      for (let step = 0; step < steps; step++) {
        const at = texts.map((_, i) => starts[i]! + step);
        const fed = new Int32Array(3).fill(99999); // the input of an idle slot is ignored
        texts.forEach((text, i) => fed[slots[i]!] = text[at[i]!]!);
        const logits = f32Data(decoder.step(fed)), kept = decoder.keep();
        texts.forEach((text, i) => {
          const want = f32Data(model.logits(alone[i]!.feed(text.slice(at[i], at[i]! + 1))));
          const row = slots[i]! * CONFIG.vocabSize;
          assertEquals(logits.subarray(row, row + CONFIG.vocabSize), want, `step ${step}, sequence ${i}`);
          keep[i]!.forEach((mask, layer) => mask.push(kept[3 * layer + slots[i]!]!));
        });
        assertEquals([kept[1], kept[4], kept[7]], [0, 0, 0]);
        const stays = decoder.kvKeep();
        if (keySide?.specs !== undefined) {
          kvLayers.forEach((_, k) => {
            assertEquals(stays[3 * k + 1], 0);
            kvKeep.forEach((masks, i) => masks[k]!.push(stays[3 * k + slots[i]!]!));
          });
        }
      }
      assertEquals([...decoder.lengths], [30, -1, 19]);
      texts.forEach((_, i) => {
        for (const [layer, mask] of alone[i]!.keep) {
          assertEquals(keep[i]![layer], [...mask.subarray(starts[i])], `sequence ${i}, layer ${layer}`);
          if (i === 1) assert(mask.includes(0) && mask.subarray(8).includes(1), "nothing to tell apart");
        }
      });
      texts.forEach((_, i) => {
        [...alone[i]!.kvKeep.values()].forEach((mask, k) => {
          const judged = mask.subarray(starts[i], judgedTokens(starts[i]! + steps, pruner!.spans));
          const own = decoder.judged(slots[i]!)?.get(kvLayers[k]!)?.subarray(starts[i]);
          assertEquals([...own ?? kvKeep[i]![k]!].slice(0, judged.length), [...judged]);
          assert(judged.includes(0) && judged.includes(1), "nothing to tell apart");
        });
      });
      const tallies = keep[1]!.map((mask, layer) => {
        const tally = new LayerTally(pruner, undefined, keySide?.heads?.get(layer));
        const stays = decoder.judged(slots[1]!)?.get(layer) ?? kvKeep[1]![kvLayers.indexOf(layer)];
        if (stays !== undefined) tally.drop(endingOf(stays, pruner!.spans).map(({ end }) => end));
        tally.take(Uint8Array.from(mask));
        return tally;
      });
      const rowBytes = 2 * CONFIG.numKvHeads * CONFIG.headDim * (cacheDType === "f32" ? 4 : 2);
      const ring = pruner?.skipped.cached ? 0 : pruner?.spans.recent ?? 0;
      const kvBytesAllocated = CONFIG.numLayers * (40 + ring) * rowBytes;
      assertEquals(decoder.usageOf(tallies, steps), { ...alone[1]!.usage(), kvBytesAllocated });
    });
  }
}

Deno.test("BatchDecoder holds fewer rows than tokens where keys go, and ends where one finds no row", () => {
  const pruner = filtering({ side: "key", recent: 2, block: 4, pruneRatio: 0.6, kvTail: 0.5 });
  const tokens = ids(40), sequence = model.start(pruner), layers = pruner.keySide!.layers;
  sequence.feed(tokens);
  const { caches } = sequence.exportState(),
    most = Math.max(...layers.map((layer) => caches[layer]!.kept.count));
  const start = (judgedRows: number) => model.startBatch(pruner, { batch: 1, capacity: 40, judgedRows });
  using decoder = start(most + 4); // that and a block more
  decoder.begin(0);
  const alone = model.start(pruner);
  for (const id of tokens) {
    const want = f32Data(model.logits(alone.feed(Int32Array.of(id))));
    assertEquals(f32Data(decoder.step(Int32Array.of(id))), want);
  }
  const tallies = Array.from({ length: CONFIG.numLayers }, () => new LayerTally(pruner));
  const rows = layers.length * (most + 4) + (CONFIG.numLayers - layers.length) * 40;
  assertEquals(
    decoder.usageOf(tallies, 40).kvBytesAllocated,
    rows * 2 * CONFIG.numKvHeads * CONFIG.headDim * 4,
  );
  assert(rows < 0.85 * CONFIG.numLayers * 40);

  using short = start(9);
  short.begin(0);
  for (const id of tokens.subarray(0, 9)) short.step(Int32Array.of(id));
  assertThrows(() => short.step(Int32Array.of(1)), RangeError, "its capacity of 9 rows used up");
  const nine = model.start(pruner);
  nine.feed(tokens.slice(0, 9));
  assertThrows(
    () => start(9).admit(0, nine),
    RangeError,
    `9 rows in layer ${layers[0]}: expected fewer than the 9 of its cache`,
  );
  for (const judgedRows of [0, 41, 1.5, NaN]) {
    assertThrows(() => start(judgedRows), RangeError, `Cannot use "judgedRows": found ${judgedRows}`);
  }
});

Deno.test("batchUnsupportedReason() names what keeps a method from a device", () => {
  assertEquals(batchUnsupportedReason(undefined), undefined);
  assertEquals(batchUnsupportedReason(createDense()), undefined);
  assertEquals(batchUnsupportedReason(filtering({})), undefined);
  assertEquals(
    batchUnsupportedReason(createPruner("oracle", CONFIG, {})),
    'the method "oracle" is non-causal',
  );
  const reason = (name: string) => `the method "${name}" decides on the host, or is traced`;
  assertEquals(batchUnsupportedReason(patternPruner([1], () => true)), reason("pattern"));
  const traced = createPruner("token-filtering", CONFIG, { warmup: 8 }, { trace: () => {} });
  assertEquals(batchUnsupportedReason(traced), reason("token-filtering"));
});

Deno.test("BatchDecoder() refuses sizes and methods that it has no steps for", () => {
  for (const [batch, capacity] of [[0, 8], [1.5, 8], [1, 0], [1, NaN]] as const) {
    assertThrows(
      () => new BatchDecoder(model, undefined, { batch, capacity }),
      RangeError,
      `Cannot decode ${batch} sequences of ${capacity} tokens`,
    );
  }
  const oracle = createPruner("oracle", CONFIG, {});
  assertThrows(() => new BatchDecoder(model, oracle, { batch: 1, capacity: 8 }), RangeError, "is non-causal");
});

Deno.test("BatchDecoder.admit() takes an idle slot that is there, and a sequence with room to grow", () => {
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

Deno.test("BatchDecoder.admit() refuses a sequence whose states are of other options", () => {
  const learned = (projections: number) => filtering({ fusion: "learned", projections });
  const decoder = model.startBatch(learned(4), { batch: 1, capacity: 40 }),
    sequence = model.start(learned(8));
  sequence.feed(ids(20));
  assertThrows(
    () => decoder.admit(0, sequence),
    RangeError,
    "Cannot admit this sequence: found ",
  );
});

Deno.test("BatchDecoder.step() feeds its own likeliest tokens, and ends at the capacity", () => {
  const decoder = model.startBatch(undefined, { batch: 2, capacity: 4 });
  decoder.begin(1);
  assertThrows(() => decoder.step(), RangeError, "expected ids for the first step");
  let next = 5;
  const alone = model.start();
  for (let step = 0; step < 4; step++) {
    const logits = f32Data(step === 0 ? decoder.step(Int32Array.of(9, next)) : decoder.step());
    const want = f32Data(model.logits(alone.feed(Int32Array.of(next))));
    assertEquals(logits.subarray(CONFIG.vocabSize), want);
    next = want.indexOf(Math.max(...want));
  }
  assertEquals([...decoder.lengths], [-1, 4]);
  assertThrows(() => decoder.step(), RangeError, "a sequence has reached the capacity of 4 tokens");
  decoder[Symbol.dispose]();
  decoder[Symbol.dispose]();
  assertThrows(() => decoder.step(), Error, "it was disposed");
});

Deno.test("BatchDecoder.step() runs once, is recorded once, then launched", () => {
  const calls: string[] = [];
  let allowed = true;
  const device = new class extends ReferenceBackend {
    override readonly alloc: Backend["alloc"] = (...args) => {
      assert(allowed, "allocates while work is recorded");
      return model.backend.alloc(...args);
    };
    override record(work: () => void): RecordedWork {
      calls.push("record");
      return {
        launch() {
          calls.push("launch");
          allowed = false;
          work();
          allowed = true;
        },
        [Symbol.dispose]: () => calls.push("dispose"),
      };
    }
  }();
  const decoder = new Model(CONFIG, weights, device).startBatch(undefined, { batch: 1, capacity: 9 });
  decoder.begin(0);
  const tokens = ids(4), alone = model.start();
  for (const id of tokens) {
    const logits = f32Data(decoder.step(Int32Array.of(id)));
    assertEquals(logits, f32Data(model.logits(alone.feed(Int32Array.of(id)))));
  }
  decoder[Symbol.dispose]();
  assertEquals(calls, ["record", "launch", "launch", "launch", "dispose"]);
});
