/**
 * Studies that are broken, of another version or of another model: each command reports that in one line and does not
 * change them.
 */
import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { DatabaseSync } from "node:sqlite";
import { UsageError } from "../../../lib/errors.ts";
import { runTask, withFolder } from "../testing.ts";
import { StudyStore, type Trial } from "../../../lib/sweep/mod.ts";
import { exists } from "../cli/files.ts";
import { readResults } from "./study_testing.ts";
import { command as study } from "../study.ts";
import { command as sweep } from "../sweep.ts";
import { command as worker } from "../worker.ts";

const SMALL = [
  "--context",
  "32",
  "--tokens",
  "32",
  "--warmup",
  "8",
  "--threads",
  "1",
  "--quiet",
  "--method",
  "key",
];

/** A study under other conditions, and otherwise as it was. */
function changeConditions(path: string, change: object): void {
  using store = StudyStore.open(path);
  store.set("conditions", { ...store.conditions, ...change });
}

Deno.test("sweep, worker and study refuse a broken study in one line, and leave it as it is", () =>
  withFolder(async (folder) => {
    const whole = `${folder}/whole`, bad = `${folder}/bad`, path = `${bad}/study.db`;
    assertEquals((await runTask("sweep", ...SMALL, "--out", whole)).code, 0);
    const bytes = await Deno.readFile(`${whole}/study.db`);
    const changed = (sql: string) => {
      using db = new DatabaseSync(path);
      db.exec(sql);
    };
    const faults: readonly (readonly [part: string, of: readonly string[], make: () => void])[] = [
      ["the file is damaged", ["sweep", "worker", "study"], () => {
        Deno.writeFileSync(path, bytes.map((byte, at) => at > 100 ? byte ^ 0x55 : byte));
      }],
      ["it is no study's file", ["sweep", "worker", "study"], () => Deno.writeTextFileSync(path, "")],
      ["found a store of version 2, expected 3", ["sweep", "worker", "study"], () => {
        changed("PRAGMA user_version = 2");
      }],
      ["setting conditions is not what was written", ["sweep", "worker", "study"], () => {
        changed("UPDATE setting SET value = json_set(value, '$.modelSha256', 'aa') WHERE key = 'conditions'");
      }],
      ["it has no conditions", ["sweep", "worker", "study"], () => {
        changed("DELETE FROM setting WHERE key = 'conditions'");
      }],
      ["result 1 is not what was written", ["sweep", "worker", "study"], () => {
        changed("UPDATE result SET record = 'x'");
      }],
      ["expected the same, found", ["sweep", "worker"], () => changeConditions(path, { modelSha256: "aa" })],
      ["ran with products int16, expected the same, found exact", ["sweep", "worker"], () => {
        changeConditions(path, { products: "int16" });
      }],
      ["expected the same, found", ["sweep", "worker"], () => changeConditions(path, { version: "0.0.0" })],
    ];
    const commands: { readonly [name: string]: () => Promise<unknown> } = {
      sweep: () => sweep.main([...SMALL, "--resume", bad]),
      worker: () => worker.main(["--study", path, "--quiet", "--threads", "1"]),
      study: () => study.main(["show", bad]),
    };
    await Deno.mkdir(bad);
    for (const [part, of, make] of faults) {
      await Deno.writeFile(path, bytes);
      make();
      const before = await Deno.readFile(path);
      for (const name of of) {
        const { message } = await assertRejects(commands[name]!, UsageError, part, name);
        assertEquals([message.split("\n").length, message.includes("study.db")], [1, true], message);
        assertEquals(await Deno.readFile(path), before, `${name}: ${part}`);
      }
    }
  }));

Deno.test("a study is named by its file or its folder, and by no empty name", () =>
  withFolder(async (folder) => {
    for (const command of ["show", "best"]) {
      await assertRejects(
        () => study.main([command, ""]),
        UsageError,
        'Cannot open study "": there is no such file',
      );
    }
    const args = ["--study", folder, "--threads", "1", "--quiet"];
    await assertRejects(() => worker.main(args), UsageError, `${folder}/study.db": there is no such file`);
    assertEquals((await runTask("sweep", ...SMALL, "--out", `${folder}/own`)).code, 0);
    assertEquals(await worker.main(["--study", `${folder}/own`, "--threads", "1", "--quiet"]), 0);
  }));

Deno.test("study repair makes a study of what is sound, in which the rest waits again", () =>
  withFolder(async (folder) => {
    const whole = `${folder}/whole`, bad = `${folder}/bad.db`;
    const args = [...SMALL.slice(0, -2), "--method", "random", "--seed", "1,2,3,4"];
    assertEquals((await runTask("sweep", ...args, "--out", whole)).code, 0);
    const bytes = await Deno.readFile(`${whole}/study.db`), results = readResults(`${whole}/study.db`);
    const cases: readonly (readonly [sql: string, said: RegExp])[] = [
      [
        "UPDATE result SET record = replace(record, '1', '2') WHERE trial = 2",
        /^3 results, 4 trials .* 1 row left/,
      ],
      [
        "DELETE FROM setting WHERE key = 'conditions'; UPDATE trial SET options = '{}'",
        /^4 results, 0 trials /,
      ],
      ["DROP TABLE chunk; DROP INDEX trial_state", /^4 results, 4 trials .* 0 rows left/],
      [
        "UPDATE trial SET state = 'running', owner = 'none', lease = 9e15; DELETE FROM result",
        /^0 results, 4 trials /,
      ],
    ];
    for (const [i, [sql, said]] of cases.entries()) {
      const mended = `${folder}/${i}`;
      Deno.mkdirSync(mended);
      await Deno.writeFile(bad, bytes);
      {
        using db = new DatabaseSync(bad, { enableForeignKeyConstraints: false });
        db.exec(sql);
      }
      const repaired = await runTask("study", "repair", bad, "--out", `${mended}/study.db`);
      assertEquals([repaired.code, repaired.stderr], [0, ""]);
      assertMatch(repaired.stdout, said);
      assertEquals((await runTask("sweep", ...args, "--resume", mended)).code, 0);
      assertEquals([...readResults(`${mended}/study.db`)].sort(), [...results].sort());
    }
    Deno.writeFileSync(bad, bytes.map((byte, at) => at > 100 ? byte ^ 0x55 : byte));
    const none = await runTask("study", "repair", bad, "--out", `${folder}/none.db`);
    assertEquals([none.code, exists(`${folder}/none.db`)], [2, false]);
    assertMatch(none.stderr, /^Cannot repair study [^\n]*: neither its conditions nor a result is sound\n$/);
  }));

/** A study that the last commit with stores of version 2 made: three results, and a trial that waits. */
const OLD = new URL("testdata/study_2.sql", import.meta.url);

Deno.test("study repair brings a study of an older version up to date, and its sweep goes on", () =>
  withFolder(async (folder) => {
    const text = await Deno.readTextFile(OLD), old = `${folder}/old.db`;
    const repair = (to: string) => runTask("study", "repair", old, "--out", `${folder}/${to}/study.db`);
    const made: Trial[][] = [];
    for (const [version, sql] of [[2, ""], [1, "DROP TABLE seal; PRAGMA user_version = 1"]] as const) {
      await Deno.remove(old).catch(() => {});
      {
        using db = new DatabaseSync(old, { enableForeignKeyConstraints: false });
        db.exec(text + sql);
      }
      const before = await Deno.readFile(old), shown = await runTask("study", "show", old);
      assertEquals([shown.code, shown.stdout], [2, ""]);
      assertMatch(
        shown.stderr,
        new RegExp(
          `^Cannot open study .*: found a store of version ${version}, expected 3 \\(.*repair.*\\)\n$`,
        ),
      );
      Deno.mkdirSync(`${folder}/${version}`);
      const { code, stdout, stderr } = await repair(String(version));
      assertEquals([code, stderr], [0, ""]);
      assertMatch(stdout, /^3 results, 4 trials .*; 0 rows left out; from version \d of the store to 3\n$/);
      assertEquals(await Deno.readFile(old), before);
      using store = StudyStore.open(`${folder}/${version}/study.db`);
      made.push(store.results<Trial>().map(({ record }) => record));
      assertEquals([store.flags["matmul"], store.flags["products"]], ["exact", undefined]);
    }
    assertEquals(made[0], made[1]);
    // Only the names have changed, and the digests of the trials that one of them decides in.
    {
      using db = new DatabaseSync(old);
      const rows = db.prepare("SELECT record FROM result ORDER BY sequence").all() as { record: string }[];
      const names = { looksAhead: "nonCausal", wholeShare: "wholeFraction" };
      const renamed = rows.map(({ record }): Record<string, unknown> =>
        Object.fromEntries(
          Object.entries(JSON.parse(record)).map(([name, own]) => [names[name as "looksAhead"] ?? name, own]),
        )
      );
      const differs = made[0]!.map(({ trial }, i) => trial !== renamed[i]!["trial"]);
      assertEquals(differs, renamed.map(({ whole }) => whole !== "none"));
      assertEquals(made[0] as unknown, renamed.map((own, i) => ({ ...own, trial: made[0]![i]!.trial })));
    }
    const flags = ["--context", "64", "--tokens", "1600", "--threads", "1", "--warmup", "8", "--side", "key"];
    flags.push(
      "--method",
      "key,mean",
      "--whole",
      "auto,none",
      "--whole-fraction",
      "0.6",
      "--kv-ratio",
      "0.5",
    );
    const gone = await runTask("sweep", ...flags, "--race", "--jobs", "1", "--resume", `${folder}/2`);
    assertEquals(gone.code, 0, gone.stderr);
    assertMatch(gone.stderr, /^\[4\/4\] mean on keys 0\.5 of KV: /m);
    assertEquals(gone.stderr.includes("[3/4]"), false);
    assertEquals(readResults(`${folder}/2/study.db`).size, 4);
  }));

Deno.test("study repair refuses a study of a newer version, and an older one whose result does not fit, in one line", () =>
  withFolder(async (folder) => {
    const text = await Deno.readTextFile(OLD);
    const cases = [
      [
        "PRAGMA user_version = 9",
        /^Cannot repair study .*: found a store of version 9, expected 3 \(open it with .*\n$/,
      ],
      [
        "DROP TABLE seal; PRAGMA user_version = 1; UPDATE result SET record = json_set(record, '$.kl', 'x') WHERE trial = 3",
        /^Cannot bring study .* from version 1 to 3: trial \w+, field "kl": found "x", expected [^\n]*\(open it with .*\n$/,
      ],
    ] as const;
    for (const [sql, said] of cases) {
      const old = `${folder}/old.db`, out = `${folder}/new.db`;
      {
        using db = new DatabaseSync(old, { enableForeignKeyConstraints: false });
        db.exec(text + sql);
      }
      const { code, stdout, stderr } = await runTask("study", "repair", old, "--out", out);
      assertEquals([code, stdout, Array.from(Deno.readDirSync(folder)).length], [2, "", 1]);
      assertMatch(stderr, said);
      await Deno.remove(old);
    }
  }));
