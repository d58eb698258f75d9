/**
 * Damaged files of studies: bits flipped, the end cut off, rows, settings and tables changed. Each command reports it in
 * one line, or has the results of the whole study.
 */
import { assert, assertEquals } from "@std/assert";
import { DatabaseSync } from "node:sqlite";
import { uniform } from "../../../lib/math/random.ts";
import { IN_SLOW_TIER, unless } from "../../../lib/testing.ts";
import { exists } from "../cli/files.ts";
import { readResults } from "./study_testing.ts";
import { type Finished, runTask, withFolder } from "../testing.ts";

/** Manual changes of stored data. */
const CHANGES: readonly string[] = [
  "UPDATE result SET record = 'x' WHERE sequence = 1",
  "UPDATE result SET record = '{}'",
  "UPDATE result SET record = 'null' WHERE trial = 2",
  ...["1", "5", "9"].map((digit) =>
    `UPDATE result SET record = replace(record, '${digit}', '7') WHERE trial = 1`
  ),
  "UPDATE result SET trial = 99 WHERE trial = 1",
  "DELETE FROM result WHERE trial = 1",
  "UPDATE trial SET state = 'waiting' WHERE number = 1",
  "UPDATE trial SET options = '[]'",
  "DELETE FROM setting WHERE key = 'conditions'",
  "DELETE FROM setting WHERE key = 'flags'",
  "UPDATE setting SET value = json_set(value, '$.context', 32) WHERE key = 'conditions'",
  "UPDATE setting SET value = '7' WHERE key = 'dense'",
  "UPDATE setting SET value = '{' WHERE key = 'environment'",
  ...["setting", "trial", "chunk", "result", "worker", "seal"].map((table) =>
    `ALTER TABLE ${table} RENAME TO other`
  ),
  "ALTER TABLE result DROP COLUMN record",
  "ALTER TABLE trial ADD COLUMN extra TEXT NOT NULL DEFAULT 'x'",
  "CREATE TRIGGER t AFTER UPDATE ON trial BEGIN DELETE FROM result; END",
  "DROP INDEX trial_state",
];

/** A study with one more fault; `draw` gives numbers in [0, 1). */
function damage(path: string, whole: Uint8Array<ArrayBuffer>, at: number, draw: () => number): string {
  if (at % 2 === 0) {
    Deno.writeFileSync(path, whole);
    const sql = CHANGES[at / 2 % CHANGES.length]!;
    using db = new DatabaseSync(path, { enableForeignKeyConstraints: false });
    db.exec(sql);
    return sql;
  }
  const bytes = whole.slice(), place = Math.floor(draw() * bytes.length);
  if (at % 8 === 1) {
    Deno.writeFileSync(path, bytes.subarray(0, place));
    return `cut at byte ${place}`;
  }
  const bit = Math.floor(8 * draw());
  bytes[place]! ^= 1 << bit;
  Deno.writeFileSync(path, bytes);
  return `bit ${bit} of byte ${place}`;
}

/** Whether a command has refused a study, which it must in one line. */
function isRefused(what: string, { code, stdout, stderr }: Finished): boolean {
  if (code === 0 && stderr === "") return false;
  assert(
    code === 2 && stdout === "" && /^Cannot [^\n]*\n$/.test(stderr),
    `${what}: ${code} ${stdout}${stderr}`,
  );
  return true;
}

Deno.test({
  ...unless(IN_SLOW_TIER, "damaged studies are refused in one line, or come to the same results"),
  fn: () =>
    withFolder(async (folder) => {
      const small = ["--context", "32", "--tokens", "64", "--warmup", "8", "--threads", "1", "--quiet"];
      const args = [...small, "--method", "random", "--seed", "1,2,3,4"], first = `${folder}/whole`;
      assertEquals((await runTask("sweep", ...args, "--jobs", "1", "--out", first)).code, 0);
      const whole = Deno.readFileSync(`${first}/study.db`), results = readResults(`${first}/study.db`);
      const expectSame = (what: string, path: string) => {
        const found = readResults(path);
        for (const [trial, result] of found) assertEquals(result, results.get(trial), what);
        return found.size;
      };
      let draws = 0n, refused = 0;
      for (let at = 0; at < 12; at++) {
        const place = `${folder}/${at}`, path = `${place}/study.db`;
        Deno.mkdirSync(place);
        const what = damage(path, whole, at, () => uniform(draws++)), left = Deno.readFileSync(path);
        const run = async (task: string, ...more: string[]) => {
          const isTold = isRefused(`${what}: ${task} ${more[0]}`, await runTask(task, ...more));
          if (isTold) assertEquals(Deno.readFileSync(path), left, `${what}: ${task} has changed the file`);
          return isTold;
        };
        await run("study", "show", path);
        await run("study", "export", path, "--out", `${place}/out.jsonl`);
        await run("worker", "--study", path, "--threads", "1", "--quiet");
        if (await run("sweep", ...args, "--resume", place)) refused++;
        else assertEquals(expectSame(what, path), results.size, what);
        const mended = `${place}/mended.db`;
        if (!isRefused(`${what}: repair`, await runTask("study", "repair", path, "--out", mended))) {
          expectSame(`${what}: repair`, mended);
        } else assert(!exists(mended), `${what}: repair has left a half`);
      }
      assert(refused > 0 && refused < 12, `${refused} of 12 refused`);
    }),
});
