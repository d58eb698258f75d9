import { assert, assertAlmostEquals, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { scoreSequence } from "../eval/sequence_score.ts";
import { createPruner, resolveOptions } from "../methods/mod.ts";
import { dequantize } from "../reference/dequantize.ts";
import { ReferenceBackend } from "../reference/mod.ts";
import { countOf, hostTensor } from "../tensor.ts";
import { openCheckpoint } from "./checkpoint_methods_testing.ts";
import { loadModel } from "./load.ts";
import type { Model } from "./model.ts";
import { drawIds } from "./head_probe.ts";
import { findRetrievalLayers, retrievalOf } from "./retrieval.ts";
import type { Tokenizer } from "./tokenizer/tokenizer.ts";
import { openTested } from "../../kernels/testing/ways.ts";

const backend = await openTested();
const loaded = await loadModel("tiny", backend);
const best = (scores: readonly number[]) =>
  scores.map((_, layer) => layer).sort((a, b) => scores[b]! - scores[a]!);

Deno.test("findRetrievalLayers() finds the layers of tiny whose ablation costs most, on each backend alike", async () => {
  const { nll } = backend;
  let given = new Float64Array();
  backend.nll = (...args) => given = nll.apply(backend, args);
  const { scores, heads, losses, copies, probe } = findRetrievalLayers(loaded);
  backend.nll = nll;
  // The ablation of each layer on a repeated text puts 4 first, then 8 (experiments/studies/cheap_skips).
  assertEquals(best(scores).slice(0, 2), [4, 8]);
  assertEquals([probe, copies], [
    { version: 2, tokens: 128, sinks: 32, recent: 64, seed: 0 },
    false,
  ]);
  assert(losses[0] > losses[1] && losses[0] - losses[1] < 1, `${losses}`);
  const meanFrom = (from: number) => given.slice(from, from + 127).reduce((a, b) => a + b) / 127;
  assertEquals(losses, [meanFrom(given.length - 255), meanFrom(given.length - 127)]);
  const reference = findRetrievalLayers(await loadModel("tiny", new ReferenceBackend()));
  reference.scores.forEach((score, layer) => assertAlmostEquals(score / scores[layer]!, 1, 1e-3));
  assertEquals(best(reference.scores), best(scores));
  reference.heads.flat().forEach((score, i) => assertAlmostEquals(score / heads.flat()[i]!, 1, 1e-3));
  const other = findRetrievalLayers(loaded, { seed: 1 });
  assertEquals(best(other.scores)[0], 4);
  assert(other.scores[4] !== scores[4]);
  for (const seed of [-1, 0.5, NaN]) {
    assertThrows(() => findRetrievalLayers(loaded, { seed }), RangeError, `Cannot use "seed": found ${seed}`);
  }
});

Deno.test("findRetrievalLayers() reads given ids twice: those that it draws give the same", () => {
  const { scores } = findRetrievalLayers(loaded), own = drawIds(loaded.tokenizer, { tokens: 128, copies: 1 });
  const ids = own.slice(own.length - 128);
  assertEquals(findRetrievalLayers(loaded, { ids }).scores, scores);
  const { probe, losses } = findRetrievalLayers(loaded, { ids: ids.slice(0, 104) });
  assertEquals(probe.tokens, 104);
  assert(losses[0] - losses[1] < 1);
  for (const count of [65, 96, 103, 256]) {
    assertThrows(
      () => findRetrievalLayers(loaded, { ids: Array(count).fill(5) }),
      RangeError,
      `Cannot probe with ${count} ids: expected 104 to 255`,
    );
  }
});

Deno.test("findRetrievalLayers() probes the layers without a sliding window, and needs one", () => {
  const model = openCheckpoint("gemma3", backend), { layers, vocabSize } = model.config;
  const windows = layers!.map(({ window }) => window), bytes = () => new Uint8Array(1);
  assert(windows.includes(undefined) && windows.some((window) => window !== undefined));
  const tokenizer = { vocabSize, addsBos: false, bytes } as unknown as Tokenizer;
  const { scores } = findRetrievalLayers({ model, tokenizer });
  assertEquals(scores.map((score) => score > 0), windows.map((window) => window === undefined));
  const narrow = { ...model.config, layers: layers!.map((layer) => ({ ...layer, window: 8 })) };
  assertThrows(
    () => findRetrievalLayers({ model: { config: narrow } as unknown as Model, tokenizer }),
    RangeError,
    "Cannot find retrieval layers: every layer has a sliding window (use --whole none)",
  );
});

for (const count of [104, 128]) {
  Deno.test(`findRetrievalLayers() scores each KV head by what its part of the output projection adds, ${count} ids`, () =>
    scoreHeads(count));
}

function scoreHeads(count: number) {
  const ids = drawIds(loaded.tokenizer, { tokens: count, copies: 1 }).slice(-count);
  const { heads, scores } = findRetrievalLayers(loaded, { ids }),
    { numKvHeads, numHeads, headDim } = loaded.config;
  assertEquals(heads.map(({ length }) => length), Array(10).fill(numKvHeads));
  const { model } = loaded, { o, ...others } = model.weights.layers[0]!;
  for (let head = 0; head < numKvHeads; head++) {
    // Nothing lies before layer 0: with only one head's columns, the layer's score is that head's.
    const width = numHeads / numKvHeads * headDim,
      matrix = dequantize(backend.read(o!), 0, countOf(o!.shape)).slice();
    matrix.forEach((_, i) => {
      if (Math.floor(i % (numHeads * headDim) / width) !== head) matrix[i] = 0;
    });
    const own = backend.upload(hostTensor("f32", o!.shape, matrix));
    const layers = [{ ...others, o: own }, ...model.weights.layers.slice(1)];
    const alone = findRetrievalLayers({
      ...loaded,
      model: model.alike(model.config, { ...model.weights, layers }),
    }, { ids });
    assertAlmostEquals(alone.scores[0]! / heads[0]![head]!, 1, 1e-3);
    assertAlmostEquals(alone.heads[0]![head]! / heads[0]![head]!, 1, 1e-3);
  }
  assert(scores[0]! <= numKvHeads * heads[0]!.reduce((a, b) => a + b, 0));
}

Deno.test("retrievalOf() probes a model once, and believes what was kept of the same probe alone", async () => {
  const fresh = async () => await loadModel("tiny", backend);
  const found = retrievalOf(loaded);
  assert(retrievalOf(loaded) === found);
  const kept = { ...found, scores: found.scores.toReversed() };
  assert(retrievalOf(await fresh(), kept) === kept);
  for (
    const wrong of [
      null,
      { ...kept, probe: { ...kept.probe, version: 0 } },
      { ...kept, scores: kept.scores.slice(1) },
      { ...kept, scores: kept.scores.map(String) },
      { ...kept, heads: undefined },
      { ...kept, heads: kept.heads.slice(1) },
      { ...kept, heads: kept.heads.map((own) => own.slice(1)) },
      { ...kept, losses: [1] },
      { ...kept, copies: 1 },
    ]
  ) assertEquals(retrievalOf(await fresh(), wrong), found);
});

Deno.test("whole layers keep every key and value, and the others drop so many more that as many rows are held", () => {
  const ids = Int32Array.from({ length: 300 }, (_, i) => (i * 7919) % 4096);
  const options = { side: "key", fusion: "key", kvRatio: 0.5, warmup: 4, recent: 0, block: 4 } as const;
  const run = (whole: "none" | "auto" | readonly number[]) =>
    scoreSequence(
      loaded.model,
      ids,
      createPruner("token-filtering", loaded.config, { ...options, whole }, {
        retrieval: () => retrievalOf(loaded).scores,
      }),
    );
  const alike = run("none"), auto = run("auto"), { kvLayers, kvKeep } = auto;
  const whole = Array.from({ length: 10 }, (_, layer) => layer).filter((layer) => !kvLayers.includes(layer));
  assert(whole.includes(4) && whole.length >= 2 && whole.length <= 5, `${whole}`);
  assertEquals(run(whole).nll, auto.nll);
  const held = (masks: readonly Uint8Array[]) =>
    masks.flatMap((mask) => [...mask]).reduce((a, b) => a + b, 0);
  const all = held(kvKeep) + whole.length * ids.length;
  assert(Math.abs(all / held(alike.kvKeep) - 1) < 0.02, `${all}, ${held(alike.kvKeep)}`);
  // An eviction has the same plan.
  const eviction = createPruner("token-filtering", loaded.config, {
    ...{ ...options, fusion: undefined, kvFusion: "streaming" as const },
    whole: [4, 8],
  });
  assertEquals(eviction.keySide!.layers, [0, 1, 2, 3, 5, 6, 7, 9]);
});

Deno.test("layers that cannot be kept whole are refused, with what can be", () => {
  const refuse = (options: Parameters<typeof resolveOptions>[0], ...words: string[]) => {
    const { message } = assertThrows(
      () => createPruner("token-filtering", loaded.config, { side: "key", fusion: "key", ...options }),
      RangeError,
    );
    for (const word of words) assertStringIncludes(message, word);
  };
  refuse({ whole: [99] }, "found layer 99, expected layers from 0 to 9");
  refuse({ whole: "auto" }, "without scores", "findRetrievalLayers()");
  refuse(
    { whole: [0, 1, 2], kvRatio: 0.75 },
    "3 of 10 layers",
    "at most 2 layers, or a kvRatio of at most 0.7",
  );
  refuse(
    { whole: [...loaded.model.config.layers ?? Array(10)].map((_, i) => i), kvRatio: 0.1 },
    "10 of 10 layers",
  );
  refuse({ side: "query", whole: [1] }, "keys and values have no rule of their own");
  assertThrows(() => resolveOptions({ whole: [1, 1] }), RangeError, "each once");
  assertThrows(() => resolveOptions({ whole: [0.5] }), RangeError, "a list of layers");
  assertThrows(
    () => resolveOptions({ whole: "all" as never }),
    RangeError,
    "none, auto, heads or a list of layers",
  );
});
