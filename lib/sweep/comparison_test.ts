import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { PerplexityEvaluation } from "../eval/tasks/perplexity.ts";
import { fakeModel, fakePruner } from "../eval/testing.ts";
import { comparedMethods, type ComparedRun, compareMethods } from "./comparison.ts";
import type { Environment } from "./trial.ts";
import type { ResolvedOptions } from "../methods/mod.ts";

const environment = { model: "fake" } as Environment;
const names = ["random", "key", "oracle", "learned"];
/** The oracle skips in one layer, `learned` in two, `random` in three or two by its seed, `key` in all four. */
const createPruner = ({ fusion, seed }: ResolvedOptions) => {
  const layers = { oracle: 1, learned: 2, random: seed % 2n === 0n ? 3 : 2, key: 4 }[fusion as string]!;
  return fakePruner([0, 1, 2, 3].slice(0, layers), (t) => t >= 10 && t % 2 === 0, { warmup: 10 });
};

function setUp() {
  const ids = Int32Array.from({ length: 320 }, (_, i) => (i * i + i) % 5);
  const evaluation = new PerplexityEvaluation(fakeModel().model, ids, { context: 100 });
  const methods = comparedMethods(names, { pruneRatio: 0.3, warmup: 10 }, 2);
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
  for (const name of names) {
    const runs = await Promise.all(
      methods.filter((method) => method.name === name).map(({ options }) =>
        evaluation.run(createPruner(options))
      ),
    );
    const delta = runs.reduce((sum, run) => sum + run.nllDelta, 0) / runs.length;
    const { toDense, loss, seedLosses, achievedRatio } = row(name);
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

Deno.test("compareMethods() draws the same blocks for every method, so that what they share cancels", async () => {
  const { methods: rows } = await compareMethods({
    ...setUp(),
    methods: comparedMethods(["random", "key"], {}, 1),
    createPruner: () => fakePruner([0], (t) => t >= 10, { warmup: 10 }),
    resamples: 50,
  });
  const { toRandom, closed } = rows.find(({ name }) => name === "key")!;
  assertEquals([toRandom, closed], [{ estimate: 0, low: 0, high: 0 }, null]);
});

Deno.test("compareMethods() tells no share of a gap that is not there", async () => {
  const { methods: rows } = await compareMethods({
    ...setUp(),
    methods: comparedMethods(["random", "key", "oracle"], {}, 3),
    createPruner: ({ fusion }) => fakePruner([0], (t) => t >= 10 && fusion === "key", { warmup: 10 }),
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

Deno.test("compareMethods() keeps runs as they end, and goes on to the result of an uninterrupted run", async () => {
  const whole = await compareMethods(setUp());
  const kept: ComparedRun[] = [], stop = new AbortController();
  const log = (finished: readonly ComparedRun[]) => ({
    finished,
    append: (run: ComparedRun) => {
      kept.push(JSON.parse(JSON.stringify(run)));
      if (kept.length === 2) stop.abort();
    },
  });
  await assertRejects(
    () => compareMethods({ ...setUp(), signal: stop.signal, log: log([]) }),
    DOMException,
  );
  assertEquals(kept.map(({ method, losses }) => [method, losses.length]), [["random", 297], ["random", 297]]);
  const before = kept.slice(), started: string[] = [], fractions: number[] = [];
  const resumed = await compareMethods({
    ...setUp(),
    createPruner: (options) => {
      started.push(options.fusion);
      return createPruner(options);
    },
    log: log(before),
    onProgress: (fraction) => fractions.push(fraction),
  });
  assertEquals(resumed, whole);
  assertEquals(started, ["key", "oracle", "learned"]);
  assertEquals([fractions[3], fractions.at(-1)], [1 / 4, 1]);
  // With nothing left to run, the dense losses are there all the same.
  assertEquals(await compareMethods({ ...setUp(), log: log(kept) }), whole);
});
