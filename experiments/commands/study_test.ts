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
import { UsageError } from "../../lib/errors.ts";
import { makeSummary, makeTrial } from "../../lib/plot/testing.ts";
import {
  digestConditions,
  finishedTrials,
  type RunConditions,
  type StudyFacts,
  StudyStore,
  type Trial,
} from "../../lib/sweep/mod.ts";
import { exists } from "./cli/files.ts";
import { exportStudy, importTrials, mergeStudies, readRecords } from "./study/files.ts";
import { listShort } from "./study/open.ts";
import { thinTrials } from "./study/plot.ts";
import { runTask, withFolder } from "./testing.ts";

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
    const list = await runTask("study", "list", folder, "--json");
    assertEquals([list.code, list.stderr], [0, ""]);
    const [first, second] = JSON.parse(list.stdout);
    assertEquals([first.study, first.complete, first.waiting, first.best], [
      `${folder}/a/study.db`,
      3,
      1,
      "ppl 48.00",
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
    [["shew", "x"], "Cannot run deno task study shew"],
    [["show"], "with 0 names"],
    [["show", "/none/study.db"], "there is no such file"],
    [["export", "/none/study.db"], "there is no such file"],
    [["import", "/none"], "expected --out FILE"],
  ];
  const { main } = await import("./study.ts");
  for (const [args, part] of cases) await assertRejects(() => main(args), UsageError, part);
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
    assertEquals(rows.map(({ trial, perplexity, looksAhead }) => [trial, perplexity, looksAhead]), [
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
    const golden = JSON.parse(Deno.readTextFileSync(new URL("study/testdata/optuna.json", import.meta.url)));
    const conditions = { model: "tiny", context: 64 } as unknown as StudyFacts["conditions"];
    using store = StudyStore.create(`${folder}/study.db`, { ...facts, conditions });
    const options = [["variance", 0.25, 0], ["mean", 0.5, 1], ["mean", 0.25, 2], ["variance", 0.5, 3]].map((
      [fusion, pruneRatio, seed],
      i,
    ) => ({ digest: `d${i}`, options: { fusion, pruneRatio, seed, tau: 1 } as never }));
    store.add(options);
    const result = (perplexity: number, attentionFlopsAvoided: number) =>
      ({ perplexity, attentionFlopsDense: 4, attentionFlopsAvoided, looksAhead: false }) as unknown as Trial;
    const claim = () => store.claim("one", 60_000)!;
    const first = claim();
    store.report(first, [{ chunk: 0, loss: 3.5, denseLoss: 3 }, { chunk: 1, loss: 4, denseLoss: 3 }], 1000);
    store.finish(first, result(50, 1));
    store.finish(claim(), result(60.5, 2));
    const third = claim(), fourth = claim();
    store.release("one");
    const again = [claim(), claim()];
    store.fail(again[1]!, "no number");
    assertEquals([third.number, fourth.number, again[1]!.number, store.release("one")], [3, 4, 4, 1]);
    await exportStudy(store, `${folder}/optuna.db`, "optuna");
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
    await assertRejects(
      () => exportStudy(store, `${folder}/optuna.db`, "optuna"),
      UsageError,
      "it is there already",
    );
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
    options: {},
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
    assertEquals(trials.map(({ value, options }) => [value, options.fusion]), [
      [50, "variance"],
      [49, "mean"],
      [48, "variance"],
      [undefined, "variance"],
    ]);
    assert(trials[2]!.pareto && !trials[0]!.pareto);
    return Promise.resolve();
  }));
