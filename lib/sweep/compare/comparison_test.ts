import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { PerplexityEvaluation } from "../../eval/tasks/perplexity.ts";
import { fakeModel, fakePruner } from "../../eval/testing.ts";
import type { Evaluation } from "../../eval/task.ts";
import type { PerplexityTypes } from "../../eval/tasks/mod.ts";
import { COMPARED_METHODS, comparedMethods, RIVAL_METHODS } from "./compared_methods.ts";
import { type ComparedChunk, compareMethods } from "./comparison.ts";
import type { Environment } from "../trial.ts";
import type { MethodOptions, ResolvedOptions } from "../../methods/mod.ts";

const environment = { model: "fake" } as Environment;
const names = ["random", "key", "oracle", "learned"];
/** All skip a quarter: the oracle one layer of every token, chance all four of every fourth token, which costs most. */
const LAYERS: { readonly [name: string]: number } = { oracle: 1, learned: 2, variance: 2, key: 3 };
const createPruner = ({ fusion, seed, recent }: ResolvedOptions) => {
  const layers = LAYERS[fusion] ?? 4,
    shift = Number(seed) + Number(recent === 0) + (fusion === "random-protected" ? 2 : 0);
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

Deno.test("comparedMethods() gives all the same options, and the paper's rule its own window", () => {
  const methods = comparedMethods(
    ["random", "variance inverted", "paper"],
    { recent: 8, seed: 3, tau: 2 },
    2,
  );
  assertEquals(
    methods.map((
      { name, options },
    ) => [name, options.fusion, options.invert, options.recent, options.seed, options.tau]),
    [
      ["random", "random", false, 8, 3n, 2],
      ["random", "random", false, 8, 4n, 2],
      ["random for paper", "random", false, 0, 3n, 2],
      ["random for paper", "random", false, 0, 4n, 2],
      ["variance inverted", "variance", true, 8, 3n, 2],
      ["paper", "variance", false, 0, 3n, 2],
    ],
  );
  assertThrows(
    () => comparedMethods(["magic"]),
    RangeError,
    'Cannot compare "magic": expected some of variance, variance inverted, paper',
  );
  assertThrows(() => comparedMethods(["key"], {}, 0), RangeError, "0 seeds");
});

Deno.test("comparedMethods() gives every control the window, warm-up and cache of each method", () => {
  const named = (names: string[], base: MethodOptions = {}) =>
    comparedMethods(names, base, 1).map(({ name, options }) => {
      const { fusion, recent, invert, kvFusion, threshold, warmup } = options;
      return [name, fusion, recent, warmup, invert, kvFusion, threshold].join();
    });
  const all = ["paper", "random-protected", "oracle"];
  assertEquals(named(all, { threshold: "window" }), [
    "paper,variance,0,32,false,same,window",
    "random-protected,random-protected,16,32,false,same,window",
    "random-protected for paper,random-protected,0,32,false,same,window",
    "oracle,oracle,16,32,false,same,window",
    "oracle for paper,oracle,0,32,false,same,window",
  ]);
  // Where skipped tokens are cached there is no window, so that the preset's own is that of all.
  assertEquals(named(["paper", "variance inverted", "random"], { cacheSkipped: true }), [
    "paper,variance,0,32,false,none,budget",
    "variance inverted,variance,16,32,true,none,budget",
    "random,random,16,32,false,none,budget",
  ]);
  // Keys and values have chance of their own, and no oracle; a rule of theirs beside one of queries is a cache policy.
  const oracle = comparedMethods(["local", "random", "oracle"]).filter(({ name }) =>
    name === "oracle for local"
  );
  assertEquals(oracle.map(({ options }) => [options.schedule, options.substitute]), [["uniform", "local"]]);
  const random = comparedMethods(["local", "random"], {}, 1).find(({ name }) => name === "random for local");
  assertEquals([random?.options.schedule, random?.options.kvFusion], ["allocated", "missed"]);
  assertEquals(named(["keys", "random"]).slice(1), ["random for keys,random,32,64,false,random,budget"]);
  assertEquals(named(["random"]), ["random,random,16,32,false,same,budget"]);
  assertEquals(named(["keys", "random", "oracle"]).slice(1), [
    "random,random,16,32,false,same,budget",
    "random for keys,random,32,64,false,random,budget",
    "oracle,oracle,16,32,false,same,budget",
  ]);
  assertEquals(named(["mean", "random"], { kvFusion: "knorm" }), [
    "mean,mean,16,32,false,knorm,budget",
    "random,random,16,32,false,knorm,budget",
  ]);
  assertEquals(named(["oracle", "oracle"]), ["oracle,oracle,16,32,false,same,budget"]);
  const last = comparedMethods(["random"], { seed: 2n ** 64n - 1n }, 2).map(({ options }) => options.seed);
  assertEquals(last, [2n ** 64n - 1n, 0n]);
});

Deno.test("comparedMethods() knows rivals of the key side, each alone there, and chance beside them", () => {
  const base = { pruneRatio: 0.3, warmup: 8, tail: 1 };
  const named = comparedMethods(["h2o", "cur", "random"], base, 1).map(({ name, options }) => {
    const { kvFusion, kvRatio, pruneRatio, warmup } = options;
    return [name, kvFusion, kvRatio, pruneRatio, warmup].join();
  });
  assertEquals(named, ["h2o,h2o,0.3,0,8", "cur,cur,0.3,0,8", "random for h2o,random,0.3,0,8"]);
  assertEquals(RIVAL_METHODS.filter((name) => COMPARED_METHODS.includes(name)), []);
  assert(RIVAL_METHODS.length > 10);
});

Deno.test("comparedMethods() leaves a preset its sides, whatever the others do with keys and values", () => {
  const presets = ["keys", "local"], alone = comparedMethods(presets, { pruneRatio: 0.3 }, 1);
  for (const base of [{ cacheSkipped: true }, { kvFusion: "none" }, { side: "query" }] as const) {
    const methods = comparedMethods(COMPARED_METHODS, { pruneRatio: 0.3, ...base }, 1);
    for (const { name, options } of alone) {
      assertEquals(methods.find((method) => method.name === name)!.options, options);
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
    const { toDense, loss, seedLosses, achievedRatio, kvAchievedRatio } = row(name);
    assertEquals(kvAchievedRatio, null);
    assertAlmostEquals(toDense!.estimate, delta, 1e-12);
    assertAlmostEquals(loss, rows[0]!.loss + delta, 1e-12);
    assert(toDense!.low < delta && delta < toDense!.high);
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
  assertEquals([rows[0]!.toDense, row("random").toRandom, row("random").closed, row("oracle").closed], [
    null,
    null,
    null,
    null,
  ]);
});

Deno.test("compareMethods() holds every method against the controls of its own window, and against no other", async () => {
  const base = { pruneRatio: 0.25, warmup: 10 };
  const compare = async (names: string[]) => {
    const { methods } = await compareMethods({
      ...setUp(),
      methods: comparedMethods(names, base, 2),
      resamples: 50,
    });
    return (name: string) => methods.find((method) => method.name === name)!;
  };
  const row = await compare(["paper", "key", "random", "random-protected", "oracle"]);
  for (const [name, end] of [["paper", " for paper"], ["key", ""]] as const) {
    const [own, random, fair, oracle] = [name, `random${end}`, `random-protected${end}`, `oracle${end}`].map(
      row,
    );
    assertAlmostEquals(own!.toRandom!.estimate, own!.loss - random!.loss, 1e-12);
    assertAlmostEquals(own!.toProtected!.estimate, own!.loss - fair!.loss, 1e-12);
    const share = (random!.loss - own!.loss) / (random!.loss - oracle!.loss);
    assertAlmostEquals(own!.closed!.estimate, share, 1e-9);
    assertAlmostEquals(fair!.toRandom!.estimate, fair!.loss - random!.loss, 1e-12);
    assertEquals([random!.closed, oracle!.closed, fair!.toProtected, fair!.seeds], [null, null, null, 2]);
  }
  assert(row("random").loss !== row("random for paper").loss);
  // Controls named by hand, of another window: none of them is the paper's.
  const methods = comparedMethods(["random", "random-protected", "oracle"], base, 1).concat(
    comparedMethods(["paper"], base),
  );
  const { methods: rows } = await compareMethods({ ...setUp(), methods, resamples: 50 });
  const { toRandom, toProtected, closed } = rows.find(({ name }) => name === "paper")!;
  assertEquals([toRandom, toProtected, closed], [null, null, null]);
});

Deno.test("comparedMethods() holds the keys preset against chance on the same side, and reports what was dropped", async () => {
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
  const { evaluation, ...rest } = setUp(), shares = [0.75, 0.5, 0.25];
  const counted: Evaluation<PerplexityTypes> = {
    dense: (control) => evaluation.dense(control),
    run: async (...args: Parameters<typeof evaluation.run>) => ({
      ...await evaluation.run(...args),
      kvAchievedRatio: shares.shift()!,
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

Deno.test("compareMethods() ranks a run that missed the asked ratio last, and holds nothing against it", async () => {
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
  for (const { toRandom, toProtected, closed, missed, toDense } of rows.slice(1)) {
    assertEquals([toRandom, toProtected, closed], [null, null, null]);
    assert(toDense !== null && typeof missed === "boolean");
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

Deno.test("compareMethods() tells no share of a gap that is not there", async () => {
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
    onProgress: (fraction, name) => seen.push([fraction, name]),
  });
  assertEquals([seen[0], seen.at(-1)], [[0, "dense"], [1, "learned"]]);
  assert(seen.every(([fraction], i) => i === 0 || fraction >= seen[i - 1]![0]));
  const stop = new AbortController();
  const onProgress = () => stop.abort();
  await assertRejects(() => compareMethods({ ...setUp(), signal: stop.signal, onProgress }), DOMException);
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
  const counts = Map.groupBy(kept, ({ trial, method }) => `${method} ${trial}`).values()
    .map((own) => [own[0]!.method, own.length, own[0]!.scores.losses!.length]);
  assertEquals([...counts], [["dense", 3, 99], ["random", 3, 99], ["random", 2, 99]]);
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
