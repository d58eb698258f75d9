import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { fakeLogits, fakeModel, fakePruner } from "../testing.ts";
import { f32Data, hostTensor, type Tensor } from "../../tensor.ts";
import { type ChunkRecord, labelOf, type TaskData } from "../task.ts";
import { findTask, TASKS } from "./mod.ts";
import { PerplexityEvaluation } from "./perplexity.ts";

/** A clock that moves only when a test moves it. */
class FakeClock implements Disposable {
  readonly #now = performance.now;
  #time = 0;

  constructor() {
    performance.now = () => this.#time;
  }

  pass(ms: number): void {
    this.#time += ms;
  }

  [Symbol.dispose](): void {
    performance.now = this.#now;
  }
}

const ids = Int32Array.from({ length: 403 }, (_, i) => (i * i + 3 * i) % 5);
const logSoftmax = (logits: number[]) => {
  const total = Math.log(logits.reduce((sum, x) => sum + Math.exp(x), 0));
  return logits.map((x) => x - total);
};
const argmax = (values: number[]) => values.indexOf(Math.max(...values));
const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;

/** The protocol, written out: two chunks of 200, loss of each token but the first of its chunk. */
function byHand(skips: (t: number) => number) {
  const chunks = [0, 1].map((c) =>
    Array.from({ length: 199 }, (_, t) => {
      const id = ids[c * 200 + t]!, target = ids[c * 200 + t + 1]!;
      const dense = logSoftmax(fakeLogits(id, 0)), other = logSoftmax(fakeLogits(id, skips(t)));
      return {
        nll: -other[target]!,
        base: -dense[target]!,
        kl: dense.reduce((sum, p, v) => sum + Math.exp(p) * (p - other[v]!), 0),
        agree: argmax(dense) === argmax(other) ? 1 : 0,
      };
    })
  );
  const all = (key: "nll" | "base" | "kl" | "agree") =>
    mean(chunks.map((rows) => mean(rows.map((row) => row[key]))));
  return { nll: all("nll"), base: all("base"), kl: all("kl"), agree: all("agree"), chunks };
}

Deno.test("PerplexityEvaluation.dense() follows the protocol and runs once", async () => {
  const { model, calls } = fakeModel();
  const evaluation = new PerplexityEvaluation(model, ids, { context: 200 });
  const dense = await evaluation.dense();
  assertAlmostEquals(dense.nll, byHand(() => 0).base, 1e-6);
  assertAlmostEquals(dense.perplexity, Math.exp(dense.nll), 1e-12);
  assertEquals([dense.tokens, dense.scoredTokens, dense.chunks], [400, 398, 2]);
  assertEquals([dense.kvBytesHeld, dense.attentionFlops, dense.totalFlops], [8000, 40000, 120000]);
  const feeds = calls.feeds;
  assertEquals(await evaluation.dense(), dense);
  assertEquals(calls.feeds, feeds);
});

Deno.test("PerplexityEvaluation.run() compares the same positions of both runs", async () => {
  const { model, calls } = fakeModel();
  const evaluation = new PerplexityEvaluation(model, ids, { context: 200 });
  const skip = (t: number) => t >= 8 && t % 2 === 0;
  const result = await evaluation.run(fakePruner([2, 3], skip, { warmup: 8 }));
  const hand = byHand((t) => skip(t) ? 2 : 0);
  assertAlmostEquals(Math.log(result.perplexity), hand.nll, 1e-6);
  assertAlmostEquals(result.nllDelta, hand.nll - hand.base, 1e-6);
  assertAlmostEquals(result.kl, hand.kl, 1e-6);
  assert(result.kl > 1e-3);
  assertAlmostEquals(result.top1Agreement, hand.agree, 1e-12);
  assert(result.top1Agreement < 1);
  assertEquals(result.skipRatioPerLayer, [0, 0, 96 / 192, 96 / 192]);
  assertEquals(result.achievedRatio, 0.25);
  assertAlmostEquals(result.achievedRatioWithWarmup, 384 / 1600, 1e-12);
  assertEquals([result.kvBytesHeld, result.kvBytesAvoided], [8000 - 1920, 1920]);
  assertEquals(result.kvBytesAllocated, 64 * 200);
  assertEquals([result.attentionFlopsDense, result.attentionFlopsAvoided], [40000, 25 * 384]);
  assertEquals([result.totalFlopsDense, result.totalFlopsAvoided], [120000, 25 * 384]);
  assertEquals(calls.chunks, [0, 1]);
  // Standard error, from the definition: blocks of 64 inside each chunk of 199.
  const differences = hand.chunks.map((rows) => rows.map((row) => row.nll - row.base));
  const blocks = differences.flatMap((row) => [0, 64, 128, 192].map((at) => row.slice(at, at + 64)));
  const centre = mean(differences.flat());
  const squares = blocks.reduce((sum, block) => sum + (block.reduce((a, b) => a + b - centre, 0)) ** 2, 0);
  assertAlmostEquals(result.nllDeltaSe!, Math.sqrt(squares * 8 / 7) / 398, 1e-6);
});

Deno.test("PerplexityEvaluation.run() equals the full model when nothing is skipped", async () => {
  const { model } = fakeModel();
  const evaluation = new PerplexityEvaluation(model, ids, { context: 200 });
  const result = await evaluation.run(fakePruner([1], () => false));
  assertEquals([result.nllDelta, result.achievedRatio, result.top1Agreement], [0, 0, 1]);
  assertAlmostEquals(result.kl, 0, 1e-12);
  assertAlmostEquals(result.perplexity, result.densePerplexity, 1e-9);
});

Deno.test("PerplexityEvaluation.run() reuses the dense layers, and recomputes them past its byte budget", async () => {
  const results = [];
  for (const [cacheBytes, residuals] of [[2 ** 20, 2], [0, 4]] as const) {
    const { model, calls } = fakeModel();
    const evaluation = new PerplexityEvaluation(model, ids, { context: 200, cacheBytes });
    for (let i = 0; i < 2; i++) {
      const { timeMs: _, denseTimeMs: __, ...rest } = await evaluation.run(
        fakePruner([2], (t) => t % 3 === 2),
      );
      results.push(rest);
    }
    assertEquals([calls.residuals, calls.fromResidual], [residuals, 4]);
  }
  for (const result of results) assertEquals(result, results[0]);
});

Deno.test("PerplexityEvaluation computes the dense logits once where they fit, and else for each run, to equal results", async () => {
  const results = [];
  // Two chunks of 199 scored rows, in blocks of 128: four products a pass.
  for (const [cacheBytes, products] of [[2 ** 20, 4 + 4 + 4], [0, 4 + 8 + 8]] as const) {
    const { model } = fakeModel();
    let asked = 0;
    const counted = { ...model, logits: (hidden: Tensor) => (asked++, model.logits(hidden)) };
    const evaluation = new PerplexityEvaluation(counted, ids, { context: 200, cacheBytes });
    for (let i = 0; i < 2; i++) {
      const { kl, nllDelta } = await evaluation.run(fakePruner([2], (t) => t % 3 === 2));
      results.push({ kl, nllDelta });
    }
    assertEquals(asked, products);
  }
  for (const result of results) assertEquals(result, results[0]);
});

Deno.test("PerplexityEvaluation computes the dense logits of a chunk once for all runs that take turns", async () => {
  const { model } = fakeModel();
  let asked = 0;
  const counted = { ...model, logits: (hidden: Tensor) => (asked++, model.logits(hidden)) };
  const bytes = 2 * 200 * 5 * 4 + 199 * 5 * 4; // the states of both chunks, and the logits of one
  const evaluation = new PerplexityEvaluation(counted, ids, { context: 200, cacheBytes: bytes });
  const filter = fakePruner([0], (t) => t % 3 === 2), run = () => evaluation.run(filter);
  const { kl } = await run();
  assertEquals(asked, 4 + 4 + 2); // two products per chunk; the first chunk's logits are kept
  const results = await Promise.all([run(), run(), run(), run()]);
  assertEquals(asked, 10 + 4 * 4 + 2); // the second chunk's replace them
  for (const result of results) assertEquals(result.kl, kl);
});

Deno.test("PerplexityEvaluation.run() counts the time of the dense layers once, however often they run", async () => {
  using clock = new FakeClock();
  for (const cacheBytes of [2 ** 20, 0]) {
    const { model } = fakeModel();
    const residualAt: typeof model.residualAt = (...args) => {
      clock.pass(100);
      return model.residualAt(...args);
    };
    const start: typeof model.start = (...args) => {
      const sequence = model.start(...args);
      return {
        ...sequence,
        get keep() {
          return sequence.keep;
        },
        feed: (x) => (clock.pass(7), sequence.feed(x)),
        feedResidual: (...x) => (clock.pass(3), sequence.feedResidual(...x)),
      };
    };
    const open = () =>
      new PerplexityEvaluation({ ...model, residualAt, start }, ids, { context: 200, cacheBytes });
    // Also for chunks that another process has finished.
    const first: ChunkRecord[] = [], pruner = fakePruner([2], () => false);
    await open().run(pruner, { onRecord: (record) => first.push(record) });
    const finished = new Map(first.slice(0, 1).map((record) => [record.chunk, record]));
    assertEquals((await open().run(pruner, { finished })).timeMs, 2 * 100 + 2 * 3);
    const evaluation = open();
    for (let i = 0; i < 2; i++) {
      const result = await evaluation.run(fakePruner([2], () => false));
      assertEquals([result.timeMs, result.denseTimeMs], [2 * 100 + 2 * 3, 2 * 7]);
    }
    assertEquals((await evaluation.run(fakePruner([0], () => false))).timeMs, 2 * 7);
  }
});

Deno.test("PerplexityEvaluation.dense() stops between chunks when its signal is aborted", async () => {
  const { model } = fakeModel();
  const evaluation = new PerplexityEvaluation(model, ids, { context: 40 });
  const controller = new AbortController();
  let chunks = 0;
  const onChunk = () => ++chunks === 2 && controller.abort();
  await assertRejects(() => evaluation.dense({ signal: controller.signal, onChunk }), DOMException);
  assertEquals(chunks, 2);
  assertEquals((await evaluation.dense()).chunks, 10);
});

Deno.test("PerplexityEvaluation.run() stops between chunks when its signal is aborted", async () => {
  const { model } = fakeModel();
  const evaluation = new PerplexityEvaluation(model, ids, { context: 40 });
  await evaluation.dense();
  const controller = new AbortController();
  const seen: number[] = [];
  const onChunk = (done: number, total: number) => {
    seen.push(done);
    assertEquals(total, 10);
    if (done === 3) controller.abort();
  };
  await assertRejects(
    () => evaluation.run(fakePruner([2], () => false), { signal: controller.signal, onChunk }),
    DOMException,
  );
  assertEquals(seen, [1, 2, 3]);
});

Deno.test("PerplexityEvaluation.dense() refuses a model whose losses are no numbers", async () => {
  const { model } = fakeModel();
  const logits = (hidden: Tensor) => hostTensor("f32", hidden.shape, f32Data(hidden).map(() => NaN));
  const evaluation = new PerplexityEvaluation({ ...model, logits }, ids, { context: 200 });
  await assertRejects(() => evaluation.dense(), RangeError, "mean loss of NaN");
});

Deno.test("PerplexityEvaluation() refuses a text shorter than its context", () => {
  const { model } = fakeModel();
  assertThrows(() => new PerplexityEvaluation(model, ids), RangeError, "a text of 403 tokens");
});

const dataWith = (context: number, tokenizer: object, own = ids): TaskData => ({
  ...{ ids: own, text: "", context },
  tokenizer: tokenizer as TaskData["tokenizer"],
});

/** Dense losses of a chunk's tokens but the first. */
const lossesOf = (chunk: Int32Array) =>
  Array.from(chunk.subarray(1), (target, t) => -logSoftmax(fakeLogits(chunk[t]!, 0))[target]!);

Deno.test("llama.cpp's perplexity: the tokens behind the middle of each chunk, each begun with BOS", async () => {
  const task = findTask("perplexity_llama_cpp"), { model } = fakeModel();
  for (
    const [tokenizer, bos] of [[{ addsBos: false }, undefined], [{ addsBos: true, bosId: 4 }, 4]] as const
  ) {
    const chunks = [0, 1].map((c) => {
      const chunk = ids.slice(c * 200, (c + 1) * 200);
      if (bos !== undefined) chunk[0] = bos;
      return chunk;
    });
    // The hundredth of 200 tokens is the first whose logits count: 99 losses.
    const scored = chunks.flatMap((chunk) => lossesOf(chunk).slice(100));
    assertEquals(scored.length, 2 * 99);
    const seen: number[] = [];
    const evaluation = task.open(model, dataWith(200, tokenizer));
    const dense = await evaluation.dense({ onLosses: (_, losses) => seen.push(...losses) });
    seen.forEach((loss, i) => assertAlmostEquals(loss, scored[i]!, 1e-6));
    assertAlmostEquals((dense as unknown as { perplexity: number }).perplexity, Math.exp(mean(scored)), 1e-5);
    assertEquals([dense.scoredTokens, dense.tokens, seen.length], [198, 400, 198]);
    const metrics: Float64Array[] = [];
    const run = await evaluation.run(fakePruner([2], (t) => t === 150), {
      onLosses: (_, _own, _dense, { kl }) => metrics.push(kl!),
    });
    assertEquals([run.scoredTokens, metrics.map(({ length }) => length)], [198, [99, 99]]);
  }
  assertThrows(
    () => task.open(model, dataWith(201, {})),
    RangeError,
    "Cannot cut chunks of 201 tokens in halves",
  );
  assertThrows(
    () => task.open(model, dataWith(202, {})),
    RangeError,
    "expected at least two contexts of 202 tokens",
  );
  // The BOS replaced the first token only in the chunk, not in the ids that were given.
  assertEquals(ids[200], (200 * 200 + 600) % 5);
});

Deno.test("perplexity with BOS: every chunk is BOS and the tokens behind the last chunk's", async () => {
  const task = findTask("perplexity_bos"), { model } = fakeModel();
  for (
    const [tokenizer, own] of [
      [{ addsBos: false, bosId: 4 }, ids],
      [{ addsBos: true, bosId: 4 }, Int32Array.of(4, ...ids)],
    ] as const
  ) {
    const chunks = [0, 1].map((c) => Int32Array.of(4, ...ids.subarray(c * 199, (c + 1) * 199)));
    const seen: number[] = [];
    const evaluation = task.open(model, dataWith(200, tokenizer, own));
    const dense = await evaluation.dense({ onLosses: (_, losses) => seen.push(...losses) });
    const scored = chunks.flatMap(lossesOf);
    assertEquals([seen.length, dense.scoredTokens, dense.tokens], [398, 398, 400]);
    seen.forEach((loss, i) => assertAlmostEquals(loss, scored[i]!, 1e-6));
  }
  assertThrows(
    () => task.open(model, dataWith(200, { addsBos: false })),
    RangeError,
    "the tokenizer has none",
  );
  assertThrows(() => task.open(model, dataWith(2, { bosId: 4 })), RangeError, "chunks of 2 tokens");
  assertThrows(() => task.open(model, dataWith(500, { bosId: 4 })), RangeError, "a text of 403 tokens");
});

Deno.test("perplexity of a stream: one chunk, whatever the context", async () => {
  const { model } = fakeModel(), own = ids.slice(0, 150);
  const dense = await findTask("perplexity_streaming").open(model, dataWith(40, {}, own)).dense();
  assertAlmostEquals(
    (dense as unknown as { perplexity: number }).perplexity,
    Math.exp(mean(lossesOf(own))),
    1e-5,
  );
  assertEquals([dense.chunks, dense.scoredTokens, dense.context], [1, 149, 150]);
});

Deno.test("every protocol has a label of its own, the paper's too", () => {
  const texts = TASKS.filter(({ items }) => items === undefined);
  const labels = texts.flatMap((task) => [128, 2048].map((context) => labelOf(task, context)));
  assertEquals(labels, [
    "GPTQ style at 128 (as in the paper)",
    "GPTQ style at 2048",
    "BOS in every chunk of 128",
    "BOS in every chunk of 2048",
    "llama.cpp at 128",
    "llama.cpp at 2048",
    "streaming over 128",
    "streaming over 2048",
    "lm-eval word perplexity at 128",
    "lm-eval word perplexity at 2048",
  ]);
  assertEquals(labelOf({ name: "toy" }, 64), "toy at 64");
  assertEquals(labelOf(findTask("piqa"), 64), "piqa, by items");
});
