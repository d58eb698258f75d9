/** The whole model on the CUDA library: as the reference, and in a batch's recorded steps as token by token. */
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import {
  BatchDecoder,
  createPruner,
  f32Data,
  type HostTensor,
  hostTensor,
  Llama,
  type LlamaWeights,
  type ModelConfig,
  type Pruner,
  ReferenceBackend,
  scoreSequence,
  toF16,
  type TokenFilterOptions,
  uploadWeights,
} from "../../mod.ts";
import type { CudaBackend } from "./backend.ts";
import { testOnDevice } from "./testing.ts";

const CONFIG: ModelConfig = {
  numLayers: 3,
  numHeads: 4,
  numKvHeads: 2,
  headDim: 32,
  hiddenSize: 64,
  intermediateSize: 96,
  vocabSize: 131,
  ropeTheta: 10000,
  rmsNormEps: 1e-5,
  contextLength: 256,
  tieWordEmbeddings: false,
};

/** Weights of variance 1 / inputs, from a seed; the MLP's in f16. */
function randomWeights(): LlamaWeights<HostTensor> {
  let state = 7;
  const next = () => {
    let sum = -6;
    for (let i = 0; i < 12; i++) sum += (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
    return sum;
  };
  const values = (rows: number, cols: number) =>
    Float32Array.from({ length: rows * cols }, () => next() / Math.sqrt(cols));
  const f32 = (rows: number, cols: number) => hostTensor("f32", [rows, cols], values(rows, cols));
  const f16 = (rows: number, cols: number) =>
    hostTensor("f16", [rows, cols], Uint16Array.from(values(rows, cols), (x) => toF16(x)));
  const norm = (n: number) => hostTensor("f32", [n], Float32Array.from({ length: n }, () => 1 + next() / 10));
  const { numLayers, numHeads, numKvHeads, headDim, hiddenSize, intermediateSize, vocabSize } = CONFIG;
  return {
    embedding: f32(vocabSize, hiddenSize),
    layers: Array.from({ length: numLayers }, () => ({
      attnNorm: norm(hiddenSize),
      q: f32(numHeads * headDim, hiddenSize),
      k: f32(numKvHeads * headDim, hiddenSize),
      v: f32(numKvHeads * headDim, hiddenSize),
      o: f32(hiddenSize, numHeads * headDim),
      ffnNorm: norm(hiddenSize),
      gate: f16(intermediateSize, hiddenSize),
      up: f16(intermediateSize, hiddenSize),
      down: f16(hiddenSize, intermediateSize),
    })),
    outputNorm: norm(hiddenSize),
    output: f32(vocabSize, hiddenSize),
  };
}

const weights = randomWeights();
const truth = new Llama(CONFIG, weights, new ReferenceBackend());
const ids = (count: number, seed = 0) =>
  Int32Array.from({ length: count }, (_, i) => (i * i * 7 + i * 31 + seed * 17) % CONFIG.vocabSize);
const modelOn = (backend: CudaBackend) => new Llama(CONFIG, uploadWeights(weights, backend), backend);
const filtering = (options: TokenFilterOptions, backend?: CudaBackend): Pruner =>
  createPruner("token-filtering", CONFIG, { warmup: 8, tail: 1, ...options }, { backend });

const CASES: readonly TokenFilterOptions[] = [
  { fusion: "variance", recent: 0 },
  { fusion: "variance", recent: 5, keyState: "pre-rope" },
  { fusion: "learned", recent: 4, block: 8 },
  { fusion: "learned", recent: 3, block: 8, features: ["similarity", "norm", "query"] },
  { fusion: "mean", recent: 4, cacheSkipped: true, threshold: "robbins-monro" },
];
const words = (options: TokenFilterOptions) => JSON.stringify(options);

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
      const skipped = want.keep.reduce((sum, mask) => sum + mask.filter((kept) => kept === 0).length, 0);
      assert(skipped > 20, `${skipped} skipped`);
      const got = scoreSequence(modelOn(backend), tokens, filtering(options, backend), { chunk: 20 });
      got.keep.forEach((mask, i) => assertEquals([...mask], [...want.keep[i]!]));
      got.nll.forEach((loss, i) => assertAlmostEquals(loss, want.nll[i]!, 1e-4));
    },
  );

  testOnDevice(`BatchDecoder decides and scores as the reference: ${words(options)}`, (backend) => {
    const llama = modelOn(backend);
    const starts = [11, 20], steps = 17;
    const pruner = filtering(options, backend);
    const decoder = new BatchDecoder(llama, pruner, { batch: 3, capacity: 48 });
    const sequences = starts.map((start, i) => ({ slot: 2 * i, tokens: ids(start + steps, i), start }));
    for (const { slot, tokens, start } of sequences) {
      const prefill = llama.start(pruner);
      prefill.feed(tokens.slice(0, start));
      decoder.admit(slot, prefill);
    }
    const found = sequences.map(() => ({ keep: [] as number[][], logits: [] as Float32Array[] }));
    for (let step = 0; step < steps; step++) {
      const fed = new Int32Array(3).fill(99999); // what an idle slot is given is not looked at
      for (const { slot, tokens, start } of sequences) fed[slot] = tokens[start + step]!;
      const logits = f32Data(backend.read(decoder.step(fed)));
      const keep = decoder.keep();
      sequences.forEach(({ slot }, i) => {
        found[i]!.logits.push(logits.slice(slot * CONFIG.vocabSize, (slot + 1) * CONFIG.vocabSize));
        found[i]!.keep.push(Array.from({ length: CONFIG.numLayers }, (_, layer) => keep[3 * layer + slot]!));
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
        (_, step) => [0, 1, 2].map((layer) => sequence.keep.get(layer)![start + step]!),
      );
      assertEquals(found[i]!.keep, kept);
      assert(kept.flat().includes(0) && kept.flat().includes(1));
    });
  });
}

testOnDevice("BatchDecoder feeds its own likeliest tokens without the host", (backend) => {
  const llama = modelOn(backend);
  const decoder = new BatchDecoder(llama, undefined, { batch: 2, capacity: 24 });
  const prompts = [ids(6), ids(9, 3)];
  prompts.forEach((prompt, slot) => {
    const sequence = llama.start();
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
});

testOnDevice("BatchDecoder refuses what it cannot do, and a slot can be used again", (backend) => {
  const llama = modelOn(backend);
  const error = (work: () => void, says: string) => assertThrows(work, Error, says);
  error(() => new BatchDecoder(truth, undefined, { batch: 1, capacity: 8 }), 'on backend "reference"');
  error(() => new BatchDecoder(llama, undefined, { batch: 0, capacity: 8 }), "expected positive integers");
  error(
    () =>
      new BatchDecoder(llama, createPruner("oracle", CONFIG, { pruneRatio: 0.5 }), { batch: 1, capacity: 8 }),
    '"oracle"',
  );
  const decoder = new BatchDecoder(llama, undefined, { batch: 1, capacity: 8 });
  error(() => decoder.step(), "expected ids for the first step");
  const sequence = (count: number) => {
    const started = llama.start();
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
