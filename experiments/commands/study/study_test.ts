import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { parquetReadObjects } from "hyparquet";
import { DatabaseSync } from "node:sqlite";
import { UsageError } from "../../../lib/errors.ts";
import { makeSummary, makeTrial } from "../../../lib/plot/testing.ts";
import { type MethodOptions, recordOptions, resolveOptions } from "../../../lib/methods/mod.ts";
import { unless } from "../../../lib/testing.ts";
import { lackOfPython, runPython } from "../../tools/testing_python.ts";
import {
  digestConditions,
  finishedTrials,
  type ObjectiveName,
  proposeTrials,
  readSearchSpace,
  type RunConditions,
  Search,
  type StudyFacts,
  StudyStore,
  type Trial,
} from "../../../lib/sweep/mod.ts";
import { exists } from "../cli/files.ts";
import { exportStudy, importTrials, mergeStudies, readRecords } from "./files.ts";
import { bestFirst, describeBest, listShort } from "./open.ts";
import { thinTrials } from "./page.ts";
import { runTask, withFolder } from "../testing.ts";

const summary = makeSummary([]), { environment } = summary;
const facts = {
  name: "mine",
  conditions: { version: "0", model: "tiny", modelSha256: "a", text: "prose", textSha256: "b", context: 64 },
  runDigest: "d",
  flags: { model: "tiny" },
} as unknown as StudyFacts;

/** Three finished trials, and one that waits. */
function makeStudy(path: string, count = 3): void {
  using store = StudyStore.create(path, facts);
  const trials = Array.from({ length: count }, (_, i) => {
    const record = {
      ...makeTrial({ fusion: i === 1 ? "mean" : "variance", seed: i }, 0.5, 50 - i),
      trial: `t${i}`,
    };
    return { ...record, ...facts.conditions, runDigest: "d" } as Trial;
  });
  const taken = finishedTrials(trials);
  store.take(taken);
  store.add([{ digest: "open", options: taken[0]!.options }]);
  store.set("dense", summary.dense);
  store.set("environment", environment);
}

Deno.test("study list, show, best, diff and delete say what a study holds", () =>
  withFolder(async (folder) => {
    Deno.mkdirSync(`${folder}/a`);
    makeStudy(`${folder}/a/study.db`);
    Deno.writeTextFileSync(`${folder}/none.db`, "nothing");
    const { task: _, ...own } = facts.conditions, conditions = { ...own, taskSha256: "0".repeat(64) };
    StudyStore.create(`${folder}/eval.db`, { ...facts, conditions, command: "eval" } as never)
      [Symbol.dispose]();
    const list = await runTask("study", "list", folder, "--json");
    assertEquals([list.code, list.stderr], [0, ""]);
    const [first, evaluated, second] = JSON.parse(list.stdout);
    assertEquals([evaluated.model, evaluated.best], ["tiny", "-"]);
    assertEquals([first.study, first.complete, first.waiting, first.best], [
      `${folder}/a/study.db`,
      3,
      1,
      "ppl 48.00 by variance at 0.5",
    ]);
    assertMatch(second.model, /^! Cannot use study .*no study's file$/);
    const show = await runTask("study", "show", `${folder}/a`, "--plot", `${folder}/plot.html`);
    assertEquals([show.code, show.stderr], [0, ""]);
    assertStringIncludes(show.stdout, "3 complete");
    assertEquals(show.stdout.match(/^ +\d +(complete|waiting)/gm)!.length, 4);
    assertStringIncludes(Deno.readTextFileSync(`${folder}/plot.html`), "Pareto front");
    const best = await runTask("study", "best", `${folder}/a`, "--top", "1", "--json");
    assertEquals(JSON.parse(best.stdout).trials.map(({ perplexity }: { perplexity: number }) => perplexity), [
      48,
    ]);
    const diff = await runTask("study", "diff", `${folder}/a`, `${folder}/a`, "--json");
    assertEquals([diff.code, diff.stderr], [0, ""]);
    const kept = await runTask("study", "delete", `${folder}/a`);
    assertEquals([kept.code, exists(`${folder}/a/study.db`)], [2, true]);
    assertMatch(kept.stderr, /^Cannot delete study [^\n]* with 3 results: expected --yes\n$/);
    assertEquals((await runTask("study", "delete", `${folder}/a`, "--yes")).code, 0);
    assertEquals([...Deno.readDirSync(`${folder}/a`)], []);
  }));

Deno.test("study refuses what it cannot do in one line", async () => {
  const cases: [string[], string][] = [
    [[], "expected one of list, show"],
    [["shew", "x"], "Cannot run study shew"],
    [["show"], "with 0 names"],
    [["show", "/none/study.db"], "there is no such file"],
    [["export", "/none/study.db"], "there is no such file"],
    [["import", "/none"], "expected --out FILE"],
  ];
  const { command } = await import("../study.ts");
  for (const [args, part] of cases) await assertRejects(() => command.main(args), UsageError, part);
});

Deno.test("a study goes to JSONL, CSV and Parquet, and back from JSONL", () =>
  withFolder(async (folder) => {
    makeStudy(`${folder}/study.db`);
    using store = StudyStore.open(`${folder}/study.db`);
    const records = store.results().map(({ record }) => record);
    for (const kind of ["jsonl", "csv", "parquet"]) await exportStudy(store, `${folder}/out.${kind}`);
    await assertRejects(
      () => exportStudy(store, `${folder}/out.xlsx`),
      UsageError,
      ".jsonl, .csv, .parquet, .optuna",
    );
    const lines = Deno.readTextFileSync(`${folder}/out.jsonl`).trimEnd().split("\n");
    assertEquals(lines.map((line) => JSON.parse(line)), records as never);
    assertEquals(Deno.readTextFileSync(`${folder}/out.csv`).split("\n").length, 5);
    const rows = await parquetReadObjects({ file: Deno.readFileSync(`${folder}/out.parquet`).buffer });
    assertEquals(rows.map(({ trial, perplexity, nonCausal }) => [trial, perplexity, nonCausal]), [
      ["t0", 50, false],
      ["t1", 49, false],
      ["t2", 48, false],
    ]);
    assertEquals(JSON.parse(rows[0]!.skipRatioPerLayer), records[0]!.skipRatioPerLayer as never);
    const read = await readRecords(`${folder}/out.jsonl`);
    await assertRejects(
      () => importTrials(`${folder}/new.db`, read),
      UsageError,
      "its digest is not that of",
    );
    const conditions: Required<RunConditions> = {
      ...{ task: "perplexity_word", version: "0", model: "tiny", modelSha256: "a", text: "prose", bos: true },
      ...{ textSha256: "b", context: 64, textTokens: 640, backend: "cpu", cacheDType: "f32", dtype: "q8_0" },
      ...{ ruleSha256: "c", calibrationSha256: "e", calibration: "other, 9 tokens", products: "bf16" },
      ...{ taskSha256: "f", items: 9, filterFrom: "25%" },
    };
    const runDigest = await digestConditions(conditions), whole = { ...read[0]!, ...conditions, runDigest };
    assertEquals(await importTrials(`${folder}/all.db`, [whole]), 1);
    Deno.writeTextFileSync(`${folder}/out.jsonl`, `${lines[0]}\n${lines[1]!.replace('"d"', '"e"')}\n`);
    await assertRejects(
      () => readRecords(`${folder}/out.jsonl`),
      UsageError,
      "line 2 ran under other conditions",
    );
    Deno.writeTextFileSync(
      `${folder}/out.jsonl`,
      lines[0]!.replace('"perplexity":50', '"perplexity":20') + "\n",
    );
    await assertRejects(
      () => readRecords(`${folder}/out.jsonl`),
      UsageError,
      'line 1, field "perplexity": found 20, expected what its losses come to, 50',
    );
  }));

Deno.test("mergeStudies() takes each trial's first result, and refuses other conditions", () =>
  withFolder((folder) => {
    for (const [name, count] of [["a", 2], ["b", 3]] as const) makeStudy(`${folder}/${name}.db`, count);
    using a = StudyStore.open(`${folder}/a.db`);
    using b = StudyStore.open(`${folder}/b.db`);
    assertEquals([mergeStudies([a, b], `${folder}/all.db`), mergeStudies([b], `${folder}/all.db`)], [3, 0]);
    using all = StudyStore.open(`${folder}/all.db`);
    assertEquals(all.results().map(({ record }) => record.trial), ["t0", "t1", "t2"]);
    assertEquals([all.count().waiting, all.get("dense")], [1, summary.dense]);
    const conditions = { ...facts.conditions, modelSha256: "c" };
    using other = StudyStore.create(`${folder}/other.db`, { ...facts, conditions });
    assertThrows(
      () => mergeStudies([a, other], `${folder}/no.db`),
      UsageError,
      "modelSha256 c, expected the same",
    );
    assertEquals(exists(`${folder}/no.db`), false);
    return Promise.resolve();
  }));

Deno.test("a study is exported as Optuna itself writes one", () =>
  withFolder(async (folder) => {
    const golden = JSON.parse(Deno.readTextFileSync(new URL("./testdata/optuna.json", import.meta.url)));
    const conditions = { model: "tiny", context: 64 } as unknown as StudyFacts["conditions"];
    using store = StudyStore.create(`${folder}/study.db`, { ...facts, conditions });
    const [random, fair] = ["random", "random-protected"] as const;
    const options = ([[random, 0.25, 0], [fair, 0.5, 1], [fair, 0.25, 2], [random, 0.5, 3]] as const).map((
      [fusion, pruneRatio, seed],
      i,
    ) => ({ digest: `d${i}`, options: recordOptions(resolveOptions({ fusion, pruneRatio, seed })) }));
    store.add(options);
    const finishedAt = "2026-01-02T03:04:05.000Z", timeMs = 2000;
    const result = (trial: string, perplexity: number, attentionFlopsAvoided: number) => {
      const measured = { perplexity, attentionFlopsDense: 4, attentionFlopsAvoided, nonCausal: false };
      return { trial, finishedAt, timeMs, ...measured } as unknown as Trial;
    };
    const claim = () => store.claim("one", 60_000)!;
    const first = claim();
    store.report(first, [{ chunk: 0, loss: 3.5, denseLoss: 3 }, { chunk: 1, loss: 4, denseLoss: 3 }], 1000);
    store.finish(first, result("d0", 50, 1));
    store.finish(claim(), result("d1", 60.5, 2));
    const third = claim(), fourth = claim();
    store.release("one");
    const again = [claim(), claim()];
    store.close(again[1]!.digest, "no number");
    assertEquals([third.number, fourth.number, again[1]!.number, store.release("one")], [3, 4, 4, 1]);
    assertEquals(await exportStudy(store, `${folder}/optuna.db`, "optuna"), 4);
    using db = new DatabaseSync(`${folder}/optuna.db`);
    for (const [table, { columns, rows }] of Object.entries<{ columns: string[]; rows: object[] }>(golden)) {
      const found = db.prepare(`SELECT * FROM ${table}`).all().map((row) => {
        const { datetime_start: _, datetime_complete: __, ...rest } = { ...row };
        return Object.fromEntries(
          Object.entries(rest).map((
            [key, value],
          ) => [key, /_json$/.test(key) ? JSON.parse(value as string) : value]),
        );
      });
      const names = db.prepare(`SELECT name FROM pragma_table_info('${table}')`).all().map(({ name }) =>
        name
      );
      assertEquals(names, columns, table);
      const sorted = (list: object[]) => list.map((row) => dropId(table, row)).sort();
      assertEquals(sorted(found), sorted(rows), table);
    }
    const times = db.prepare("SELECT datetime_start AS start, datetime_complete AS end FROM trials").all();
    assertEquals({ ...times[0] }, { start: "2026-01-02 03:04:03.000000", end: "2026-01-02 03:04:05.000000" });
    await assertRejects(
      () => exportStudy(store, `${folder}/optuna.db`, "optuna"),
      UsageError,
      "it is there already",
    );
  }));

/** A space with all that axes may contain. */
const SPACE = {
  fusion: ["variance", "learned", "mean"],
  tau: { low: 0.1, high: 8, log: true, when: { fusion: "variance" } },
  recent: { low: 0, high: 64, step: 8 },
  gamma: { low: 0.5, high: 0.9 },
  pruneRatio: 0.5,
};

/** A search whose proposals are listed, one of which is run and one stopped by a race. */
function makeSearch(path: string, objectives: readonly ObjectiveName[]): StudyStore {
  const space = readSearchSpace(SPACE);
  const request = { space, sampler: "sobol", seed: 0, trials: 8, objectives, limits: {} } as const;
  const store = StudyStore.create(path, facts),
    proposed = proposeTrials(new Search(request).list());
  store.add(proposed);
  store.set("listed", request);
  const [first, second] = proposed, record = makeTrial({}, 0.5, 50);
  store.take([
    { ...first!, record: { ...record, trial: first!.digest } as Trial },
    {
      ...second!,
      record: { ...record, trial: second!.digest, stopped: "behind", stoppedAt: record.finishedAt } as never,
    },
  ]);
  return store;
}

Deno.test("a search goes to Optuna with its objectives, its axes, and of each trial the axes that it has", () =>
  withFolder(async (folder) => {
    using store = makeSearch(`${folder}/study.db`, ["loss"]);
    assertEquals(await exportStudy(store, `${folder}/one.db`, "optuna"), store.trials().length);
    using db = new DatabaseSync(`${folder}/one.db`);
    const all = (sql: string) => db.prepare(sql).all().map((row) => ({ ...row }));
    assertEquals(all("SELECT direction, objective FROM study_directions"), [{
      direction: "MINIMIZE",
      objective: 0,
    }]);
    assertEquals(all("SELECT objective, value FROM trial_values"), [{ objective: 0, value: 50 }]);
    assertEquals(all("SELECT state FROM trials").slice(0, 3).map(({ state }) => state), [
      ...["COMPLETE", "PRUNED", "WAITING"],
    ]);
    const distributions = all(
      "SELECT DISTINCT param_name AS name, distribution_json AS json FROM trial_params",
    );
    const found = new Map(distributions.map(({ name, json }) => [name, JSON.parse(json as string)]));
    assertEquals(found.size, distributions.length);
    assertEquals(Object.fromEntries(found), {
      fusion: { name: "CategoricalDistribution", attributes: { choices: ["variance", "learned", "mean"] } },
      tau: { name: "FloatDistribution", attributes: { step: null, low: 0.1, high: 8, log: true } },
      recent: { name: "IntDistribution", attributes: { step: 8, low: 0, high: 64, log: false } },
      gamma: { name: "FloatDistribution", attributes: { step: null, low: 0.5, high: 0.9, log: false } },
    });
    // tau is there where its condition holds, and nowhere else.
    const rows = all(
      "SELECT trial_id AS id, param_name AS name, param_value AS value FROM trial_params",
    ) as { id: number; name: string; value: number }[];
    for (const own of Map.groupBy(rows, ({ id }) => id).values()) {
      const values = new Map(own.map(({ name, value }) => [name, value]));
      assertEquals(values.has("tau"), values.get("fusion") === 0);
      assertEquals(values.has("pruneRatio"), false);
    }
    using two = makeSearch(`${folder}/two_study.db`, ["loss", "cache"]);
    await exportStudy(two, `${folder}/two.db`, "optuna");
    using both = new DatabaseSync(`${folder}/two.db`);
    assertEquals(both.prepare("SELECT value FROM trial_values").all().map(({ value }) => value), [50, 0.6]);
  }));

/** Goes on with a study: its best trial, and the same ranges until the sampler has learnt enough to use them. */
const GO_ON = `
import optuna, sys
study = optuna.load_study(study_name="mine", storage=sys.argv[1])
assert study.best_value == 50, study.best_value
for _ in range(12):
    trial = study.ask()
    fusion = trial.suggest_categorical("fusion", ["variance", "learned", "mean"])
    if fusion == "variance":
        trial.suggest_float("tau", 0.1, 8, log=True)
    trial.suggest_int("recent", 0, 64, step=8)
    trial.suggest_float("gamma", 0.5, 0.9)
    study.tell(trial, 60.0)
`;

Deno.test({
  ...unless(
    lackOfPython(["optuna"]),
    "Optuna goes on with an exported search: its best trial, its ranges, its race",
  ),
  fn: () =>
    withFolder(async (folder) => {
      using store = makeSearch(`${folder}/study.db`, ["loss"]);
      await exportStudy(store, `${folder}/one.db`, "optuna");
      await runPython("-c", GO_ON, `sqlite:///${folder}/one.db`);
    }),
});

Deno.test("CSV and Parquet hold trials that a race stopped, and the name of each method", () =>
  withFolder(async (folder) => {
    using store = makeSearch(`${folder}/study.db`, ["loss"]);
    assertEquals(await exportStudy(store, `${folder}/all.csv`), 2);
    const [head, ...rows] = Deno.readTextFileSync(`${folder}/all.csv`).trimEnd().split("\n");
    assertEquals([head!.split(",")[0], rows.length, rows.some((row) => row.includes("behind"))], [
      "method",
      2,
      true,
    ]);
  }));

Deno.test("no control is the best of a study, nor on its front", () =>
  withFolder((folder) => {
    using store = StudyStore.create(`${folder}/study.db`, facts);
    const cases: [MethodOptions, number][] = [
      [{ fusion: "random", seed: 2 }, 41],
      [{ fusion: "variance" }, 45],
      [{ side: "key", fusion: "random", kvRatio: 0.15 }, 40.5],
      [{ fusion: "mean", shuffle: true }, 42],
    ];
    const records = cases.map(([options, perplexity], i) => ({
      ...{ ...makeTrial(options, 0.5, perplexity), ...facts.conditions },
      ...{ trial: `t${i}`, runDigest: "d" },
    }));
    store.take(finishedTrials(records as Trial[]));
    const study = listShort(store);
    assertEquals(study.trials.map(({ method, isControl, pareto }) => [method, isControl, pareto]), [
      ["random", true, false],
      ["variance", false, true],
      ["random on keys", true, false],
      ["mean shuffled", true, false],
    ]);
    assertEquals(bestFirst(study).map(({ value }) => value), [45]);
    assertEquals(describeBest(study), "ppl 45.00 by variance at 0.5");
    return Promise.resolve();
  }));

/** A row as a text that does not depend on the order of keys, nor on the number of its place. */
function dropId(table: string, row: object): string {
  const id = table === "trials" || table === "studies" ? "" : Object.keys(row)[0];
  const inOrder = (_: string, value: unknown) =>
    typeof value === "object" && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).filter(([name]) => name !== id || !/_id$/.test(name)).sort())
      : value;
  return JSON.stringify(row, inOrder);
}

Deno.test("thinTrials() keeps the front, and of the rest one in a place", () => {
  const trial = (spent: number | undefined, value: number | undefined, pareto = false) => ({
    number: 1,
    state: "complete",
    ...{ method: "variance", asked: "0.5", isControl: false, options: {} },
    spent,
    value,
    pareto,
  });
  const [low, high, twin, front] = [trial(0, 0), trial(1, 1), trial(1, 0.9999), trial(1, 0.99999, true)];
  assertEquals(
    thinTrials([low, high, twin, front, trial(undefined, undefined)] as never),
    [low, high, front] as never,
  );
});

Deno.test("listShort() names the options that vary", () =>
  withFolder((folder) => {
    makeStudy(`${folder}/study.db`);
    using store = StudyStore.open(`${folder}/study.db`);
    const { varying, trials } = listShort(store);
    assertEquals(varying, ["fusion", "seed"]);
    const single = {
      conditions: store.conditions,
      trials: () => store.trials().slice(0, 1),
      fields: () => [{}],
    };
    assertEquals(listShort(single as unknown as StudyStore).varying, []);
    assertEquals(trials.map(({ value, options }) => [value, options.fusion]), [
      [50, "variance"],
      [49, "mean"],
      [48, "variance"],
      [undefined, "variance"],
    ]);
    assert(trials[2]!.pareto && !trials[0]!.pareto);
    return Promise.resolve();
  }));

Deno.test("study refuses lies of a file whose digests are right, in one line", () =>
  withFolder(async (folder) => {
    const record = {
      ...makeTrial({ fusion: "mean" }, 0.5, 50),
      trial: "a",
      ...facts.conditions,
      runDigest: "d",
    };
    const [{ digest, options }] = finishedTrials([record as Trial]) as [
      ReturnType<typeof finishedTrials>[number],
    ];
    const lies: [command: string, options: object, record: object, says: RegExp][] = [
      ["show", { pruneRatio: {} }, {}, /trial 1, field "pruneRatio": found/],
      ["show", { seed: "te\x1bxt" }, {}, /trial 1, field "seed": found/],
      ["show", {}, { perplexity: {} }, /found no numbers in the result of trial 1/],
      ["best", {}, { nllDelta: {} }, /its trial a, field "nllDelta": found {}, expected a number or null/],
    ];
    for (const [i, [command, wrong, more, says]] of lies.entries()) {
      const path = `${folder}/${i}.db`;
      {
        using store = StudyStore.create(path, facts);
        store.take([{ digest, options: { ...options, ...wrong }, record: { ...record, ...more } as Trial }]);
        store.set("dense", summary.dense);
        store.set("environment", environment);
      }
      const { code, stdout, stderr } = await runTask("study", command, path);
      assertEquals([code, stdout, stderr.split("\n").length], [2, "", 2]);
      assertMatch(stderr, says);
      assert(!stderr.includes("\x1b"));
    }
  }));
