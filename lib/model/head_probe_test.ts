/** KV heads that methods keep whole by a probe of their own: against kvpress, and against attention by transformers. */
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { wholeParts } from "../filter/schedule.ts";
import { duoAttention } from "../methods/eviction/duo_attention.ts";
import { chooseHeads, razorAttention, scoreCopying } from "../methods/eviction/razor_attention.ts";
import { createPruner, type MethodOptions, resolveOptions } from "../methods/mod.ts";
import { openCheckpoint } from "./checkpoint_methods_testing.ts";
import { drawIds, headScores, probeLayers } from "./head_probe.ts";
import { Model } from "./model.ts";
import { retrievalScores } from "./retrieval.ts";
import { CONFIG, ids, weights } from "./small_testing.ts";
import golden from "./testdata/heads_golden.json" with { type: "json" };
import { backend } from "./testing.ts";
import type { Tokenizer } from "./tokenizer/tokenizer.ts";
import { uploadWeights } from "./upload_testing.ts";
import { openTested } from "../../kernels/testing/ways.ts";

const METHODS = [duoAttention, razorAttention];
const tokenizer = {
  ...{ vocabSize: CONFIG.vocabSize, addsBos: true, bosId: 7 },
  bytes: () => new Uint8Array(1),
} as unknown as Tokenizer;
const cpu = await openTested();
const model = new Model({ ...CONFIG, contextLength: 600 }, uploadWeights(weights, cpu), cpu);
const loaded = { model, tokenizer };

for (const name of ["llama", "llama-linear-biases", "qwen3"] as const) {
  const { duo, whole, induction, echo } = golden.cases[name];

  Deno.test(`${name}: KV heads have the scores of kvpress's DuoAttention and of RazorAttention's formula`, () => {
    const layers = probeLayers(openCheckpoint(name, backend), Int32Array.from(golden.ids));
    const scores = duoAttention.heads!.score(layers);
    scores.forEach((score, head) => assertAlmostEquals(score, duo[head]!, 2e-5));
    assertEquals(scores.length, duo.length);
    // At one half kvpress makes half of the heads streaming heads.
    const options = {
      ...resolveOptions({ side: "key", fusion: "key", kvRatio: 0.5 }),
      whole: "heads" as const,
    };
    assertEquals(wholeParts(layers.length, { ...options, wholeFraction: 1 }, scores), whole);
    layers.forEach((layer, i) => {
      const found = scoreCopying(layer, golden);
      found.induction.forEach((score, head) => assertAlmostEquals(score, induction[i]![head]!, 2e-5));
      found.echo.forEach((score, head) => assertAlmostEquals(score, echo[i]![head]!, 2e-5));
    });
  });
}

Deno.test("RazorAttention keeps 14% of the heads by induction, and 1% by echo", () => {
  // The induction score grows over 100 heads, the echo score falls; none is 0.
  const layers = Array.from({ length: 10 }, (_, layer) => ({
    induction: Float64Array.from({ length: 10 }, (_, head) => (10 * layer + head + 1) / 1000),
    echo: Float64Array.from({ length: 10 }, (_, head) => (100 - 10 * layer - head) / 200),
  }));
  const chosen = chooseHeads(layers).flatMap((score, head) => score > 0 ? [head] : []);
  assertEquals(chosen, [0, ...Array.from({ length: 14 }, (_, i) => 86 + i)]);
  assertEquals(chooseHeads(layers)[0], 0.5);
  assertEquals(chooseHeads(layers)[99], 0.1);
  const few = chooseHeads([{ induction: Float64Array.of(1, 3, 2, 0.5), echo: Float64Array.of(9, 1, 1, 1) }]);
  assertEquals(few, [0, 3, 0, 0]); // 0.56 of 4 heads is one, 0.04 is none
});

Deno.test("a copy after the first token is compared with the same token of earlier copies, not with that token", () => {
  const drawn = drawIds(tokenizer, { tokens: 5, copies: 3 });
  assertEquals(drawn.length, 16);
  assertEquals([drawn[0], drawn.slice(1, 6)], [7, drawn.slice(11)]);
  assertEquals(
    drawIds({ ...tokenizer, addsBos: false } as Tokenizer, { tokens: 5, copies: 3 }),
    drawn.slice(1),
  );
  const [layer] = probeLayers(model, drawn), width = layer!.numHeads * layer!.headDim;
  const without = { ...layer!, queries: layer!.queries.slice(width), keys: layer!.keys.slice(width / 2) };
  const [all, some] = [layer!, without].map((own) => scoreCopying(own, { tokens: 5, copies: 3 }));
  // The first token takes a part of each query's attention, and none is found there.
  all!.echo.forEach((score, head) => assert(score > 0 && score < some!.echo[head]!, `${score}`));
});

for (const { name, heads } of METHODS) {
  const plan = { side: "key", kvFusion: name, kvRatio: 0.5, warmup: 8, recent: 6, block: 8 } as const;
  const bind = (more: MethodOptions = {}) =>
    createPruner("token-filtering", model.config, { ...plan, ...more }, {
      retrieval: retrievalScores(loaded),
    });

  Deno.test(`${name} keeps the heads of its probe whole, at the rows of the ratio`, () => {
    const scores = headScores(loaded, heads!);
    assert(headScores(loaded, heads!) === scores, "probed once");
    assertEquals(scores.length, 6);
    const pruner = bind(), parts = [...pruner.keySide!.heads ?? []];
    const whole = parts.flatMap(([layer, { whole }]) => whole.map((head) => 2 * layer + head));
    const layers = pruner.keySide!.whole ?? [];
    const best = scores.map((_, head) => head).sort((a, b) => scores[b]! - scores[a]!)
      .slice(0, name === "duo-attention" ? 3 : 1).sort((a, b) => a - b);
    assertEquals(
      [...whole, ...layers.flatMap((layer) => [2 * layer, 2 * layer + 1])].sort((a, b) => a - b),
      best,
    );
    const run = (more: MethodOptions = {}) => {
      const sequence = model.start(bind(more));
      cpu.free(sequence.feed(ids(104)));
      return sequence;
    };
    const own = run().usage(),
      alike = model.start(
        createPruner("token-filtering", model.config, { ...plan, kvFusion: "streaming" }),
      );
    cpu.free(alike.feed(ids(104)));
    assertAlmostEquals(own.kvBytesHeld / alike.usage().kvBytesHeld, 1, 0.02);
  });

  Deno.test(`${name} is refused with whole layers beside its heads, and without scores`, () => {
    for (const whole of ["auto", "heads", [1]] as const) {
      assertThrows(
        () => bind({ whole }),
        RangeError,
        `expected "none" since "${name}" finds its own KV heads`,
      );
    }
    assertThrows(
      () => createPruner("token-filtering", model.config, plan),
      RangeError,
      `Cannot evict by "${name}" without scores of KV heads`,
    );
    const other = { ...model.config, retrieval: [1, 0, 0, 0, 0, 0] }; // of another probe
    assertThrows(
      () => createPruner("token-filtering", other, plan),
      RangeError,
      `Cannot evict by "${name}" without scores of KV heads: expected a context with \`retrieval\``,
    );
    const both = createPruner("token-filtering", other, plan, { retrieval: retrievalScores(loaded) });
    assertEquals(both.keySide!.heads, bind().keySide!.heads);
    assertThrows(
      () => createPruner("token-filtering", model.config, plan, { retrieval: () => [1] }),
      RangeError,
      "with 1 retrieval scores, expected 6",
    );
  });
}

Deno.test("heads of a layer with a sliding window are never kept whole", () => {
  const local = openCheckpoint("gemma3", backend), { layers, numKvHeads, vocabSize } = local.config;
  const scores = headScores({ model: local, tokenizer: { ...tokenizer, vocabSize } as Tokenizer }, {
    ...{ tokens: 4, copies: 1 },
    score: (probed) => probed.flatMap(() => Array<number>(numKvHeads).fill(1)),
  });
  const full = layers!.flatMap(({ window }) => Array<number>(numKvHeads).fill(window === undefined ? 1 : 0));
  assertEquals(scores, full);
  assert(full.includes(0) && full.includes(1));
});
