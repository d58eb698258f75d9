import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { PerplexityEvaluation, type PerplexityTypes } from "../../eval/tasks/perplexity.ts";
import { fakeModel, fakePruner } from "../../eval/testing.ts";
import { type ResolvedOptions, resolveOptions } from "../../methods/mod.ts";
import { type SamplerName, SAMPLERS } from "../../search/sampler.ts";
import { observeTrial, readObjective } from "./search.ts";
import { runSweep } from "./runner.ts";
import { Search } from "./search.ts";
import { readSearchSpace } from "./search_space.ts";
import { expandGrids } from "../space.ts";
import type { RunConditions, SearchRequest, StoppedTrial, Trial } from "../trial.ts";
import { chunkMeans, TrialRace } from "./trial_race.ts";
import { StudyStore } from "./store.ts";
import { finishedTrials, listedTrials, StudyTrials, type TrialSource } from "./trial_source.ts";

const conditions = { version: "0", model: "fake", backend: "reference" } as RunConditions;
const ids = Int32Array.from({ length: 1200 }, (_, i) => (i * i + Number(i % 97 === 0)) % 5);
/** Skips the more, the greater tau is; a tau above 6 skips too few. */
const createPruner = ({ tau, gamma }: ResolvedOptions) =>
  fakePruner(
    [0, 1, 2, 3],
    (t) => t >= 10 && t % 2 === 0 && (tau <= 6 || t % 10 > 0) && (t % 40) / 40 < 1 - gamma / 1.5,
    {
      warmup: 10,
    },
  );
const space = readSearchSpace({
  fusion: ["variance", "mean"],
  tau: { low: 0.5, high: 8, log: true, when: { fusion: "variance" } },
  gamma: { low: 0, high: 0.9 },
  warmup: 10,
  threshold: "fixed", // which asks for no ratio that a trial could miss
});
const request = (sampler: SamplerName, trials: number): SearchRequest => ({
  ...{ space, sampler, seed: 3, trials, objectives: ["loss"], limits: {} },
});

const evaluate = () => new PerplexityEvaluation(fakeModel().model, ids, { context: 100 });

const newStudy = (path = ":memory:") =>
  StudyStore.create(path, { name: "mine", conditions, runDigest: "d", flags: {} });

type Source = TrialSource<PerplexityTypes>;

/** Runs a search in a study as one of its workers. */
async function runSearch(
  request: SearchRequest,
  store = newStudy(),
  race?: TrialRace,
  owner = "one",
  paced = (source: Source) => source,
) {
  store.begin(request);
  const search = new Search<Trial<PerplexityTypes>>(request);
  const source = paced(new StudyTrials<PerplexityTypes>(store, { owner, search }));
  const trials = await runSweep<PerplexityTypes>({
    ...{ source, evaluation: evaluate(), createPruner, conditions },
    ...(race && { race }),
  });
  return { search, trials, stopped: source.stopped() };
}

/** Workers of one process, none of which is more than two trials ahead of another, whatever the machine is at. */
function pace(workers: number): (worker: number) => (source: Source) => Source {
  const taken = Array<number>(workers).fill(0);
  return (worker) => (source) => {
    const take = source.take.bind(source);
    source.take = async () => {
      while (taken.some((others) => taken[worker]! > others + 1)) {
        await new Promise((end) => setTimeout(end, 1));
      }
      const trial = await take();
      taken[worker] = trial === undefined ? Infinity : taken[worker]! + 1;
      return trial;
    };
    return source;
  };
}

const digests = (trials: readonly Trial[]) => trials.map(({ trial }) => trial);
/** The result of a trial, without its times. */
const bare = ({ timeMs: _, denseTimeMs: __, finishedAt: ___, ...trial }: Trial<PerplexityTypes>) => trial;

Deno.test("a search runs what its sampler proposes from results, each once, and goes on as it would have", async () => {
  const whole = await runSearch(request("tpe", 16));
  assert(whole.trials.length >= 14 && whole.trials.length <= 16);
  assertEquals(new Set(whole.trials.map(({ trial }) => trial)).size, whole.trials.length);
  const store = newStudy(), first = await runSearch(request("tpe", 12), store);
  assertEquals(digests(first.trials), digests(whole.trials).slice(0, first.trials.length));
  // A study of an older version, or of another search, has results and no proposals.
  const old = newStudy();
  old.take(finishedTrials(first.trials));
  for (const study of [store, old]) {
    assertEquals(digests((await runSearch(request("tpe", 16), study)).trials), digests(whole.trials));
  }
  const record = whole.search.record(whole.trials, []);
  assertEquals([record.proposed, record.refused, record.sampler], [16, 0, "tpe"]);
  assertAlmostEquals(Object.values(record.importances).reduce((a, b) => a + b), 1, 1e-12);
  assertEquals(Object.keys(record.importances).toSorted(), ["fusion", "gamma", "tau"]);
});

Deno.test("workers on one study share a search out: each proposal is made once, and those at work are known to all", async () => {
  const folder = await Deno.makeTempDir(),
    path = `${folder}/study.db`,
    stores = ["one", "two", "three"].map((_, i) => {
      return i === 0 ? newStudy(path) : StudyStore.open(path);
    });
  try {
    const paceOf = pace(stores.length);
    const runs = await Promise.all(
      stores.map((store, i) => runSearch(request("tpe", 24), store, undefined, `${i}`, paceOf(i))),
    );
    const [store] = stores as [StudyStore], proposals = store.proposals();
    assertEquals(proposals.length, 24);
    assert(store.workers().every(({ finished }) => finished > 3), JSON.stringify(store.workers()));
    assertEquals(store.count().complete, new Set(proposals.map(({ digest }) => digest)).size);
    for (const { trials, search } of runs) {
      assertEquals(
        digests(trials).toSorted(),
        [...new Set(proposals.map(({ digest }) => digest!))].toSorted(),
      );
      assertEquals(search.outcome.proposed, 24);
    }
    // The first random trials equal those of a single worker, and so do their results.
    const alone = await runSearch(request("tpe", 8));
    const known = new Map(runs[0]!.trials.map((trial) => [trial.trial, trial]));
    for (const trial of alone.trials) assertEquals(bare(known.get(trial.trial)!), bare(trial));
  } finally {
    stores.forEach((store) => store[Symbol.dispose]());
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("a proposal is at work until it ends or fails; a sampler hears of both", () => {
  const store = newStudy(), asked = request("tpe", 3), search = new Search<Trial<PerplexityTypes>>(asked);
  store.begin(asked);
  const none = new Map<string, never>(), states = () => search.observe(none, none).map(({ state }) => state);
  assertEquals([search.proposeIn(store, none, none), states()], [true, ["running"]]);
  // Another process, which contains of the first one, makes the second; it is this one's too.
  const other = new Search<Trial<PerplexityTypes>>(asked);
  other.proposeIn(store, none, none);
  search.look(store);
  assertEquals([states(), other.outcome.proposed], [["running", "running"], 2]);
  store.close(store.claim("one", 1000)!.digest, "no number");
  search.look(store);
  assertEquals(search.observe(none, none).map(({ state, violation }) => [state, violation]), [
    ["finished", Infinity],
    ["running", 0],
  ]);
  assertEquals([search.proposeIn(store, none, none), search.isOver], [true, true]);
  assertEquals([search.proposeIn(store, none, none), store.trials().length], [false, 3]);
});

Deno.test("trials at another ratio than asked, or beyond a limit, break the constraints", async () => {
  const [trial] = (await runSearch(request("random", 1))).trials;
  const observe = (change: Partial<Trial>, limits = {}) =>
    observeTrial(
      {},
      { ...trial!, threshold: "budget", pruneRatio: 0.5, achievedRatio: 0.51, ...change },
      ["loss", "queries"],
      limits,
    );
  const { values, violation } = observe({});
  assertEquals(violation, 0);
  assertAlmostEquals(values[0]!, trial!.nllDelta, 1e-12);
  assertAlmostEquals(values[1]!, 1 - trial!.queriesSkipped / trial!.queriesDense, 1e-12);
  assertAlmostEquals(observe({ achievedRatio: 0.4 }).violation, 0.08, 1e-6);
  assertAlmostEquals(observe({}, { queries: values[1]! - 0.25 }).violation, 0.25, 1e-12);
  assertEquals(observe({}, { queries: values[1]! + 0.25 }).violation, 0);
  assertEquals(readObjective("attention-flops"), "attentionFlops");
  assertThrows(() => readObjective("los"), RangeError, 'objective "los": expected some of loss, queries');
});

Deno.test("impossible proposals are counted by kind; a list has each trial once", () => {
  const search = new Search(request("sobol", 40), ({ gamma }) => {
    if (gamma > 0.45) throw new RangeError("too slow");
  });
  const methods = search.list();
  const { proposed, refused, repeated, firstRefused } = search.outcome;
  assertEquals([proposed, refused, firstRefused, repeated], [40, 20, "too slow", 0]);
  assertEquals(methods.length, 20);
  const coarse = readSearchSpace({ fusion: ["variance", "mean"], tau: [1, 2] });
  const grid = new Search({ ...request("grid", Infinity), space: coarse });
  assertEquals(grid.list().map(({ fusion, tau }) => [fusion, tau]), [
    ["variance", 1],
    ["variance", 2],
    ["mean", 1],
  ]);
  assertEquals(grid.outcome.repeated, 1); // tau means nothing to `mean`
  const never = new Search(request("random", 3), () => {
    throw new RangeError("never");
  });
  assertThrows(() => never.list(), RangeError, "never");
  assertEquals(Object.entries(SAMPLERS).filter(([, { adapts }]) => adapts).map(([name]) => name), ["tpe"]);
});

Deno.test("a budget ends with the trial at work", async () => {
  let now = 0;
  const methods = expandGrids([{ gamma: [0, 0.1, 0.2, 0.3], warmup: 10 }]);
  const run = async (ms: number) => {
    now = 0;
    const source = await listedTrials<PerplexityTypes>(methods, conditions, { budgetMs: ms, now: () => now });
    const trials = await runSweep<PerplexityTypes>({
      ...{ source, evaluation: evaluate(), createPruner, conditions },
      onProgress: ({ trial }) => void (trial && (now += 10)),
    });
    return [trials.length, source.ranOut()];
  };
  assertEquals([await run(15), await run(40), await run(1000)], [[2, true], [4, false], [4, false]]);
});

Deno.test("a race reads chunks in a shuffled order, stops trials apart from finished ones, and finds the same best", async () => {
  const methods = expandGrids([{ gamma: [0.9, 0, 0.2, 0.7, 0.1, 0.8], warmup: 10, threshold: "fixed" }]);
  const all = await runSweep<PerplexityTypes>({
    ...{
      source: await listedTrials<PerplexityTypes>(methods, conditions),
      evaluation: evaluate(),
      createPruner,
      conditions,
    },
  });
  const race = new TrialRace("sequential", 5);
  assert(String(race.order(12)) !== String(race.order(12).toSorted((a, b) => a - b)));
  assertEquals(new TrialRace("sequential", 5).order(12), race.order(12));
  const stopped: StoppedTrial[] = [], kept: Trial<PerplexityTypes>[] = [];
  const source = await listedTrials<PerplexityTypes>(methods, conditions),
    finish = source.finish.bind(source);
  source.finish = (trial) => {
    if ("stopped" in trial) stopped.push(trial);
    else kept.push(trial as Trial<PerplexityTypes>);
    finish(trial);
  };
  const progress: number[] = [];
  const trials = await runSweep<PerplexityTypes>({
    ...{ source, evaluation: evaluate(), createPruner, conditions, race },
    onProgress: ({ done }) => void progress.push(done),
  });
  assertEquals(progress.at(-1), 6);
  assertEquals([trials.length + stopped.length, kept.length], [6, trials.length]);
  assert(stopped.length >= 2);
  const best = (own: readonly Trial<PerplexityTypes>[]) =>
    own.reduce((a, b) => b.nllDelta < a.nllDelta ? b : a);
  // A finished trial has the same record as without a race, whatever the order.
  assertEquals(bare(best(trials)), bare(best(all)));
  const dense = chunkMeans((await evaluate().dense()).lossBlocks, 12);
  for (const trial of stopped) {
    const full = all.find(({ trial: digest }) => digest === trial.trial)!;
    assert(trial.chunkLosses.length < trial.chunks && trial.chunks === 12);
    const means = chunkMeans(full.lossBlocks, 12);
    trial.chunkLosses.forEach((loss, i) => assertAlmostEquals(loss, means[race.order(12)[i]!]!, 1e-6));
    const behind = trial.chunkLosses.map((loss, i) => loss - dense[race.order(12)[i]!]!);
    assertAlmostEquals(trial.partialDelta, behind.reduce((a, b) => a + b) / behind.length, 1e-6);
    assert(/behind the best/.test(trial.stopped));
    assertEquals("perplexity" in trial, false);
  }
  const read = stopped.reduce((sum, { chunkLosses }) => sum + chunkLosses.length, 12 * trials.length);
  assertEquals([race.record.read, race.record.of, race.record.kind], [read, 72, "sequential"]);
});

Deno.test("TPE in a race takes stopped trials for worse than finished ones", async () => {
  const { trials, stopped } = await runSearch(
    request("tpe", 24),
    newStudy(),
    new TrialRace("halving", 1),
  );
  assert(stopped.length >= 5 && trials.length >= 2, `${stopped.length} ${trials.length}`);
});

Deno.test("trials at other ratios, or non-causal ones, are not compared with each other", () => {
  const race = new TrialRace("sequential", 0), chunks = 12;
  const good = { sums: new Array(chunks).fill(1), sizes: new Array(chunks).fill(1) };
  const asked = (options: object) => resolveOptions({ warmup: 10, ...options });
  race.add(
    {
      ...asked({ pruneRatio: 0.3 }),
      seed: 0,
      trial: "a",
      lossBlocks: good,
      achievedRatio: 0.3,
    } as unknown as Trial,
    chunks,
  );
  const stops = (options: object) => {
    const racing = race.enter(asked(options), chunks);
    for (let i = 0; i < chunks; i++) racing.report(Float64Array.of(2 + i / 100), Float64Array.of(1));
    return racing.signal.aborted;
  };
  assertEquals([stops({ pruneRatio: 0.3 }), stops({ pruneRatio: 0.302 })], [true, true]);
  assertEquals([stops({ pruneRatio: 0.5 }), stops({ pruneRatio: 0.3, fusion: "oracle" })], [false, false]);
  assertEquals(stops({ side: "key", kvRatio: 0.3 }), false);
  // It does not stop against one that skipped less than requested either.
  const missed = new TrialRace("sequential", 0);
  missed.add(
    {
      ...asked({ pruneRatio: 0.3 }),
      seed: 0,
      trial: "a",
      lossBlocks: good,
      achievedRatio: 0,
    } as unknown as Trial,
    chunks,
  );
  const racing = missed.enter(asked({ pruneRatio: 0.3 }), chunks);
  for (let i = 0; i < chunks; i++) racing.report(Float64Array.of(2 + i / 100), Float64Array.of(1));
  assertEquals(racing.signal.aborted, false);
});
