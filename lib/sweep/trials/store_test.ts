import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { DatabaseSync } from "node:sqlite";
import { UsageError } from "../../errors.ts";
import { MAX_ATTEMPTS, StudyStore } from "./store.ts";
import { recordOptions, resolveOptions } from "../../methods/bind/options.ts";
import { migrate, migrateDigest, MIGRATIONS } from "./migrations.ts";
import { salvageStudy } from "./salvage.ts";
import { explainStoreError } from "./store_errors.ts";
import { TABLES } from "./store_tables.ts";
import type { ClaimedTrial, HeldTrial, ProposedTrial, StudyFacts } from "./store_records.ts";
import type { RunConditions, SearchRequest, Trial } from "../trial.ts";

const conditions = { version: "0.0.0", model: "fake", modelSha256: "aa" } as RunConditions;
const facts: StudyFacts = { name: "mine", conditions, runDigest: "d", flags: { model: "tiny" } };
const proposals = (count: number): ProposedTrial[] =>
  Array.from({ length: count }, (_, i) => ({ digest: `d${i}`, options: { seed: i } as never }));
const record = (trial: string, perplexity = 1) => ({ trial, perplexity }) as unknown as Trial;

async function withStudy(count: number, test: (store: StudyStore, path: string) => void) {
  const folder = await Deno.makeTempDir();
  try {
    using store = StudyStore.create(`${folder}/study.db`, facts);
    store.add(proposals(count));
    test(store, `${folder}/study.db`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("a study keeps what it is, its trials, their chunks and results", () =>
  withStudy(2, (store, path) => {
    const claim = store.claim("one", 1000)!;
    assertEquals([claim.number, claim.digest, claim.options, claim.attempt], [1, "d0", { seed: 0 }, 1]);
    assert(
      store.report(claim, [{ chunk: 0, loss: 3, denseLoss: 2 }, { chunk: 1, loss: 4, denseLoss: 1 }], 1000),
    );
    assert(store.finish(claim, record("d0", 7)));
    store.set("dense", { tokens: 5 } as never);
    using other = StudyStore.open(path);
    assertEquals(other.facts, facts);
    assertEquals(other.get("dense"), { tokens: 5 } as never);
    assertEquals(
      other.chunks(1),
      [
        { chunk: 0, loss: 3, denseLoss: 2 },
        { chunk: 1, loss: 4, denseLoss: 1 },
      ].map((value) => Object.assign(Object.create(null), value)),
    );
    assertEquals(other.results(), [{ sequence: 1, record: record("d0", 7) }]);
    assertEquals(other.results(1), []);
    assertEquals(other.trials().map(({ state, options }) => [state, options]), [
      ["complete", { seed: 0 }],
      ["waiting", { seed: 1 }],
    ] as never);
    assertEquals(other.count(), { waiting: 1, running: 0, complete: 1, pruned: 0, failed: 0 });
    assertEquals(other.workers().map(({ owner, finished, trial }) => [owner, finished, trial]), [[
      "one",
      1,
      null,
    ]]);
    assertEquals(other.fields(["perplexity"]).map((row) => ({ ...row })), [
      { number: 1, state: "complete", perplexity: 7 },
      { number: 2, state: "waiting", perplexity: null },
    ]);
  }));

Deno.test("add() adds a trial once, and with `only` takes out those that wait and are not wanted", () =>
  withStudy(3, (store) => {
    const claim = store.claim("one", 1000)!;
    assertEquals(store.add(proposals(5).slice(2), ["d2", "d3", "d4"]), 2);
    assertEquals(store.trials().map(({ digest }) => digest), ["d0", "d2", "d3", "d4"]);
    assert(store.finish(claim, record("d0")));
  }));

Deno.test("a search's proposals are made once each, by whoever is first, and forgotten with the search", () =>
  withStudy(1, (store, path) => {
    const search = { sampler: "tpe", trials: 5, seed: 0 } as SearchRequest;
    store.begin(search);
    using other = StudyStore.open(path);
    const make = (digest: string | null) => ({
      point: { tau: 0.1, seed: [1, 2] },
      digest,
      error: digest && null,
    });
    const options = proposals(1)[0]!.options;
    assertEquals(store.propose(search, 0, make("d9"), options), true);
    assertEquals(other.propose(search, 0, make("d8"), options), false);
    assertEquals(other.propose(search, 1, make("d0"), options), true); // a trial that is there already
    assertEquals(other.propose(search, 2, make(null)), true);
    assertEquals(store.proposals(1), [make("d0"), make(null)]);
    assertEquals(store.trials().map(({ digest }) => digest), ["d0", "d9"]);
    other.begin({ ...search, trials: 9 });
    assertEquals(other.proposals().length, 3);
    assertThrows(
      () => store.propose(search, 3, make("d7"), options),
      UsageError,
      "it has another search now (begin again)",
    );
    other.begin({ ...search, seed: 1, trials: 9 });
    assertEquals([other.proposals(), other.trials().length], [[], 2]);
    other.begin(undefined);
    assertEquals(store.get("search"), undefined);
  }));

Deno.test("a trial is one worker's, until its lease runs out; what comes too late is not kept", () =>
  withStudy(2, (store, path) => {
    using other = StudyStore.open(path);
    const late = store.claim("one", -1)!;
    assertEquals(other.claim("two", 60_000)!.digest, "d1");
    assert(store.report(late, [{ chunk: 0, loss: 1, denseLoss: 1 }], -1)); // no process has taken it yet
    const again = other.claim("two", 60_000)!;
    assertEquals([again.digest, again.attempt, other.chunks(1)], ["d0", 2, []]);
    assertEquals(other.claim("three", 1), undefined);
    assertEquals(store.report(late, [{ chunk: 0, loss: 1, denseLoss: 1 }], 1000), false);
    assertEquals(store.finish(late, record("d0", 1)), false);
    assert(other.finish(again, record("d0", 2)));
    assertEquals(store.finish(late, record("d0", 1)), false);
    assertEquals(store.results().map(({ record }) => record), [record("d0", 2)]);
  }));

Deno.test("release() gives a worker's trial back at once, and a trial that ends its workers fails", () =>
  withStudy(1, (store) => {
    for (let attempt = 1; attempt < MAX_ATTEMPTS; attempt++) {
      assertEquals(store.claim("one", 60_000)!.attempt, attempt);
      assertEquals(store.owners(), ["one"]);
      assertEquals([store.release("two"), store.release("one")], [0, 1]);
    }
    assertEquals(store.claim("one", -1)!.attempt, MAX_ATTEMPTS);
    assertEquals(store.claim("one", -1), undefined);
    assertEquals(store.trials()[0]!.error, `its worker ended ${MAX_ATTEMPTS} times`);
  }));

Deno.test("close() and a pruned trial are ends, and values of chunks stay", () =>
  withStudy(2, (store) => {
    const [first, second] = [store.claim("one", 1000)!, store.claim("one", 1000)!] as [
      ClaimedTrial,
      ClaimedTrial,
    ];
    store.close(first.digest, "no number");
    store.report(second, [{ chunk: 3, loss: 1, denseLoss: 1 }], 1000);
    assert(store.finish(second, { ...record("d1"), stopped: "behind" } as never));
    assertEquals(store.trials().map(({ state, error }) => [state, error]), [["failed", "no number"], [
      "pruned",
      null,
    ]]);
    assertEquals(store.chunks(2).length, 1);
    assertEquals(store.claim("two", 1000), undefined);
  }));

Deno.test("take() keeps results of elsewhere once", () =>
  withStudy(1, (store) => {
    const taken = proposals(2).map((trial, i) => ({ ...trial, record: record(trial.digest, i) }));
    const claim = store.claim("one", 1000)!;
    assertEquals([store.take(taken), store.take(taken)], [2, 0]);
    assertEquals(store.finish(claim, record("d0", 9)), false);
    assertEquals(store.results().map(({ record }) => record), [record("d0", 0), record("d1", 1)]);
  }));

Deno.test("units of other commands are kept by kind, in their order, once each", () =>
  withStudy(0, (store, path) => {
    interface Unit {
      readonly at: number;
    }
    const unitsOf = (of: StudyStore) => of.units<Unit>("unit", ({ at }) => String(at));
    // A study of a version without units has no table of them.
    assertEquals([unitsOf(store).finished, store.countUnits("unit"), store.listUnits()], [[], 0, []]);
    assertEquals(store.readBytes("bytes", "0"), undefined);
    unitsOf(store).append({ at: 2 }, { at: 1 });
    store.writeBytes("bytes", "0", Uint8Array.of(1, 2, 3));
    store.units("other", () => "").append({ at: 7 });
    using other = StudyStore.open(path);
    assertEquals(unitsOf(other).finished, [{ at: 2 }, { at: 1 }]);
    assertEquals(["unit", "bytes", "none"].map((kind) => other.countUnits(kind)), [2, 1, 0]);
    assertEquals(other.listUnits().map((unit) => ({ ...unit })), [
      { kind: "unit", at: 2 },
      { kind: "unit", at: 1 },
      { kind: "other", at: 7 },
    ]);
    assertEquals(other.readBytes("bytes", "0"), Uint8Array.of(1, 2, 3));
    assertThrows(() => unitsOf(store).append({ at: 3 }, { at: 1 }), Error, "UNIQUE constraint failed");
    assertEquals(unitsOf(other).finished.length, 2); // all of the given units, or none
    const shared = () => store.units<Unit & { name: string }>("shared", ({ at }) => String(at), true);
    shared().append({ at: 1, name: "one" });
    shared().append({ at: 1, name: "two" }, { at: 2, name: "two" });
    assertEquals(shared().finished, [{ at: 1, name: "one" }, { at: 2, name: "two" }]);
  }));

Deno.test("a file that is none, damaged, locked or of another version is refused in one line", () =>
  withStudy(400, (store, path) => {
    const refuse = (at: string, part: string) =>
      assertThrows(
        () => {
          using opened = StudyStore.open(at, { timeoutMs: 20 });
          opened.trials();
          opened.claim("two", 1);
        },
        UsageError,
        part,
      );
    refuse(`${path}.none`, "there is no such file");
    Deno.writeTextFileSync(`${path}.text`, "no study at all".repeat(300));
    refuse(`${path}.text`, "it is no study's file");
    Deno.writeTextFileSync(`${path}.empty`, "");
    refuse(`${path}.empty`, "it is no study's file");
    {
      using other = new DatabaseSync(path);
      other.exec("BEGIN IMMEDIATE");
      refuse(path, "another process has locked it");
    }
    assertThrows(() => StudyStore.create(path, facts), UsageError, "it is there already");
    assertThrows(
      () => StudyStore.create("/nonexistent/study.db", facts),
      UsageError,
      "cannot be read or written",
    );
    store[Symbol.dispose]();
    const bytes = Deno.readFileSync(path);
    Deno.writeFileSync(`${path}.torn`, bytes.map((byte, i) => i > 4096 ? byte ^ 0x55 : byte));
    refuse(`${path}.torn`, "the file is damaged");
    bytes[63] = 9; // the last byte of user_version
    Deno.writeFileSync(`${path}.new`, bytes);
    refuse(`${path}.new`, "found a store of version 9, expected 3");
  }));

Deno.test("of processes that make a study at once, one makes it, and the others find it whole", async () => {
  const folder = await Deno.makeTempDir(), path = `${folder}/study.db`;
  const code = `
    const { StudyStore } = await import(${JSON.stringify(import.meta.resolve("./store.ts"))});
    for (let i = 0; i < 30; i++) {
      const path = ${JSON.stringify(folder)} + "/" + i + ".db";
      try {
        StudyStore.create(path, ${JSON.stringify(facts)})[Symbol.dispose]();
        console.log("made");
      } catch (error) {
        if (!error.message.endsWith("it is there already")) throw error;
        StudyStore.open(path)[Symbol.dispose]();
      }
    }`;
  const args = ["eval", "--no-config", "--no-lock", code];
  const ends = await Promise.all(
    Array.from({ length: 3 }, () => new Deno.Command(Deno.execPath(), { args }).output()),
  );
  const said = ends.map(({ stdout }) => new TextDecoder().decode(stdout)).join("");
  assertEquals(
    ends.map(({ code, stderr }) => [code, new TextDecoder().decode(stderr)]),
    Array(3).fill([0, ""]),
  );
  assertEquals([
    said.match(/made/g)!.length,
    Array.from(Deno.readDirSync(folder)).filter(({ name }) => name.endsWith(".part")),
  ], [30, []]);
  await Deno.remove(path.replace("/study.db", ""), { recursive: true });
});

Deno.test("ranked() gives trials by a number of their results, the best first, a part at a time", () =>
  withStudy(4, (store) => {
    const values: [string, number][] = [["d0", 3], ["d1", 1], ["d2", 2], ["d3", 1]];
    store.take(
      values.map(([digest, value]) => ({ digest, options: {} as never, record: record(digest, value) })),
    );
    const digests = (isLeast: boolean, from = 0, count = 9) =>
      store.ranked("perplexity", isLeast, from, count).map(({ trial }) => trial.digest);
    assertEquals([digests(true), digests(false), digests(true, 1, 2)], [["d1", "d3", "d2", "d0"], [
      "d0",
      "d2",
      "d1",
      "d3",
    ], ["d3", "d2"]]);
    assertEquals(store.ranked("none", true, 0, 9), []);
  }));

Deno.test("held() says who has a trial, until when, and when its worker was heard of", () =>
  withStudy(1, (store) => {
    const before = Date.now();
    store.claim("one", 60_000);
    const [{ number, owner, untilMs, seenMs }] = store.held() as [HeldTrial];
    assertEquals([number, owner, untilMs - seenMs, seenMs >= before], [1, "one", 60_000, true]);
  }));

Deno.test("what a study keeps is compared with what was written, wherever it is read", () =>
  withStudy(3, (store, path) => {
    const search = { sampler: "tpe", trials: 5, seed: 0 } as SearchRequest;
    store.begin(search);
    store.propose(search, 0, { point: { tau: 0.1 }, digest: null, error: "no" });
    assert(store.finish(store.claim("one", 1000)!, record("d0", 7)));
    store.units<{ at: number }>("unit", ({ at }) => String(at)).append({ at: 1 });
    store.writeBytes("bytes", "0", Uint8Array.of(1, 2, 3));
    store[Symbol.dispose]();
    const bytes = Deno.readFileSync(path);
    const cases: [sql: string, part: string, read?: (store: StudyStore) => unknown][] = [
      ["UPDATE result SET record = 'x'", "result 1 is not what was written", (s) => s.results()],
      ["UPDATE result SET record = '{}'", "result 1 is not", (s) => s.fields(["perplexity"])],
      ["UPDATE result SET record = replace(record, '7', '8')", "result 1 is not", (s) => s.records([1])],
      ["UPDATE trial SET options = '{}' WHERE digest = 'd1'", "trial d1 is not", (s) => s.trials()],
      ["UPDATE trial SET options = '{}' WHERE digest = 'd1'", "trial d1 is not", (s) => s.claim("two", 1)],
      ["UPDATE trial SET digest = 'd9' WHERE digest = 'd1'", "trial d9 is not", (s) => s.find("d9")],
      ["UPDATE proposal SET error = 'yes'", "proposal 0 is not", (s) => s.proposals()],
      [
        "UPDATE unit SET record = '{}' WHERE kind = 'unit'",
        "unit unit 1 is not",
        (s) => s.units("unit", () => ""),
      ],
      ["UPDATE unit SET key = '2' WHERE kind = 'unit'", "unit unit 2 is not", (s) => s.listUnits()],
      [
        "UPDATE unit SET record = x'01' WHERE kind = 'bytes'",
        "unit bytes 0 is not",
        (s) => s.readBytes("bytes", "0"),
      ],
      ["DELETE FROM seal WHERE place = 'result'", "result 1 is not", (s) => s.results()],
      ["UPDATE setting SET value = '\"e\"' WHERE key = 'runDigest'", "setting runDigest is not"],
      ["DELETE FROM setting WHERE key = 'conditions'", "it has no conditions"],
      ["DELETE FROM result", "1 trials have ended, and 0 results are there"],
      [
        "UPDATE trial SET state = 'waiting' WHERE digest = 'd0'",
        "0 trials have ended, and 1 results are there",
      ],
      ["ALTER TABLE trial ADD COLUMN extra TEXT", "its table trial is not that of a study"],
      ["DROP INDEX trial_state", "its table trial_state is not that of a study"],
      ["DROP TABLE seal", "its table seal is not that of a study"],
      ["CREATE TRIGGER t AFTER INSERT ON chunk BEGIN DELETE FROM result; END", "its table t is not"],
      ["ALTER TABLE chunk RENAME TO chunks", "its table chunk is not that of a study"],
    ];
    for (const [sql, part, read = () => {}] of cases) {
      Deno.writeFileSync(path, bytes);
      {
        using db = new DatabaseSync(path, { enableForeignKeyConstraints: false });
        db.exec(sql);
      }
      const { message } = assertThrows(
        () => {
          using opened = StudyStore.open(path);
          read(opened);
        },
        UsageError,
        `the file is damaged, ${part}`,
        sql,
      );
      assertEquals(message.includes("\n"), false);
      // Without its digest nothing counts as sound.
      assertEquals(salvageStudy(path).trials.length >= 2, sql !== "DROP TABLE seal", sql);
    }
  }));

Deno.test("a disk that fails is not called full, and what SQLite says else is one line", () => {
  const said = (message: string, path: string) =>
    String(explainStoreError(path, Object.assign(new Error(message), { code: "ERR_SQLITE_ERROR" })));
  const path = `${Deno.cwd()}/study.db`;
  assertMatch(said("disk I/O error", path), /its disk fails, or it is no plain file \(disk I\/O error\)$/);
  assertMatch(said("database or disk is full", path), /found no space left on the device/);
  assertMatch(
    said("no such column: x", path),
    /the file is damaged, no such column: x \(deno task study repair/,
  );
});

Deno.test("a table whose rows go round in a damaged page is read once", () =>
  withStudy(4, (store, path) => {
    store[Symbol.dispose]();
    const bytes = Deno.readFileSync(path), view = new DataView(bytes.buffer);
    {
      using db = new DatabaseSync(path);
      const sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'trial'";
      const { rootpage } = db.prepare(sql).get() as { rootpage: number };
      const page = (rootpage - 1) * view.getUint16(16),
        cells = page + 8,
        second = page + view.getUint16(cells + 2);
      assertEquals(bytes[second + 1], 2); // behind its length, the number of the second row
      bytes[second + 1] = 9;
    }
    Deno.writeFileSync(path, bytes);
    assertThrows(() => StudyStore.open(path), UsageError, "the file is damaged");
    assertEquals(salvageStudy(path).trials.map(({ digest }) => digest), ["d0", "d1"]);
  }));

Deno.test("each version of the store has its migration from the one before", () => {
  assertEquals(MIGRATIONS.length, TABLES.version - 1);
});

Deno.test("migrate() gives content its present names: those of flags only in flags", () => {
  const record = { looksAhead: true, products: "int16", options: [{ wholeShare: 0.6 }] };
  assertEquals(migrate(2, "result", record) as unknown, {
    ...{ nonCausal: true, products: "int16" },
    options: [{ wholeFraction: 0.6 }],
  });
  assertEquals(migrate(1, "result", record), migrate(2, "result", record));
  assertEquals(migrate(2, "flags", { products: "int16" }) as unknown, { matmul: "int16" });
  assertEquals(migrate(TABLES.version, "result", record), record);
});

Deno.test("migrateDigest() computes a trial's digest anew where a renamed option decides", () => {
  const options = (whole: "none" | "auto", version = 2) =>
    migrateDigest(version, "old", recordOptions(resolveOptions({ side: "key", whole, wholeFraction: 0.6 })));
  assertEquals(options("none"), "old");
  assertMatch(options("auto"), /^[0-9a-f]{12}$/);
  assertEquals(options("auto", TABLES.version), "old");
});
