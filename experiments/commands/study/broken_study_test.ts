/** Studies that are broken, of another version or of another model: each command says so in one line and leaves them alone. */
import { assertEquals, assertRejects } from "@std/assert";
import { DatabaseSync } from "node:sqlite";
import { UsageError } from "../../../lib/errors.ts";
import { runTask, withFolder } from "../testing.ts";
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
  "--fusion",
  "key",
];

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
      ["found a store of version 9, expected 1", ["sweep", "worker", "study"], () => {
        changed("PRAGMA user_version = 9");
      }],
      ["expected the same, found", ["sweep", "worker"], () => {
        changed("UPDATE setting SET value = json_set(value, '$.modelSha256', 'aa') WHERE key = 'conditions'");
      }],
      ["ran with products int16, expected the same, found exact", ["sweep", "worker"], () => {
        changed("UPDATE setting SET value = json_set(value, '$.products', 'int16') WHERE key = 'conditions'");
      }],
      ["expected the same, found", ["sweep", "worker"], () => {
        changed("UPDATE setting SET value = json_set(value, '$.version', '0.0.0') WHERE key = 'conditions'");
      }],
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
