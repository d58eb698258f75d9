import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { ChunkEvaluation, type ChunkScorer } from "./chunk_evaluation.ts";
import type { ChunkRecord, DenseTaskResult, RunControl } from "../task.ts";
import { fakeModel, fakePruner } from "../testing.ts";
import { f32Data } from "../../tensor.ts";

const task = {
  metrics: [],
  loss: { name: "error", label: "error", unit: "errors", of: "item" },
  headline: {
    name: "accuracy",
    label: "acc",
    help: "fraction of items answered",
    better: "higher" as const,
    digits: 1,
    percent: true,
    fromLoss: (loss: number) => 1 - loss,
    formula: "1 - the mean loss",
  },
};

Deno.test("ChunkEvaluation runs items of any length with a loss each, in the task's own names", async () => {
  const { model } = fakeModel();
  const items = [12, 20, 30, 9].map((length) => Int32Array.from({ length }, (_, i) => i % 5));
  // The dense pass comes first: items 0 and 2 are answered dense; the filtered model loses only item 2.
  const answers = [0, 1, 0, 1, 0, 1, 1, 1];
  const asked: number[] = [];
  const scorer: ChunkScorer = {
    score(_, ids, hidden, chunk) {
      assertEquals([ids, hidden.shape[0]], [items[chunk], items[chunk]!.length]);
      asked.push(chunk);
      return Float64Array.of(answers[asked.length - 1]!);
    },
  };
  const evaluation = new ChunkEvaluation(task, model, items, scorer);
  const calls: [number, number[], number[]][] = [];
  const onLosses = (chunk: number, own: Float64Array, dense: Float64Array) =>
    void calls.push([chunk, [...own], [...dense]]);
  const dense: object = await evaluation.dense({ onLosses });
  const sizes = [1, 1, 1, 1];
  const {
    timeMs: _,
    kvBytesHeld: __,
    kvBytesAllocated: _____,
    attentionFlops: ___,
    totalFlops: ____,
    lossBlocks,
    ...counted
  } = dense as DenseTaskResult;
  assertEquals(lossBlocks, { sums: [0, 1, 0, 1], sizes });
  assertEquals<object>(counted, {
    accuracy: 0.5,
    error: 0.5,
    tokens: 71,
    scoredTokens: 4,
    chunks: 4,
    context: 30,
  });
  assertEquals(calls.splice(0), [[0, [0], [0]], [1, [1], [1]], [2, [0], [0]], [3, [1], [1]]]);

  const result = await evaluation.run(fakePruner([2], (t) => t === 10, { warmup: 4 }), { onLosses });
  assertEquals(result.lossBlocks, { sums: [0, 1, 1, 1], sizes });
  const own = result as unknown as { [name: string]: number };
  assertEquals([own.accuracy, own.denseAccuracy, own.errorDelta], [0.25, 0.5, 0.25]);
  // Four blocks of one: sqrt(4/3 * (3 * 0.25^2 + 0.75^2)) / 4.
  assertAlmostEquals(own.errorDeltaSe!, Math.sqrt(4 / 3 * 0.75) / 4, 1e-12);
  assertEquals(calls, [[0, [0], [0]], [1, [1], [1]], [2, [1], [0]], [3, [1], [1]]]);
  assertEquals([asked, result.tokens, result.scoredTokens], [[0, 1, 2, 3, 0, 1, 2, 3], 71, 4]);
  // One token of each of the three items that are long enough, in one of the model's layers.
  assertAlmostEquals(result.skipRatioPerLayer[2]!, 3 / (71 - 4 * 4), 1e-12);
});

Deno.test("ChunkEvaluation waits for a device after every feed that it times", async () => {
  const { model, calls } = fakeModel();
  const chunks = [Int32Array.of(1, 2, 3), Int32Array.of(3, 2, 1)], fed: number[] = [];
  const synchronize = () => void fed.push(calls.feeds + calls.fromResidual);
  Object.assign(model.backend, { synchronize });
  const evaluation = new ChunkEvaluation(task, model, chunks, { score: () => Float64Array.of(0) });
  await evaluation.dense(); // the first feed is not timed
  assertEquals(fed.splice(0), [2, 3]);
  await evaluation.run(fakePruner([0], () => false));
  await evaluation.run(fakePruner([2], () => false));
  assertEquals(fed, [4, 5, 5, 6, 6, 7]); // the residual streams that enter layer 2 too
});

Deno.test("ChunkEvaluation lets timers run between chunks, of the dense pass and of a pruner's", async () => {
  // Half as long again as it may take until a turn is sure to see the timer.
  const chunks = Array.from({ length: 100 }, () => Int32Array.of(1, 2, 3));
  const scorer: ChunkScorer = {
    score() {
      for (const begin = performance.now(); performance.now() < begin + 3;);
      return Float64Array.of(0);
    },
  };
  const evaluation = new ChunkEvaluation(task, fakeModel().model, chunks, scorer);
  const passes = [
    (control: RunControl) => evaluation.dense(control),
    (control: RunControl) => evaluation.run(fakePruner([2], () => false), control),
  ];
  for (const pass of passes) {
    const stop = new AbortController();
    let done = 0;
    const onChunk = () => ++done === 1 && setTimeout(() => stop.abort(new Error("enough")), 0);
    await assertRejects(() => pass({ signal: stop.signal, onChunk }), Error, "enough");
    assert(done < chunks.length);
    await evaluation.dense();
  }
});

Deno.test("ChunkEvaluation.dense() refuses chunks with unlike many losses", async () => {
  const chunks = [new Int32Array(3), new Int32Array(4)];
  const scorer: ChunkScorer = { score: (_, ids) => new Float64Array(ids.length) };
  const evaluation = new ChunkEvaluation(task, fakeModel().model, chunks, scorer);
  await assertRejects(
    () => evaluation.dense(),
    RangeError,
    "found chunks of 3, 4 losses, expected as many in each",
  );
});

Deno.test("ChunkEvaluation reads chunks in the order that is asked for, and gives the same result", async () => {
  const chunks = Array.from({ length: 4 }, (_, i) => Int32Array.of(i, 2, (i * 3) % 5, 1));
  const scorer: ChunkScorer = {
    score: (_, ids, hidden) => Float64Array.from(ids, (id, t) => f32Data(hidden)[t * 5 + id]!),
  };
  const run = async (order?: readonly number[]) => {
    const evaluation = new ChunkEvaluation(task, fakeModel().model, chunks, scorer), read: number[] = [];
    const onLosses = (chunk: number) => void read.push(chunk);
    const result = await evaluation.run(fakePruner([1, 2], (t) => t % 2 === 1), { order, onLosses });
    return { read, result: { ...result, timeMs: 0, denseTimeMs: 0 } };
  };
  const { read, result } = await run([2, 0, 3, 1]);
  assertEquals(read, [2, 0, 3, 1]);
  assertEquals(result, (await run()).result);
});

Deno.test("ChunkEvaluation writes no chunk down whose perplexity is no finite number: it would be read as another", async () => {
  for (const loss of [NaN, Infinity, 710]) { // e^710 exceeds the greatest f64
    const chunks = [Int32Array.of(1, 2), Int32Array.of(3, 4)], { model } = fakeModel();
    let asked = 0;
    const scorer: ChunkScorer = { score: () => Float64Array.of(++asked === 4 ? loss : 1) };
    const evaluation = new ChunkEvaluation(task, model, chunks, scorer), records: number[] = [];
    const run = () =>
      evaluation.run(fakePruner([1], () => false), { onRecord: ({ chunk }) => records.push(chunk) });
    await assertRejects(run, RangeError, `found a mean loss of ${loss}, expected one of a finite perplexity`);
    assertEquals(records, [0]);
  }
});

Deno.test("ChunkEvaluation takes chunks that were finished before as they were written down, and computes no other twice", async () => {
  const chunks = Array.from({ length: 4 }, (_, i) => Int32Array.of(i, 2, (i * 3) % 5, 1));
  const scorer: ChunkScorer = {
    score: (_, ids, hidden) => Float64Array.from(ids, (id, t) => Math.exp(f32Data(hidden)[t * 5 + id]!)),
  };
  const pruner = fakePruner([1, 2], (t) => t % 2 === 1);
  const pass = async (finished: readonly ChunkRecord[][] = [[], []], stopAfter = Infinity) => {
    const { model, calls } = fakeModel(), records: ChunkRecord[][] = finished.map((own) => [...own]);
    const evaluation = new ChunkEvaluation(task, model, chunks, scorer), stop = new AbortController();
    const control = (run: number): RunControl => ({
      signal: stop.signal,
      finished: new Map(finished[run]!.map((record) => [record.chunk, record])),
      onRecord: (record) => {
        records[run]!.push(JSON.parse(JSON.stringify(record)));
        if (records.flat().length === stopAfter) stop.abort(new Error("enough"));
      },
    });
    const run = async () => [await evaluation.dense(control(0)), await evaluation.run(pruner, control(1))];
    const results = await run().catch((error) => error);
    return { results, records, feeds: calls.feeds + calls.fromResidual };
  };
  const whole = await pass(), broken = await pass(undefined, 6);
  assertEquals([broken.results.message, broken.records.map(({ length }) => length)], ["enough", [4, 2]]);
  const resumed = await pass(broken.records);
  const bare = (results: object) =>
    JSON.stringify(results, (key, value) => /timeMs$/i.test(key) ? undefined : value);
  assertEquals(bare(resumed.results), bare(whole.results));
  assertEquals([whole.feeds, resumed.feeds], [9, 2]); // one is not timed
  assertEquals((await pass(resumed.records)).feeds, 0);
});

Deno.test("a result says which layers were whole, and no other one does", async () => {
  const { model } = fakeModel(),
    pruner = fakePruner([1], () => false),
    chunks = [Int32Array.of(1, 2, 3), Int32Array.of(3, 2, 1)];
  const scorer: ChunkScorer = { score: (_, ids) => new Float64Array(ids.length) };
  const evaluation = new ChunkEvaluation(task, model, chunks, scorer);
  const side = { layers: [1], needs: [], at: "arrival" as const, start: () => pruner.start() as never };
  const found = async (keySide: object) =>
    (await evaluation.run({ ...pruner, keySide: { ...side, ...keySide } })).wholeLayers;
  assertEquals([await found({ whole: [0, 3] }), await found({})], [[0, 3], undefined]);
  assertEquals((await evaluation.run(() => ({ ...pruner, keySide: { ...side, whole: [2] } }))).wholeLayers, [
    2,
  ]);
  const heads = new Map([[1, { whole: [0, 2], others: [1] }]]);
  const { wholeLayers, wholeHeads } = await evaluation.run({ ...pruner, keySide: { ...side, heads } });
  assertEquals([wholeLayers, wholeHeads], [undefined, ["1.0", "1.2"]]);
  assertEquals("wholeLayers" in await evaluation.run(pruner), false);
});
