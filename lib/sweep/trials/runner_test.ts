import { assert, assertAlmostEquals, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { DatabaseSync } from "node:sqlite";
import { perplexity, PerplexityEvaluation, type PerplexityTypes } from "../../eval/tasks/perplexity.ts";
import { fakeModel, fakePruner } from "../../eval/testing.ts";
import { digestConditions } from "./digest.ts";
import { findWrongField, trialFields } from "../fields.ts";
import { PlaceLostError } from "../../errors.ts";
import { runSweep, type SweepProgress } from "./runner.ts";
import { expandGrids } from "../space.ts";
import { StudyStore } from "./store.ts";
import type { HeldTrial } from "./store_records.ts";
import { listedTrials, proposeTrials, StudyTrials } from "./trial_source.ts";
import { sortTrials, summarizeSweep } from "../summary.ts";
import type { Environment, RunConditions, Trial } from "../trial.ts";
import type { ResolvedOptions } from "../../methods/mod.ts";

const conditions: RunConditions = {
  version: "0.0.0",
  model: "fake",
  modelSha256: "aa",
  text: "numbers",
  textSha256: "bb",
  context: 100,
  textTokens: 300,
  bos: false,
  cacheDType: "f32",
  backend: "reference",
};
const methods = expandGrids([{ fusion: ["variance", "key", "oracle"], pruneRatio: [0.25, 0.5], warmup: 10 }]);
/** Skips the requested ratio of all layers after the warm-up, `key` other tokens than the rest. */
const createPruner = ({ pruneRatio, fusion }: ResolvedOptions) =>
  fakePruner([0, 1, 2, 3], (t) => t >= 10 && ((t + (fusion === "key" ? 1 : 0)) % 4) < pruneRatio * 4, {
    warmup: 10,
  });

/** A study's file, which is made where there is none. */
const open = (path: string) => {
  try {
    return StudyStore.open(path);
  } catch {
    return StudyStore.create(path, { name: "mine", conditions, runDigest: "d", flags: {} });
  }
};

/** The trials that a study's file holds. */
function read(path: string) {
  using store = StudyStore.open(path);
  return store.finished<Trial<PerplexityTypes>>();
}

function start(path: string, signal?: AbortSignal) {
  const { model } = fakeModel();
  const ids = Int32Array.from({ length: 320 }, (_, i) => (i * i + i) % 5);
  const evaluation = new PerplexityEvaluation(model, ids, { context: 100 });
  const seen: SweepProgress[] = [];
  const run = async (onTrial?: (trial: Trial) => void) => {
    using store = open(path);
    const onProgress = (progress: SweepProgress) => {
      seen.push(progress);
      if (progress.trial) onTrial?.(progress.trial);
    };
    const proposed = proposeTrials(methods), only = proposed.map(({ digest }) => digest);
    store.add(proposed);
    const source = new StudyTrials<PerplexityTypes>(store, { owner: "one", only });
    return await runSweep<PerplexityTypes>({
      source,
      evaluation,
      createPruner,
      conditions,
      signal,
      onProgress,
    });
  };
  return { run, seen, evaluation };
}

async function withFolder(test: (path: string) => Promise<void>) {
  const folder = await Deno.makeTempDir();
  try {
    await test(`${folder}/study.db`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("runSweep() writes every trial with its options, conditions and results", () =>
  withFolder(async (path) => {
    const { run, seen } = start(path);
    const trials = await run();
    const lines = read(path);
    assertEquals(lines, JSON.parse(JSON.stringify(trials)));
    assertEquals(trials.length, 6);
    assertEquals([trials[0]!.fusion, trials[0]!.pruneRatio, trials[0]!.achievedRatio], [
      "variance",
      0.25,
      22 / 90,
    ]);
    assertEquals(trials.map((trial) => trial.nonCausal), [false, false, false, false, true, true]);
    assertEquals(new Set(trials.map((trial) => trial.trial)).size, 6);
    for (const key of ["modelSha256", "textSha256", "version", "seed", "deno", "finishedAt", "runDigest"]) {
      assert(lines.every((line) => (line as never)[key] !== undefined), key);
    }
    const fractions = seen.map((progress) => progress.fraction);
    assertEquals(fractions.length, 22); // 3 chunks of the dense run and of each trial
    fractions.forEach((fraction, i) => assertAlmostEquals(fraction, i / 21, 1e-12));
    assertEquals([seen.at(-1)!.done, seen.at(-1)!.total, seen.at(-1)!.fraction], [6, 6, 1]);
  }));

Deno.test("runSweep() stops at once, keeps what is finished, and goes on to the same result", () =>
  withFolder(async (path) => {
    const whole = await start(path).run();
    await Deno.remove(path);
    const controller = new AbortController();
    let count = 0;
    const stopped = start(path, controller.signal).run(() => ++count === 2 && controller.abort());
    await assertRejects(() => stopped, DOMException);
    assertEquals(read(path).length, 2);
    const { run, seen } = start(path);
    const rest: string[] = [];
    const resumed = await run((trial) => rest.push(trial.trial));
    assertEquals(rest, whole.slice(2).map((trial) => trial.trial));
    assertEquals(seen[0]!.done, 2);
    const bare = (trials: Trial[]) =>
      trials.map((t) => ({ ...t, timeMs: 0, denseTimeMs: 0, finishedAt: "" }));
    assertEquals(bare(resumed), bare(whole));
    assertEquals(read(path).map(({ trial }) => trial), whole.map((trial) => trial.trial));
  }));

Deno.test("digestConditions() depends on every condition and not on their order", async () => {
  const digest = await digestConditions(conditions);
  const reversed = Object.fromEntries(Object.entries(conditions).reverse()) as unknown as RunConditions;
  assertEquals(await digestConditions(reversed), digest);
  for (const [name, value] of Object.entries(conditions)) {
    const other = typeof value === "boolean" ? !value : typeof value === "number" ? value + 1 : `${value}.`;
    assert(await digestConditions({ ...conditions, [name]: other }) !== digest, name);
  }
});

Deno.test("findWrongField() names the field of a trial that is not what it must be", () =>
  withFolder(async (path) => {
    const [trial] = await start(path).run(), text = JSON.stringify(trial);
    const wrong = (text: string) => findWrongField(JSON.parse(text), trialFields(perplexity));
    const cases: [string, string, string][] = [
      ['{"trial"', '{"trail"', 'field "trial": found nothing, expected a text'],
      [
        '"perplexity":',
        '"perplexity":"low","x":',
        'field "perplexity": found "low", expected a number or null',
      ],
      ['"tau":1', '"tau":"1"', 'field "tau": found "1", expected a number in [0, 64]'],
      [
        '"fusion":"variance"',
        '"fusion":"magic"',
        'field "fusion": found "magic", expected one of variance, ',
      ],
      [
        '"achievedRatio":',
        '"achievedRatio":[],"x":',
        'field "achievedRatio": found [], expected a number or null',
      ],
      ['"nonCausal":false', '"nonCausal":0', 'field "nonCausal": found 0, expected true or false'],
      ['"skipRatioPerLayer":[', '"skipRatioPerLayer":["",', "expected a list of numbers or nulls"],
      ['"seed":0', '"seed":"one"', 'field "seed": found "one", expected an integer in [0, 2^64)'],
      ['"tokens":', '"tokens":null,"x":', 'field "tokens": found null, expected a number'],
    ];
    for (const [from, to, error] of cases) {
      assert(text.includes(from), from);
      assertStringIncludes(wrong(text.replace(from, to))!, error, to);
    }
    const legal = text.replace('"seed":0', '"seed":"18446744073709551615"').replace(
      '"skipRatios":null',
      '"skipRatios":[0.5]',
    )
      .replace(/"nllDeltaSe":[^,]*/, '"nllDeltaSe":null');
    assertEquals(wrong(legal), undefined);
  }));

Deno.test("summarizeSweep() sorts by ratio, then perplexity, and marks the front of online trials", () =>
  withFolder(async (path) => {
    const { run, evaluation } = start(path);
    const trials = await run();
    const environment = { ...conditions } as Environment;
    const summary = summarizeSweep(trials, await evaluation.dense(), environment);
    assertEquals(summary.trials.map((t) => t.pruneRatio), [0.25, 0.25, 0.25, 0.5, 0.5, 0.5]);
    for (const half of [summary.trials.slice(0, 3), summary.trials.slice(3)]) {
      const values = half.map((t) => t.perplexity);
      assertEquals(values, values.toSorted((a, b) => a - b));
    }
    assert(summary.trials.some((t) => t.pareto));
    assert(summary.trials.every((t) => !t.pareto || !t.nonCausal));
    assertEquals(sortTrials(trials).map((t) => t.trial), summary.trials.map((t) => t.trial));
    assertEquals(Object.keys(summary), ["trials", "dense", "environment"]);
  }));

Deno.test("summarizeSweep() takes fractions of one percent for equal on the front of attention's operations", () =>
  withFolder(async (path) => {
    const { run, evaluation } = start(path);
    const [first] = await run();
    const trial = (achievedRatio: number | null, perplexity: number, more: Partial<Trial> = {}) => ({
      ...first!,
      ...more,
      achievedRatio,
      attentionFlopsAvoided: (achievedRatio ?? 0) * first!.attentionFlopsDense,
      perplexity,
    });
    const front = async (trials: Trial[]) =>
      summarizeSweep(trials, await evaluation.dense(), { ...conditions } as Environment).trials
        .map((t) => [t.achievedRatio, t.pareto]);
    assertEquals(await front([trial(0.252, 41), trial(0.248, 40), trial(0.26, 42)]), [
      [0.248, true],
      [0.252, false],
      [0.26, true],
    ]);
    // One that skipped more than two points more or less than requested comes last, and is on no front.
    const missed = [trial(0, 1), trial(0.2299, 2), trial(0.2701, 3), trial(null, 4)];
    assertEquals(await front([...missed, trial(0.23, 41), trial(0.27, 42)]), [
      [0.23, true],
      [0.27, true],
      [0, false],
      [0.2299, false],
      [0.2701, false],
      [null, false],
    ]);
    // A threshold of its own asks for no ratio.
    assertEquals(await front([trial(0.9, 41, { threshold: "fixed" })]), [[0.9, true]]);
  }));

Deno.test("runSweep() gives a trial back that failed, but not to a study that cannot be reached", async () => {
  const { evaluation } = start("unused");
  const listed = await listedTrials<PerplexityTypes>(methods, conditions);
  for (const [error, given] of [[new Error("broken"), 1], [new PlaceLostError("away"), 0]] as const) {
    let back = 0;
    const finish = () => {
      throw error;
    };
    const source = Object.assign(listed, { finish, drop: () => void back++ });
    await assertRejects(
      () => runSweep({ source, evaluation, createPruner, conditions }),
      Error,
      error.message,
    );
    assertEquals(back, given);
  }
});

Deno.test("runSweep() leaves a trial that another worker has taken, and takes the next", () =>
  withFolder(async (path) => {
    const { evaluation } = start("unused");
    using store = open(path);
    const proposed = proposeTrials(methods);
    store.add(proposed);
    using other = StudyStore.open(path);
    const taken: string[] = [], kept: boolean[] = [];
    let chunks = 0;
    const listed = new StudyTrials<PerplexityTypes>(store, { owner: "one" });
    const report = listed.report.bind(listed), take = listed.take.bind(listed);
    const source = Object.assign(listed, {
      report(...values: Parameters<typeof report>) {
        chunks++;
        report(...values);
      },
      async take() {
        const trial = await take();
        // Another worker takes the first trial because this one counts as dead.
        if (trial !== undefined && taken.push(trial.digest) === 1) {
          other.release("one");
          kept.push(other.claim("two", 60_000)!.digest === trial.digest);
        } else if (trial === undefined && kept.length === 1) {
          const [{ owner }] = other.held() as [HeldTrial];
          kept.push(owner === "two" && other.release("two") === 1);
        }
        return trial;
      },
    });
    const trials = await runSweep<PerplexityTypes>({ source, evaluation, createPruner, conditions });
    assertEquals([trials.length, taken.length, kept], [methods.length, methods.length + 1, [true, true]]);
    assertEquals(store.trials().map(({ state }) => state), methods.map(() => "complete"));
    assertEquals(chunks, 3 * methods.length + 1); // of the lost trial one
  }));

Deno.test("StudyTrials tell of workers that give no sign, whichever way their clocks are wrong", () =>
  withFolder((path) => {
    using store = open(path);
    const digest = (i: number) => ({ digest: `d${i}`, options: {} as never });
    store.add([digest(0), digest(1), digest(2)]);
    for (const owner of ["late", "ahead", "fresh"]) store.claim(owner, 7 * 24 * 3600_000);
    {
      using db = new DatabaseSync(path);
      db.exec("UPDATE worker SET seen = seen + 1e9 * iif(owner = 'late', -1, 1) WHERE owner <> 'fresh'");
    }
    const source = new StudyTrials(store, { owner: "own" });
    assertEquals(source.silent().map(({ number, owner }) => [number, owner]), [[1, "late"], [2, "ahead"]]);
    return Promise.resolve();
  }));
