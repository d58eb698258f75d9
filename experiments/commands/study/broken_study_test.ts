/**
 * Studies that are broken, of another version or of another model: each command reports that in one line and does not
 * change them.
 */
import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { DatabaseSync } from "node:sqlite";
import { UsageError } from "../../../lib/errors.ts";
import { runTask, withFolder } from "../testing.ts";
import { StudyStore } from "../../../lib/sweep/mod.ts";
import { exists } from "../cli/files.ts";
import { readResults } from "./study_testing.ts";
import { main as study } from "../study.ts";
import { main as sweep } from "../sweep.ts";
import { main as worker } from "../worker.ts";

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
      sweep: () => sweep([...SMALL, "--resume", bad]),
      worker: () => worker(["--study", path, "--quiet", "--threads", "1"]),
      study: () => study(["show", bad]),
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
        () => study([command, ""]),
        UsageError,
        'Cannot open study "": there is no such file',
      );
    }
    const args = ["--study", folder, "--threads", "1", "--quiet"];
    await assertRejects(() => worker(args), UsageError, `${folder}/study.db": there is no such file`);
    assertEquals((await runTask("sweep", ...SMALL, "--out", `${folder}/own`)).code, 0);
    assertEquals(await worker(["--study", `${folder}/own`, "--threads", "1", "--quiet"]), 0);
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
