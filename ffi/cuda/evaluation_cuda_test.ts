/** What tasks do with a model (perplexity, sweeps, head statistics, rules of one's own) on the CUDA library. */
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import type { Environment, RunConditions } from "../../lib/environment.ts";
import {
  encodeItem,
  type Item,
  ItemScorer,
  measureLengths,
  PerplexityEvaluation,
  type PerplexityTypes,
  requestOf,
  scoreSequence,
} from "../../lib/eval/mod.ts";
import { HeadCollection } from "../../lib/heads/mod.ts";
import {
  createCustomRule,
  createPruner,
  type MethodOptions,
  type Pruner,
  type ResolvedOptions,
  resolveOptions,
  type TokenScore,
} from "../../lib/methods/mod.ts";
import type { Model } from "../../lib/model/mod.ts";
import { listedTrials, runSweep, type Trial as AnyTrial } from "../../lib/sweep/mod.ts";
import { CONFIG, ids, modelOn, truth } from "./small_model/testing.ts";
import type { CudaBackend } from "./backend.ts";
import type { DeviceBuffer, DeviceTensor } from "./memory.ts";
import { testOnDevice } from "./testing.ts";

const TOKENS = ids(80), CONTEXT = 40;
const SMALL = { warmup: 8, tail: 1, pruneRatio: 0.4, recent: 3, block: 8 };

type Trial = AnyTrial<PerplexityTypes>;

/** Runs trials of a model, on the backend that the model is on. */
async function sweep(model: Model, methods: readonly ResolvedOptions[]): Promise<Trial[]> {
  const conditions = { model: "small" } as RunConditions;
  return await runSweep<PerplexityTypes>({
    source: await listedTrials(methods, conditions),
    evaluation: new PerplexityEvaluation(model, TOKENS, { context: CONTEXT }),
    createPruner: (method) => createPruner("token-filtering", CONFIG, method, { backend: model.backend }),
    conditions,
  });
}

testOnDevice("runSweep() on CUDA comes to the reference's trials", async (backend) => {
  const options: MethodOptions[] = [
    { fusion: "variance" },
    { fusion: "learned", tail: 0.6, pruneRatio: 0.3 },
    { fusion: "key", threshold: "topk" },
    { fusion: "oracle" },
  ];
  const methods = options.map((own) => resolveOptions({ ...SMALL, ...own }));
  const found = await sweep(modelOn(backend), methods), expected = await sweep(truth, methods);
  assertEquals(found.length, 4);
  for (const [i, want] of expected.entries()) {
    const got = found[i]!;
    assert(want.achievedRatio! > 0.2, `${want.fusion}: ${want.achievedRatio}`);
    for (const name of ["perplexity", "densePerplexity"] as const) {
      assertAlmostEquals(Math.log(got[name]), Math.log(want[name]), 1e-5);
    }
    assertAlmostEquals(got.kl, want.kl, 1e-5);
    assertAlmostEquals(got.nllDelta, want.nllDelta, 1e-5);
    for (
      const name of [
        ...["achievedRatio", "layerRatios", "kvBytesHeld", "kvBytesAvoided", "kvBytesAllocated"],
        ...["attentionFlopsAvoided", "totalFlopsDense", "top1Agreement", "scoredTokens"],
      ] as (keyof Trial)[]
    ) assertEquals(got[name], want[name], `${want.fusion}: ${name}`);
    assert(got.timeMs > 0 && got.denseTimeMs > 0);
  }
});

/** The backend, with the bytes of tensors that were made and not given back. */
function watched(backend: CudaBackend): { backend: CudaBackend; live: () => number } {
  const live = new Map<DeviceBuffer, number>();
  const proxy = new Proxy(backend, {
    get(target, name) {
      const value = Reflect.get(target, name, target);
      if (typeof value !== "function") return value;
      if (name === "free") {
        return (tensor: DeviceTensor) => (live.delete(tensor.buffer), target.free(tensor));
      }
      if (name !== "alloc" && name !== "upload" && name !== "resizeRows") return value.bind(target);
      return (...args: unknown[]) => {
        const made = value.apply(target, args) as DeviceTensor;
        live.set(made.buffer, made.buffer.bytes);
        return made;
      };
    },
  });
  return { backend: proxy, live: () => live.values().reduce((sum, bytes) => sum + bytes, 0) };
}

testOnDevice("evaluation on CUDA gives a sequence's memory back when it has ended", async (backend) => {
  const { backend: counted, live } = watched(backend);
  const model = modelOn(counted), evaluation = new PerplexityEvaluation(model, TOKENS, { context: CONTEXT });
  const pruner = createPruner("token-filtering", CONFIG, resolveOptions(SMALL), { backend: counted });
  await evaluation.run(pruner);
  const grown: number[] = [];
  for (
    const work of [
      () => evaluation.run(pruner),
      () => scoreSequence(model, TOKENS, pruner, { chunk: 20 }),
      () => new HeadCollection(model, TOKENS, { context: CONTEXT, filter: SMALL }).run(),
    ]
  ) {
    const before = live();
    await work();
    grown.push(live() - before);
  }
  const cache = 3 * 80 * 2 * 64 * 4; // of 80 tokens, dense: less than half of what one run computes with
  assertEquals(grown.map((bytes) => bytes < cache / 2), [true, true, true], `${grown} bytes of ${cache}`);
});

testOnDevice(
  "ItemScorer on CUDA finds what the reference finds, and goes on with the same text",
  (backend) => {
    const tokenizer = {
      bosId: undefined,
      encode: (text: string) => Int32Array.from(text, (c) => c.codePointAt(0)! % 130),
      decode: (ids: Int32Array) => ids.join(),
      endIds: new Set<number>(),
    };
    const of = (choice: string) => requestOf("A cat sat on the mat. The dog sat on the", choice);
    const item: Item = {
      ...{ id: "1", place: "here", requests: [of("mat"), of("cat.")], gold: 0, stream: 0 },
      sought: { answers: ["x"], maxTokens: 4 },
    };
    const encoded = encodeItem(tokenizer, item);
    const score = (model: Model) => {
      const pruner = createPruner("token-filtering", CONFIG, SMALL, { backend: model.backend });
      using dense = new ItemScorer(model);
      using filtered = new ItemScorer(model, () => pruner);
      return ItemScorer.scoreTogether([dense, filtered], encoded);
    };
    const { backend: counted, live } = watched(backend), model = modelOn(counted);
    const found = score(model), expected = score(truth), before = live();
    for (const [i, { logLikelihoods, generated, skips, usage }] of expected.entries()) {
      assertEquals([found[i]!.generated, found[i]!.skips, found[i]!.usage], [generated, skips, usage]);
      logLikelihoods.forEach((own, j) => assertAlmostEquals(found[i]!.logLikelihoods[j]!, own, 1e-3));
    }
    assert(expected[1]!.usage.queriesSkipped > 0);
    score(model);
    assert(live() - before < 30_000, `${live() - before} bytes are left`); // half the size of a context
  },
);

/** Describes heads of a model, on the backend that the model is on. */
async function describeHeads(model: Model) {
  const filter = { ...SMALL, pruneRatio: 0.3, tail: 0.6, features: ["similarity", "norm", "query"] as const };
  const heads = new HeadCollection(model, TOKENS, { context: CONTEXT, filter, bootstrap: { resamples: 20 } });
  await heads.run();
  const report = await heads.report(
    { model: "small" } as Environment,
    { fusion: "variance" },
    (own) => Array.from(own, String),
  );
  return { report, decisions: heads.decisions() };
}

testOnDevice("HeadCollection on CUDA measures what the reference measures", async (backend) => {
  const found = await describeHeads(modelOn(backend)), expected = await describeHeads(truth);
  assertEquals(found.decisions.rows, 2 * 80);
  let compared = 0;
  /** Equal but for the last digits of numbers; ranks of near-equal scores may swap. */
  const near = (got: unknown, want: unknown, path: string): void => {
    if (typeof want === "number" && typeof got === "number") {
      if (Number.isNaN(want)) assert(Number.isNaN(got), path);
      else assertAlmostEquals(got, want, 2e-3 * Math.max(1, Math.abs(want)), path);
      compared++;
    } else if (typeof want === "object" && want !== null) {
      assertEquals(Object.keys(got as object), Object.keys(want), path);
      for (const [key, value] of Object.entries(want)) {
        near((got as Record<string, unknown>)[key], value, `${path}.${key}`);
      }
    } else assertEquals(got, want, path);
  };
  near(found.decisions, expected.decisions, "decisions");
  near(found.report.layers, expected.report.layers, "layers");
  near(found.report.views, expected.report.views, "views");
  assert(compared > 2000, `${compared}`);
});

testOnDevice("createCustomRule() on CUDA reads the model's tensors through the backend", (backend) => {
  const rule: TokenScore = ({ muK, value, residual, normed, key }) =>
    muK + Math.hypot(...value) / (1 + Math.hypot(...residual)) - 0.1 * key[0]! * normed[1]!;
  const { warmup, tail, pruneRatio, recent } = SMALL;
  const own = (on?: typeof backend): Pruner =>
    createCustomRule(CONFIG, rule, { warmup, tail, pruneRatio, recent }, { backend: on });
  const want = scoreSequence(truth, TOKENS, own()),
    got = scoreSequence(modelOn(backend), TOKENS, own(backend));
  assert(want.keep.some((mask) => mask.includes(0)));
  assertEquals(got.keep, want.keep);
  got.nll.forEach((loss, i) => assertAlmostEquals(loss, want.nll[i]!, 1e-4));
});

testOnDevice(
  "measureLengths() on CUDA holds as many bytes as on the reference, and waits for the device",
  (backend) => {
    const measure = (model: Model) => {
      const method = resolveOptions({ ...SMALL, fusion: "variance" });
      const pruner = createPruner("token-filtering", CONFIG, method, { backend: model.backend });
      const methods = [{ name: "dense" }, { name: "half", pruner }];
      return measureLengths(model, TOKENS, methods, { lengths: [12, 24], turns: 1, decodes: 2 });
    };
    const found = measure(modelOn(backend)), expected = measure(truth);
    const bytes = (rows: typeof found) =>
      rows.map(({ name, tokens, kvBytesHeld, kvBytesDense }) => ({
        name,
        tokens,
        kvBytesHeld,
        kvBytesDense,
      }));
    assertEquals(bytes(found), bytes(expected));
    assert(found.every(({ prefillMs, decodeMs }) => prefillMs > 0 && decodeMs! > 0));
  },
);
