/** The whole model on the CUDA library: as the reference, and in a batch's recorded steps as token by token. */
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { scoreSequence } from "../../lib/eval/mod.ts";
import { createPruner, createReplay, type MethodOptions } from "../../lib/methods/mod.ts";
import { judgedTokens } from "../../lib/filter/blocks.ts";
import { BatchDecoder } from "../../lib/model/mod.ts";
import { f32Data } from "../../lib/tensor.ts";
import { RUNS_SLOW } from "../../lib/testing.ts";
import {
  CONFIG,
  filtering,
  ids,
  modelOn,
  truth,
  WHOLE_HEADS,
  WHOLE_HEADS_ON_DEVICE,
} from "./small_model/testing.ts";
import type { CudaBackend } from "./backend.ts";
import { ptxCounts, testOnDevice } from "./testing.ts";

const CASES: readonly MethodOptions[] = [
  { fusion: "variance", recent: 0 },
  { fusion: "variance", recent: 5, keyState: "pre-rope" },
  { fusion: "learned", recent: 4, block: 8 },
  { fusion: "learned", recent: 3, block: 8, features: ["similarity", "norm", "query"] },
  { fusion: "mean", recent: 4, cacheSkipped: true, threshold: "robbins-monro" },
  { side: "key", recent: 3, block: 4 },
  { fusion: "learned", kvFusion: "value", kvRatio: 0.6, recent: 4, block: 8, keyState: "pre-rope" },
  ...WHOLE_HEADS_ON_DEVICE,
  WHOLE_HEADS,
];
const words = (options: MethodOptions) => JSON.stringify(options);

testOnDevice("scoreSequence() decodes on the device as by feeds: losses, decisions and usage", (backend) => {
  const tokens = ids(40), model = modelOn(backend);
  // In the fast tier a batch decides by other cases.
  for (const options of [undefined, ...CASES.filter((_, i) => RUNS_SLOW || [3, 5, 7, 8].includes(i))]) {
    const pruner = (on?: typeof backend) => options && filtering(options, on);
    const want = scoreSequence(truth, tokens, pruner(), { phase: "decode" });
    const fed: number[] = [];
    const got = scoreSequence(model, tokens, pruner(backend), {
      phase: "decode",
      onFeed: (n) => fed.push(n),
    });
    got.nll.forEach((loss, i) => assertAlmostEquals(loss, want.nll[i]!, 1e-4));
    assertEquals([got.layers, got.keep], [want.layers, want.keep]);
    assertEquals([got.kvLayers, got.kvKeep], [want.kvLayers, want.kvKeep]);
    const { skipped: { cached } = { cached: true }, spans: { recent } = { recent: 0 } } = pruner() ?? {};
    const held = model.config.numLayers * (40 + (cached ? 0 : recent)) * 2 * 2 * 32 * 4;
    assertEquals(got.usage, { ...want.usage, kvBytesAllocated: held });
    assertEquals([got.fedByHost, want.fedByHost], [undefined, 'backend "reference" has no recorded steps']);
    assertEquals(fed, Array.from(tokens, (_, i) => i + 1));
    for (const masks of [got.keep, got.kvKeep]) {
      assert(masks.length === 0 || masks.every((mask) => mask.includes(0) && mask.includes(1)));
    }
    if (options !== undefined) assert(got.keep.length + got.kvKeep.length > 0);
  }
});

testOnDevice(
  "scoreSequence() feeds tokens from the host where a method decides there, and says why",
  (backend) => {
    const tokens = ids(24), model = modelOn(backend), options = { fusion: "mean", recent: 3 } as const;
    const want = scoreSequence(truth, tokens, filtering(options));
    const replay = createReplay(CONFIG, {
      keep: new Map(want.layers.map((layer, i) => [layer, want.keep[i]!])),
      recent: 3,
    });
    let traced = 0;
    const listened = createPruner("token-filtering", CONFIG, { warmup: 8, tail: 1, ...options }, {
      backend,
      trace: (rows) => traced += rows.keep.length,
    });
    for (const pruner of [replay, listened]) {
      const got = scoreSequence(model, tokens, pruner, { phase: "decode" });
      got.nll.forEach((loss, i) => assertAlmostEquals(loss, want.nll[i]!, 1e-4));
      assertEquals(got.keep, want.keep);
      assertEquals(got.fedByHost, `the method "${pruner.name}" decides on the host, or is traced`);
    }
    assertEquals(traced, 3 * 24);
  },
);

testOnDevice(
  "rules of the attention received judge on the host beside CUDA as the reference does",
  (backend) => {
    const tokens = ids(40), model = modelOn(backend);
    for (const kvFusion of (["received", "missed"] as const).slice(0, RUNS_SLOW ? 2 : 1)) {
      const options = { side: "key", kvFusion, recent: 3, block: 8 } as const;
      const want = scoreSequence(truth, tokens, filtering(options));
      const got = scoreSequence(model, tokens, filtering(options, backend), { phase: "decode" });
      assertEquals(got.fedByHost, "keys and values are decided on the host, or traced");
      assertEquals(got.kvKeep, want.kvKeep, kvFusion);
      assert(want.kvKeep.every((mask) => mask.includes(0)), kvFusion);
      got.nll.forEach((loss, i) => assertAlmostEquals(loss, want.nll[i]!, 1e-4));
      assertThrows(
        () => new BatchDecoder(model, filtering(options, backend), { batch: 1, capacity: 48 }),
        RangeError,
        "Cannot decode a batch on a device: keys and values are decided on the host, or traced",
      );
    }
  },
);

testOnDevice("a dense model on CUDA gives the reference's losses", (backend) => {
  const tokens = ids(40);
  const want = scoreSequence(truth, tokens);
  const got = scoreSequence(modelOn(backend), tokens, undefined, { chunk: 13 });
  got.nll.forEach((loss, i) => assertAlmostEquals(loss, want.nll[i]!, 1e-4));
});

for (const options of CASES) {
  testOnDevice(
    `a filtered model on CUDA decides and scores as the reference: ${words(options)}`,
    (backend) => {
      const tokens = ids(48);
      const want = scoreSequence(truth, tokens, filtering(options));
      const masks = [...want.keep, ...want.kvKeep];
      const skipped = masks.reduce((sum, mask) => sum + mask.filter((kept) => kept === 0).length, 0);
      assert(skipped > 20, `${skipped} skipped`);
      const got = scoreSequence(modelOn(backend), tokens, filtering(options, backend), { chunk: 20 });
      [...got.keep, ...got.kvKeep].forEach((mask, i) => assertEquals([...mask], [...masks[i]!]));
      got.nll.forEach((loss, i) => assertAlmostEquals(loss, want.nll[i]!, 1e-4));
    },
  );
}
for (const options of CASES.filter((_, i) => RUNS_SLOW || [0, 2, 4, 7, 8].includes(i))) { // the last: below
  testOnDevice(
    `BatchDecoder decides and scores as the reference: ${words(options)}`,
    (backend) => decideInBatch(backend, options),
  );
}

function decideInBatch(backend: CudaBackend, options: MethodOptions): void {
  const model = modelOn(backend);
  const starts = [11, 20], steps = 17;
  const pruner = filtering(options, backend);
  const decoder = new BatchDecoder(model, pruner, { batch: 3, capacity: 48 });
  const sequences = starts.map((start, i) => ({ slot: 2 * i, tokens: ids(start + steps, i), start }));
  for (const { slot, tokens, start } of sequences) {
    const prefill = model.start(pruner);
    prefill.feed(tokens.slice(0, start));
    decoder.admit(slot, prefill);
  }
  const keySide = pruner.keySide, kvLayers = keySide?.layers ?? [];
  const found = sequences.map(() => ({
    keep: [] as number[][],
    kvKeep: [] as number[][],
    logits: [] as Float32Array[],
  }));
  for (let step = 0; step < steps; step++) {
    const fed = new Int32Array(3).fill(99999); // the ids of an idle slot are not read
    for (const { slot, tokens, start } of sequences) fed[slot] = tokens[start + step]!;
    const logits = f32Data(backend.read(decoder.step(fed)));
    const keep = decoder.keep(), kvKeep = decoder.kvKeep();
    sequences.forEach(({ slot }, i) => {
      found[i]!.logits.push(logits.slice(slot * CONFIG.vocabSize, (slot + 1) * CONFIG.vocabSize));
      found[i]!.keep.push(Array.from({ length: CONFIG.numLayers }, (_, layer) => keep[3 * layer + slot]!));
      found[i]!.kvKeep.push(kvLayers.map((_, k) => kvKeep[3 * k + slot]!));
    });
    assertEquals([0, 1, 2].map((layer) => keep[3 * layer + 1]), [0, 0, 0]);
  }
  assertEquals([...decoder.lengths], [starts[0]! + steps, -1, starts[1]! + steps]);
  sequences.forEach(({ tokens, start }, i) => {
    const sequence = truth.start(filtering(options));
    sequence.feed(tokens.slice(0, start));
    for (let step = 0; step < steps; step++) {
      const want = f32Data(truth.logits(sequence.feed(tokens.slice(start + step, start + step + 1))));
      want.forEach((logit, j) => assertAlmostEquals(found[i]!.logits[step]![j]!, logit, 2e-3));
    }
    const kept = Array.from(
      { length: steps },
      (_, step) => [0, 1, 2].map((layer) => sequence.keep.get(layer)?.[start + step] ?? 1),
    );
    assertEquals(found[i]!.keep, kept);
    const judged = keySide === undefined ? 0 : judgedTokens(start + steps, pruner.spans) - start;
    const stays = Array.from(
      { length: judged },
      (_, step) => kvLayers.map((layer) => sequence.kvKeep.get(layer)![start + step]!),
    );
    const own = decoder.judged(sequences[i]!.slot); // where the host decides
    const told = own === undefined
      ? found[i]!.kvKeep.slice(0, judged)
      : Array.from({ length: judged }, (_, step) => kvLayers.map((layer) => own.get(layer)![start + step]!));
    assertEquals(told, stays);
    for (const masks of [pruner.layers.length > 0 ? kept : [], stays]) {
      assert(masks.length === 0 || masks.flat().includes(0) && masks.flat().includes(1));
    }
  });
}

testOnDevice("a cache of f16 or bf16 gives the reference's logits, in prefill and in decode", (backend) => {
  const model = modelOn(backend), tokens = ids(160), start = 150;
  const random = { fusion: "random", recent: 4 } as const; // decides whatever the cache rounds
  const products = () => ptxCounts()?.products ?? -1;
  let runs = 0;
  for (const cacheDType of ["f16", "bf16"] as const) {
    for (const options of RUNS_SLOW ? [undefined, random] : [cacheDType === "f16" ? random : undefined]) {
      const truly = truth.start(options && filtering(options), { cacheDType });
      const want = f32Data(truth.logits(truly.feed(tokens)));
      const pruner = options && filtering(options, backend);
      for (const wgmma of [false, true]) {
        if (backend.useWgmma(wgmma) !== wgmma) continue;
        const sequence = model.start(pruner, { cacheDType }), before = products();
        const hidden = sequence.feed(tokens.slice(0, start));
        backend.useWgmma(false);
        assertEquals(products() > before, wgmma && before >= 0);
        const found = [...f32Data(backend.read(model.logits(hidden)))];
        const decoder = model.startBatch(pruner, { batch: 1, capacity: 170, cacheDType });
        decoder.admit(0, sequence);
        for (const id of tokens.subarray(start)) {
          found.push(...f32Data(backend.read(decoder.step(Int32Array.of(id)))));
        }
        assertEquals(found.length, want.length);
        let worst = 0;
        found.forEach((logit, i) => worst = Math.max(worst, Math.abs(logit - want[i]!)));
        const bar = { f16: 5e-3, bf16: 4e-2 }[cacheDType]; // of logits about 1, through three layers
        assert(
          worst > 0 && worst < bar,
          `${cacheDType}, ${options?.fusion}, wgmma ${wgmma}: off by ${worst}`,
        );
        runs++;
      }
    }
  }
  assertEquals(runs, (backend.useWgmma(true) ? 4 : 2) * (RUNS_SLOW ? 2 : 1));
  backend.useWgmma(false);
});

testOnDevice(
  "BatchDecoder feeds its own likeliest tokens without the host",
  (backend) => feedItself(backend),
);

testOnDevice("it does where launches overlap, and so does a filter decide", (backend) => {
  if (!backend.useDependentLaunch(true)) return; // refused: testing_test.ts
  try {
    feedItself(backend);
    for (const options of RUNS_SLOW ? CASES : CASES.slice(-1)) decideInBatch(backend, options);
  } finally {
    backend.useDependentLaunch(false);
  }
});

function feedItself(backend: CudaBackend): void {
  const model = modelOn(backend);
  const decoder = new BatchDecoder(model, undefined, { batch: 2, capacity: 24 });
  const prompts = [ids(6), ids(9, 3)];
  prompts.forEach((prompt, slot) => {
    const sequence = model.start();
    sequence.feed(prompt.slice(0, -1));
    decoder.admit(slot, sequence);
  });
  let logits = decoder.step(Int32Array.from(prompts, (prompt) => prompt.at(-1)!));
  const told: number[][] = [[], []];
  for (let step = 0; step < 8; step++) {
    const values = f32Data(backend.read(logits));
    for (const slot of [0, 1]) {
      const row = [...values.subarray(slot * CONFIG.vocabSize, (slot + 1) * CONFIG.vocabSize)];
      told[slot]!.push(row.indexOf(Math.max(...row)));
    }
    if (step % 2 === 1) assertEquals([...decoder.ids()], told.map((tokens) => tokens.at(-1)));
    logits = decoder.step();
  }
  prompts.forEach((prompt, slot) => {
    const sequence = truth.start();
    let hidden = sequence.feed(prompt);
    for (const token of told[slot]!) {
      const all = [...f32Data(truth.logits(hidden))].slice(-CONFIG.vocabSize);
      assertEquals(token, all.indexOf(Math.max(...all)));
      hidden = sequence.feed(Int32Array.of(token));
    }
  });
}

testOnDevice("BatchDecoder refuses what it cannot do, and a slot can be used again", (backend) => {
  const model = modelOn(backend);
  const error = (work: () => void, says: string) => assertThrows(work, Error, says);
  error(() => new BatchDecoder(model, undefined, { batch: 0, capacity: 8 }), "expected positive integers");
  error(
    () =>
      new BatchDecoder(model, createPruner("oracle", CONFIG, { pruneRatio: 0.5 }), { batch: 1, capacity: 8 }),
    '"oracle"',
  );
  const decoder = new BatchDecoder(model, undefined, { batch: 1, capacity: 8 });
  error(() => decoder.step(), "expected ids for the first step");
  error(() => decoder.ids(), "expected a step before");
  const sequence = (count: number) => {
    const started = model.start();
    started.feed(ids(count));
    return started;
  };
  error(() => decoder.admit(1, sequence(2)), "expected an idle one of 0 to 0");
  error(() => decoder.admit(0, sequence(8)), "expected fewer than the capacity of 8");
  for (let round = 0; round < 2; round++) {
    decoder.admit(0, sequence(7));
    error(() => decoder.admit(0, sequence(2)), "expected an idle one");
    const got = f32Data(backend.read(decoder.step(ids(8).slice(7))));
    const want = f32Data(truth.logits(truth.start().feed(ids(8)))).slice(-CONFIG.vocabSize);
    want.forEach((logit, i) => assertAlmostEquals(got[i]!, logit, 1e-3));
    error(() => decoder.step(Int32Array.of(1)), "has reached the capacity");
    decoder.release(0);
  }
});

testOnDevice(
  "BatchDecoder refuses any use once it was disposed, and leaves its backend usable",
  (backend) => {
    const model = modelOn(backend);
    for (const pruner of [undefined, filtering({ fusion: "learned", recent: 3 }, backend)]) {
      const decoder = model.startBatch(pruner, { batch: 2, capacity: 8 });
      decoder.begin(0);
      const logits = [1, 2, 3].map((id) => decoder.step(Int32Array.of(id, 0)))[0]!;
      decoder[Symbol.dispose]();
      decoder[Symbol.dispose]();
      for (
        const work of [
          () => decoder.step(Int32Array.of(4, 0)),
          () => decoder.step(),
          () => decoder.keep(),
          () => decoder.begin(1),
          () => decoder.admit(1, model.start(pruner)),
          () => decoder.release(0),
        ]
      ) assertThrows(work, Error, "Cannot use this batch decoder: it was disposed");
      assertThrows(() => backend.read(logits), Error, "Cannot use device memory: it was freed");
      assertEquals(backend.read(model.logits(model.start().feed(ids(3)))).shape, [3, CONFIG.vocabSize]);
    }
  },
);
