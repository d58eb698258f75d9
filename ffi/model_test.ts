/** The whole model on native code: decode equals prefill, and the reference agrees with the filter's decisions. */
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { readBuiltinText, scoreSequence, type SequenceScore } from "../lib/eval/mod.ts";
import { createPruner, createReplay, type TokenFilterOptions } from "../lib/methods/mod.ts";
import { loadModel, Model } from "../lib/model/mod.ts";
import { ReferenceBackend } from "../lib/reference/mod.ts";
import { f32Data } from "../lib/tensor.ts";
import { RUNS_SLOW } from "../lib/testing.ts";
import { openTested } from "../kernels/testing/ways.ts";

const { model, tokenizer, config } = await loadModel("tiny", await openTested({ threads: 2 }));
const { weights, backend: plain } = (await loadModel("tiny", new ReferenceBackend())).model;
/** The shape with fewer layers in the fast tier: the reference takes most of the time, and layers are alike. */
const shape = { ...config, numLayers: RUNS_SLOW ? config.numLayers : 3 };
const reference = new Model(shape, weights, plain), native = new Model(shape, model.weights, model.backend);
const ids = tokenizer.encode(await readBuiltinText()).slice(0, 360);

const ALL: readonly TokenFilterOptions[] = [
  { fusion: "variance", recent: 0 },
  { fusion: "learned", recent: 16 },
  { fusion: "variance", recent: 16 },
  { fusion: "learned", recent: 0 },
];
const CASES = RUNS_SLOW ? ALL : ALL.slice(0, 2);
const name = (options: TokenFilterOptions) => `${options.fusion}, recent ${options.recent}`;
const filtering = (options: TokenFilterOptions, on = model) =>
  createPruner("token-filtering", on.config, options);

function assertSame(got: SequenceScore, want: SequenceScore, tolerance: number): void {
  assertEquals(got.layers, want.layers);
  got.keep.forEach((mask, i) => assertEquals([...mask], [...want.keep[i]!], `layer ${got.layers[i]}`));
  got.nll.forEach((loss, i) => assertAlmostEquals(loss, want.nll[i]!, tolerance));
}

Deno.test("a batch on native code decodes as its sequences do", () => {
  const pruner = createPruner("token-filtering", config, {
    fusion: "learned",
    recent: 4,
    warmup: 8,
    block: 8,
  });
  const texts = [ids.slice(0, 40), ids.slice(100, 140)], start = 12;
  using decoder = model.startBatch(pruner, { batch: 3, capacity: 40 });
  const alone = texts.map((text, i) => {
    const [admitted, sequence] = [model.start(pruner), model.start(pruner)];
    for (const one of [admitted, sequence]) one.feed(text.slice(0, start));
    decoder.admit(2 * i, admitted);
    return sequence;
  });
  for (let t = start; t < 40; t++) {
    const logits = f32Data(decoder.step(Int32Array.of(texts[0]![t]!, 0, texts[1]![t]!)));
    alone.forEach((sequence, i) => {
      const want = f32Data(model.logits(sequence.feed(texts[i]!.slice(t, t + 1))));
      const row = logits.subarray(2 * i * config.vocabSize, (2 * i + 1) * config.vocabSize);
      assert(want.every((logit, j) => Math.abs(row[j]! - logit) < 1e-3), `token ${t} of sequence ${i}`);
      const kept = [...sequence.keep].map(([, mask]) => mask[t]!);
      assertEquals([...decoder.keep()].filter((_, j) => j % 3 === 2 * i).slice(-kept.length), kept);
    });
  }
  assert(alone.every(({ keep }) => [...keep.values()].some((mask) => mask.includes(0))));
});

for (const options of CASES) {
  Deno.test(`chunks and decode take prefill's decisions and losses: ${name(options)}`, () => {
    const whole = scoreSequence(model, ids, filtering(options));
    const skipped = whole.keep.reduce((sum, mask) => sum + mask.filter((kept) => kept === 0).length, 0);
    assert(Math.abs(skipped / (config.numLayers * (ids.length - 32)) - 0.5) < 0.02);
    for (const chunk of [1, 7, 64]) {
      assertSame(scoreSequence(model, ids, filtering(options), { chunk }), whole, 1e-4);
    }
    assertSame(scoreSequence(model, ids, filtering(options), { phase: "decode" }), whole, 1e-4);
  });

  Deno.test(`replaying the masks in plain TypeScript gives the filtered losses: ${name(options)}`, () => {
    const scored = scoreSequence(native, ids.slice(0, 200), filtering(options, native));
    assert(scored.keep.some((mask) => mask.includes(0)));
    const keep = new Map(scored.layers.map((layer, i) => [layer, scored.keep[i]!]));
    const replay = createReplay(shape, { keep, recent: options.recent ?? 16 });
    assertSame(scoreSequence(reference, ids.slice(0, 200), replay), scored, 2e-3);
  });

  Deno.test(`a changed late token leaves earlier losses and decisions as they were: ${name(options)}`, () => {
    const late = 150, short = ids.slice(0, 170), changed = short.slice();
    changed[late] = changed[late]! === 500 ? 501 : 500;
    for (const [on, tolerance] of [[model, 1e-5], [reference, 0]] as const) {
      const a = scoreSequence(on, short, filtering(options, on)),
        b = scoreSequence(on, changed, filtering(options, on));
      for (let i = 0; i < late - 1; i++) {
        assert(Math.abs(a.nll[i]! - b.nll[i]!) <= tolerance, `${on.backend.name} ${i}`);
      }
      a.keep.forEach((mask, i) => assertEquals([...mask.slice(0, late)], [...b.keep[i]!.slice(0, late)]));
      assert(a.nll[late - 1] !== b.nll[late - 1]);
    }
  });
}

Deno.test("a filtered sequence allocates less cache by the skip ratio, but for the ring and one page a layer", () => {
  const tail = { tail: 1, pruneRatio: 0.5, recent: 16, warmup: 0 };
  const dense = scoreSequence(model, ids).usage, half = scoreSequence(model, ids, filtering(tail)).usage;
  const row = 2 * config.numKvHeads * config.headDim * 4;
  const slack = config.numLayers * (64 + 16) * row;
  assert(half.kvBytesAllocated <= 0.5 * dense.kvBytesAllocated + slack);
  assert(half.kvBytesHeld <= half.kvBytesAllocated);
});
