import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertMatch,
  assertRejects,
  assertThrows,
} from "@std/assert";
import { PerplexityEvaluation } from "../../eval/tasks/perplexity.ts";
import { fakeModel, fakePruner } from "../../eval/testing.ts";
import type { Evaluation } from "../../eval/task.ts";
import type { PerplexityTypes } from "../../eval/tasks/mod.ts";
import { COMPARED_METHODS, comparedMethods, type NamedMethod, OTHER_METHODS } from "./compared_methods.ts";
import { compareMethods } from "./comparison.ts";
import type { ComparedChunk } from "./method_runs.ts";
import type { Environment } from "../trial.ts";
import type { MethodOptions, ResolvedOptions } from "../../methods/mod.ts";

const environment = { model: "fake" } as Environment;
const names = ["random", "key", "oracle", "learned"];
/** All skip a quarter: the oracle one layer of every token, random all four of every fourth token, which costs most. */
const LAYERS: { readonly [name: string]: number } = { oracle: 1, learned: 2, variance: 2, key: 3 };
const createPruner = ({ fusion, seed }: ResolvedOptions) => {
  const layers = LAYERS[fusion] ?? 4,
    shift = Number(seed) + (fusion === "random-protected" ? 2 : 0);
  return fakePruner([0, 1, 2, 3].slice(0, layers), (t) => t >= 10 && (t + shift) % layers === 0, {
    warmup: 10,
  });
};

function setUp() {
  const ids = Int32Array.from({ length: 320 }, (_, i) => (i * i + i) % 5);
  const evaluation = new PerplexityEvaluation(fakeModel().model, ids, { context: 100 });
  const methods = comparedMethods(names, { pruneRatio: 0.25, warmup: 10 }, 2);
  return { evaluation, methods, createPruner, environment };
}

Deno.test("comparedMethods() gives all the same options", () => {
  const methods = comparedMethods(["random", "variance inverted", "mean"], { recent: 8, seed: 3, tau: 2 }, 2);
  assertEquals(
    methods.map(({ name, options }) => [name, options.fusion, options.invert, options.recent, options.seed]),
    [
      ["random", "random", false, 8, 3n],
      ["random", "random", false, 8, 4n],
      ["variance inverted", "variance", true, 8, 3n],
      ["mean", "mean", false, 8, 3n],
    ],
  );
  assertThrows(
    () => comparedMethods(["magic"]),
    RangeError,
    'Cannot compare "magic": expected some of variance, variance inverted, paper',
  );
  assertThrows(() => comparedMethods(["snapkw"]), RangeError, 'the nearest is "snapkv"');
  assertThrows(() => comparedMethods(["key"], {}, 0), RangeError, "0 seeds");
});

function raise(error: Error): never {
  throw error;
}

const named = (names: string[], base: MethodOptions = {}) =>
  comparedMethods(names, base, 1).map(({ name, options }) => {
    const { fusion, recent, invert, kvFusion, threshold, warmup } = options;
    return [name, fusion, recent, warmup, invert, kvFusion, threshold].join();
  });

Deno.test("comparedMethods() runs all at one warm-up and window: as given, else the widest that one of them brings", () => {
  // A single preset keeps its own settings, and next to others all have the widest.
  assertEquals(named(["paper", "random"]), [
    "paper,variance,0,32,false,same,budget",
    "random,random,0,32,false,same,budget",
  ]);
  const spans = (names: string[], base: MethodOptions = {}) =>
    comparedMethods(names, base, 1).map(({ name, options: { warmup, recent } }) =>
      `${name} ${warmup} ${recent}`
    );
  assertEquals(spans(["paper", "keys", "snapkv", "random"]), [
    ...["paper 64 32", "keys 64 32", "snapkv 64 32", "random 64 32", "random for keys 64 32"],
  ]);
  assertEquals(spans(["local", "keys", "mean"]), ["local 128 96", "keys 128 96", "mean 128 96"]);
  assertEquals(spans(["keys", "snapkv"], { warmup: 8, recent: 4 }), ["keys 8 4", "snapkv 8 4"]);
  // Controls bring none, nor do methods that have no window.
  assertEquals(spans(["random", "paper", "shortgpt"]).slice(0, 2), ["random 32 0", "paper 32 0"]);
  // At one window the paper's preset is its rule: it runs once.
  assertEquals(spans(["variance", "paper", "random"]), ["variance 32 16", "random 32 16"]);
  assertEquals(comparedMethods(["variance", "paper"])[0]!.same, ["paper"]);
});

Deno.test("comparedMethods() gives every control the side, schedule and cache of each method", () => {
  const all = ["keys", "mean", "random-protected", "oracle"];
  assertEquals(named(all, { threshold: "window" }), [
    "keys,variance,32,64,false,variance,window",
    "mean,mean,32,64,false,same,window",
    "random-protected,random-protected,32,64,false,same,window",
    "random-protected for keys,random-protected,32,64,false,random-protected,window",
    "oracle,oracle,32,64,false,same,window",
  ]);
  // Keys and values have a random baseline of their own, and no oracle; a rule of theirs next to one of queries is a cache policy.
  const oracle = comparedMethods(["local", "random", "oracle"]).filter(({ name }) =>
    name === "oracle for local"
  );
  assertEquals(oracle.map(({ options }) => [options.schedule, options.substitute]), [["uniform", "local"]]);
  const random = comparedMethods(["local", "random"], {}, 1).find(({ name }) => name === "random for local");
  assertEquals([random?.options.schedule, random?.options.kvFusion], ["allocated", "missed"]);
  assertEquals(named(["keys", "random"]).slice(1), ["random for keys,random,32,64,false,random,budget"]);
  assertEquals(named(["random"]), ["random,random,16,32,false,same,budget"]);
  assertEquals(named(["mean", "random"], { kvFusion: "knorm" }), [
    "mean,mean,16,32,false,knorm,budget",
    "random,random,16,32,false,knorm,budget",
  ]);
  assertEquals(named(["oracle", "oracle"]), ["oracle,oracle,16,32,false,same,budget"]);
  const last = comparedMethods(["random"], { seed: 2n ** 64n - 1n }, 2).map(({ options }) => options.seed);
  assertEquals(last, [2n ** 64n - 1n, 0n]);
});

Deno.test("comparedMethods() includes evictions, each on the key side only, with random baselines", () => {
  const base = { pruneRatio: 0.3, warmup: 8, tail: 1 };
  const named = comparedMethods(["h2o", "cur", "random"], base, 1).map(({ name, options }) => {
    const { kvFusion, kvRatio, pruneRatio, warmup } = options;
    return [name, kvFusion, kvRatio, pruneRatio, warmup].join();
  });
  assertEquals(named, ["h2o,h2o,0.3,0,8", "cur,cur,0.3,0,8", "random for h2o,random,0.3,0,8"]);
  assertEquals(OTHER_METHODS.filter((name) => COMPARED_METHODS.includes(name)), []);
  assert(OTHER_METHODS.length > 10);
});

Deno.test("comparedMethods() leaves a preset its sides, whatever the others do with keys and values", () => {
  const presets = ["keys", "local"], alone = comparedMethods(presets, { pruneRatio: 0.3 }, 1);
  for (const base of [{ cacheSkipped: true }, { kvFusion: "none" }, { side: "query" }] as const) {
    const spans = { warmup: 64, recent: 32 };
    const methods = comparedMethods(COMPARED_METHODS, { pruneRatio: 0.3, ...base, ...spans }, 1);
    for (const { name, options } of alone) {
      assertEquals(methods.find((method) => method.name === name)!.options, { ...options, ...spans });
    }
    assertEquals(methods.find(({ name }) => name === "learned")!.options.kvFusion, "none");
  }
});

Deno.test("compareMethods() averages seeds, and its differences are those of the evaluation", async () => {
  const { evaluation, methods } = setUp();
  const { methods: rows, intervals } = await compareMethods(setUp());
  assertEquals(intervals, { confidence: 0.95, blockSize: 64, resamples: 2000, seed: 0 });
  assertEquals(rows[0]!.name, "dense");
  assertEquals(
    rows.slice(1).map(({ loss }) => loss),
    rows.slice(1).map(({ loss }) => loss).sort((a, b) => a - b),
  );
  const row = (name: string) => rows.find((row) => row.name === name)!;
  assertEquals(names.map((name) => row(name).seeds), [2, 1, 1, 1]);
  const labels = "no calibration, query-agnostic, prefill and decode, not trained";
  assertEquals(["dense", "key", "oracle"].map((name) => row(name).labels), [
    ...[null, labels, "no calibration, query-agnostic, prefill alone, not trained"],
  ]);
  for (const name of names) {
    const runs = await Promise.all(
      methods.filter((method) => method.name === name).map(({ options }) =>
        evaluation.run(createPruner(options))
      ),
    );
    const delta = runs.reduce((sum, run) => sum + run.nllDelta, 0) / runs.length;
    const { lossIncrease, loss, seedLosses, achievedRatio, kvAchievedRatio } = row(name);
    assertEquals(kvAchievedRatio, null);
    assertAlmostEquals(lossIncrease!.estimate, delta, 1e-12);
    assertAlmostEquals(loss, rows[0]!.loss + delta, 1e-12);
    assert(lossIncrease!.low < delta && delta < lossIncrease!.high);
    assert(
      seedLosses[0] <= loss && loss <= seedLosses[1] &&
        (seedLosses[0] < seedLosses[1]) === (name === "random"),
    );
    assertAlmostEquals(
      achievedRatio!,
      runs.reduce((sum, run) => sum + run.achievedRatio!, 0) / runs.length,
      1e-12,
    );
    const { skipRatioPerLayer, dropRatioPerLayer, kvBytesHeld, kvBytesAllocated, timeMs } = row(name);
    skipRatioPerLayer!.forEach((ratio, layer) => {
      const each = runs.map((run) => run.skipRatioPerLayer[layer]!);
      assertAlmostEquals(ratio!, each.reduce((a, b) => a + b, 0) / each.length, 1e-12);
    });
    assertEquals([dropRatioPerLayer, kvBytesHeld! < kvBytesAllocated!, timeMs! > 0], [undefined, true, true]);
  }
  const [random, oracle, learned] = ["random", "oracle", "learned"].map((name) => row(name).loss);
  assertAlmostEquals(row("learned").closed!.estimate, (random! - learned!) / (random! - oracle!), 1e-9);
  assertAlmostEquals(row("key").toRandom!.estimate, row("key").loss - random!, 1e-12);
  assertEquals([rows[0]!.lossIncrease, row("random").toRandom, row("random").closed, row("oracle").closed], [
    null,
    null,
    null,
    null,
  ]);
});

Deno.test("compareMethods() compares every method with the controls that have its own options, and with no other", async () => {
  const base = { pruneRatio: 0.25, warmup: 10 };
  const compare = async (methods: NamedMethod[]) => {
    const { methods: rows } = await compareMethods({ ...setUp(), methods, resamples: 50 });
    return (name: string) => rows.find((method) => method.name === name)!;
  };
  const row = await compare(comparedMethods(["key", "random", "random-protected", "oracle"], base, 2));
  const [own, random, fair, oracle] = ["key", "random", "random-protected", "oracle"].map(row);
  assertAlmostEquals(own!.toRandom!.estimate, own!.loss - random!.loss, 1e-12);
  assertAlmostEquals(own!.toProtected!.estimate, own!.loss - fair!.loss, 1e-12);
  const share = (random!.loss - own!.loss) / (random!.loss - oracle!.loss);
  assertAlmostEquals(own!.closed!.estimate, share, 1e-9);
  assertAlmostEquals(fair!.toRandom!.estimate, fair!.loss - random!.loss, 1e-12);
  assertEquals([random!.closed, oracle!.closed, fair!.toProtected, fair!.seeds], [null, null, null, 2]);
  // Controls of another window: none of them is the paper's.
  const other = comparedMethods(["random", "random-protected", "oracle"], base, 1);
  const { toRandom, toProtected, closed } = (await compare([...other, ...comparedMethods(["paper"], base)]))(
    "paper",
  );
  assertEquals([toRandom, toProtected, closed], [null, null, null]);
});

/** Skips nearly the requested ratio. */
const skipping = (bias: number) => ({ pruneRatio }: ResolvedOptions) =>
  fakePruner([0, 1, 2, 3], (t) => t >= 10 && (t * 7919 % 1000) / 1000 < pruneRatio * bias, { warmup: 10 });

Deno.test("compareMethods() matches budgets, and says of a difference that it is at unequal ones", async () => {
  const BIAS: { readonly [fusion: string]: number } = {
    ...{ random: 1, mean: 0.97, key: 1.03, value: 1, "random-protected": 0.96 },
  };
  const ids = Int32Array.from({ length: 320 }, (_, i) => (i * i + i) % 5);
  const evaluate = () => new PerplexityEvaluation(fakeModel().model, ids, { context: 300 });
  const methods = comparedMethods(["value", "mean", "key", "random"], { pruneRatio: 0.5, warmup: 10 }, 1);
  const args = {
    ...{ methods, evaluation: evaluate(), environment, resamples: 50 },
    createPruner: (options: ResolvedOptions) => skipping(BIAS[options.fusion]!)(options),
  };
  const found = async (match?: "own") => {
    const { methods: rows, results } = await compareMethods({ ...args, ...(match && { match }) });
    const own = rows.slice(1), pairs = own.map(({ retained }) => retained.pairs);
    const unequal = results!.flatMap(({ against }) => Object.values(against).map((one) => one.unequal));
    return { rows: own, spread: Math.max(...pairs) - Math.min(...pairs), unequal };
  };
  const [asIs, equal] = [await found(), await found("own")];
  assert(asIs.spread > 0.02 && equal.spread <= 0.01, `${asIs.spread} ${equal.spread}`);
  assert(asIs.unequal.some((one) => one?.budget === "pairs" && Math.abs(one.more) > 0.01));
  assertEquals(equal.unequal.filter((one) => one !== undefined), []);
  const mean = equal.rows.find(({ name }) => name === "mean")!;
  assertEquals([mean.matched!.asked, mean.matched!.reached, mean.missed], [0.5, true, false]);
  assert(mean.matched!.ratio > 0.5 && mean.options!.pruneRatio === mean.matched!.ratio);
  assert(equal.rows.every(({ toRandom, name }) => (toRandom !== null) === (name !== "random")));
  const seeds = comparedMethods(["value", "random-protected"], { pruneRatio: 0.5, warmup: 10 }, 2);
  let last = "";
  await compareMethods({
    ...{ ...args, evaluation: evaluate(), methods: seeds, match: "own" },
    onProgress: (_, label) => last = label,
  });
  assertMatch(last, /^(\d+)\/\1 chunks$/);
});

Deno.test("compareMethods() gives a difference one interval, in both of its tables", async () => {
  const ids = Int32Array.from({ length: 3200 }, (_, i) => (i * 7919 % 1009) % 5);
  const evaluation = new PerplexityEvaluation(fakeModel().model, ids, { context: 100 });
  const { methods, results } = await compareMethods({ ...setUp(), evaluation });
  for (const { name, lossIncrease, toRandom } of methods.slice(1)) {
    const { dense, random } = results!.find((row) =>
      row.method === name && row.metric === "perplexity"
    )!.against;
    for (const [a, b] of [[lossIncrease, dense], [toRandom, random]]) {
      if (!a || !b) continue;
      for (const end of ["estimate", "low", "high"] as const) assertAlmostEquals(a[end], b[end], 1e-12);
    }
  }
});

Deno.test("comparedMethods() compares the keys preset with random on the same side, and reports what was evicted", async () => {
  const methods = comparedMethods(["keys", "random"], { kvRatio: 0.75 }, 2);
  const keys = methods.filter(({ name }) => name.endsWith("keys"));
  assertEquals(keys.map(({ name }) => name), ["keys", "random for keys", "random for keys"]);
  assertEquals(
    keys.map(({ options }) => [options.kvFusion, options.kvRatio, options.recent, options.pruneRatio]),
    [
      ["variance", 0.75, 32, 0],
      ["random", 0.75, 32, 0],
      ["random", 0.75, 32, 0],
    ],
  );
  const { evaluation, ...rest } = setUp(), ratios = [0.75, 0.5, 0.25];
  const counted: Evaluation<PerplexityTypes> = {
    dense: (control) => evaluation.dense(control),
    run: async (...args: Parameters<typeof evaluation.run>) => ({
      ...await evaluation.run(...args),
      kvAchievedRatio: ratios.shift()!,
    }),
  };
  const { methods: rows } = await compareMethods({
    ...rest,
    evaluation: counted,
    methods: keys,
    resamples: 20,
  });
  const dropped = new Map(rows.map(({ name, kvAchievedRatio }) => [name, kvAchievedRatio]));
  assertEquals([...dropped].sort(), [["dense", null], ["keys", 0.75], ["random for keys", 0.375]]);
  assertEquals(rows.find(({ name }) => name === "dense")!.achievedRatio, 0);
});

Deno.test("compareMethods() ranks a run that missed the requested ratio last, and holds nothing against it", async () => {
  const skip: { readonly [name: string]: number } = { key: 0, oracle: 1, random: 4, "random-protected": 8 };
  const { methods: rows } = await compareMethods({
    ...setUp(),
    methods: comparedMethods(["key", "random", "random-protected", "oracle"], { pruneRatio: 0.25 }, 1),
    createPruner: ({ fusion }) => {
      const period = skip[fusion]!;
      return fakePruner([0], (t) => t >= 10 && period > 0 && t % period === 0, { warmup: 10 });
    },
    resamples: 50,
  });
  assertEquals(rows.map(({ name, missed }) => [name, missed]), [
    ["dense", false],
    ["oracle", false],
    ["key", true],
    ["random-protected", true],
    ["random", true],
  ]);
  assert(rows[2]!.loss < rows[1]!.loss, "it lost least");
  for (const { toRandom, toProtected, closed, missed, lossIncrease } of rows.slice(1)) {
    assertEquals([toRandom, toProtected, closed], [null, null, null]);
    assert(lossIncrease !== null && typeof missed === "boolean");
  }
});

Deno.test("compareMethods() draws the same blocks for every method, so that what they share cancels", async () => {
  const { methods: rows } = await compareMethods({
    ...setUp(),
    methods: comparedMethods(["random", "key"], { pruneRatio: 0.25 }, 1),
    createPruner: () => fakePruner([0], (t) => t >= 10, { warmup: 10 }),
    resamples: 50,
  });
  const { toRandom, closed } = rows.find(({ name }) => name === "key")!;
  assertEquals([toRandom, closed], [{ estimate: 0, low: 0, high: 0 }, null]);
});

Deno.test("compareMethods() runs two methods of equal options apart, as who binds them does", async () => {
  const [key] = comparedMethods(["key"], { pruneRatio: 0.25 }, 1);
  const own = { name: "own", options: { ...key!.options } };
  let last = "";
  const { methods } = await compareMethods({
    ...{ ...setUp(), methods: [key!, own], resamples: 20 },
    createPruner: (options) =>
      fakePruner([0], (t) => t >= 10 && (options === own.options || t % 2 === 0), { warmup: 10 }),
    onProgress: (_, label) => last = label,
  });
  assertEquals(last, "9/9 chunks"); // three of the full model and of each method
  assertEquals(new Set(methods.map(({ achievedRatio }) => achievedRatio)).size, 3);
});

Deno.test("compareMethods() reports no fraction of a gap that is not significant", async () => {
  const { methods: rows } = await compareMethods({
    ...setUp(),
    methods: comparedMethods(["random", "key", "oracle"], { pruneRatio: 0.25 }, 3),
    createPruner: ({ fusion }) =>
      fusion === "key"
        ? fakePruner([0, 1], (t) => t >= 10 && t % 2 === 0, { warmup: 10 })
        : fakePruner([0], (t) => t >= 10, { warmup: 10 }),
    resamples: 50,
  });
  const { toRandom, closed } = rows.find(({ name }) => name === "key")!;
  assert(toRandom!.estimate !== 0);
  assertEquals(closed, null);
});

Deno.test("compareMethods() tells how far it is, and stops when asked", async () => {
  const seen: [number, string][] = [];
  await compareMethods({
    ...setUp(),
    resamples: 10,
    onProgress: (fraction, label) => seen.push([fraction, label]),
  });
  assertEquals([seen[0], seen.at(-1)], [[0, "dense"], [1, "18/18 chunks"]]);
  assert(seen.every(([fraction], i) => i === 0 || fraction >= seen[i - 1]![0]));
  const stop = new AbortController();
  const onProgress = () => stop.abort();
  await assertRejects(() => compareMethods({ ...setUp(), signal: stop.signal, onProgress }), DOMException);
});

Deno.test("an error of one method stops the others of compareMethods(), and is thrown once they have stopped", async () => {
  const setting = setUp(), kept: string[] = [];
  const create = ({ fusion, ...options }: ResolvedOptions) => {
    const pruner = createPruner({ fusion, ...options }), error = new RangeError("no key");
    const start = () => ({ decide: () => raise(error), fork: start });
    return fusion === "key" ? { ...pruner, start } : pruner;
  };
  const log = { finished: [], append: ({ method }: ComparedChunk) => void kept.push(method) };
  await assertRejects(() => compareMethods({ ...setting, createPruner: create, log }), RangeError, "no key");
  assert(kept.length <= 3 + 4, `${kept}`); // three chunks of the full model, then at most one of each other method
});

Deno.test("compareMethods() keeps chunks as they end, and goes on to the result of an uninterrupted run", async () => {
  const untimed = (result: object) =>
    JSON.parse(JSON.stringify(result, (key, value) => key === "timeMs" ? undefined : value));
  const whole = untimed(await compareMethods(setUp()));
  const kept: ComparedChunk[] = [], stop = new AbortController();
  const log = (finished: readonly ComparedChunk[]) => ({
    finished,
    append: (...chunks: readonly ComparedChunk[]) => {
      kept.push(...JSON.parse(JSON.stringify(chunks)));
      if (kept.length === 8) stop.abort();
    },
  });
  await assertRejects(
    () => compareMethods({ ...setUp(), signal: stop.signal, log: log([]) }),
    DOMException,
  );
  const [dense, ...counts] = Map.groupBy(kept, ({ trial, method }) => `${method} ${trial}`).values()
    .map((own) => [own.length, own[0]!.scores.losses!.length]);
  assertEquals(dense, [3, 99]);
  assertEquals(counts, Array(5).fill([1, 99])); // five runs take turns, chunk by chunk
  const before = kept.slice(), fractions: number[] = [];
  const resumed = await compareMethods({
    ...setUp(),
    log: log(before),
    onProgress: (fraction) => fractions.push(fraction),
  });
  assertEquals(untimed(resumed), whole);
  assertEquals([kept.length, fractions.at(-1)], [3 * 6, 1]);
  // With nothing left to run, all is there all the same.
  assertEquals(untimed(await compareMethods({ ...setUp(), log: log(kept.slice()) })), whole);
  assertEquals(kept.length, 3 * 6);
});
