/**
 * Damages a study's file: bits flipped, its end cut off, rows, settings and tables changed. Each command must report it
 * in one line, or have the results of the whole study: `deno run -A … experiments/tools/attack/store.ts [studies]`.
 */
import { DatabaseSync } from "node:sqlite";
import { uniform } from "../../../lib/random.ts";
import { exists } from "../../commands/cli/files.ts";
import { readResults } from "../../commands/study/study_testing.ts";
import { type Finished, runTask, withFolder } from "../../commands/testing.ts";

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

/** Whether a command has refused a study. @throws If the refusal has more than one line. */
function isRefused(what: string, { code, stdout, stderr }: Finished): boolean {
  if (code === 0 && stderr === "") return false;
  if (code === 2 && stdout === "" && /^Cannot [^\n]*\n$/.test(stderr)) return true;
  throw new Error(`${what}: exit code ${code}: ${stdout}${stderr}`);
}

/** Damages studies. @returns Counts, in a line @throws If a command prints a stack trace, or accepts a fault. */
export async function attackStore(studies: number): Promise<string> {
  let refused = 0, harmless = 0, sound = 0, draws = 0n;
  await withFolder(async (folder) => {
    const small = ["--context", "32", "--tokens", "64", "--warmup", "8", "--threads", "1", "--quiet"];
    const args = [...small, "--method", "random", "--seed", "1,2,3,4"], first = `${folder}/whole`;
    const made = await runTask("sweep", ...args, "--jobs", "1", "--out", first);
    if (made.code !== 0) throw new Error(made.stderr);
    const whole = Deno.readFileSync(`${first}/study.db`), results = readResults(`${first}/study.db`);
    const expectWhole = (what: string, path: string, isPart: boolean) => {
      const found = readResults(path);
      const wrong = [...found].find(([trial, result]) =>
        JSON.stringify(results.get(trial)) !== JSON.stringify(result)
      );
      if (wrong !== undefined || !isPart && found.size !== results.size) {
        throw new Error(`${what}: ${found.size} of ${results.size} results, ${wrong?.[0] ?? "none"} unlike`);
      }
      return found.size;
    };
    for (let at = 0; at < studies; at++) {
      const place = `${folder}/${at}`, path = `${place}/study.db`;
      Deno.mkdirSync(place);
      const what = damage(path, whole, at, () => uniform(draws++));
      const left = Deno.readFileSync(path);
      const run = async (task: string, ...more: string[]) => {
        const isTold = isRefused(`${what}: ${task} ${more[0]}`, await runTask(task, ...more));
        if (!isTold) return false;
        if (`${Deno.readFileSync(path)}` !== `${left}`) {
          throw new Error(`${what}: ${task} has changed the file`);
        }
        return true;
      };
      const told = [
        await run("study", "show", path),
        await run("study", "export", path, "--out", `${place}/out.jsonl`),
        await run("worker", "--study", path, "--threads", "1", "--quiet"),
        await run("sweep", ...args, "--resume", place),
      ];
      if (told.at(-1)) refused++;
      else {
        harmless++;
        expectWhole(what, path, false);
      }
      const mended = `${place}/mended.db`;
      if (!isRefused(`${what}: repair`, await runTask("study", "repair", path, "--out", mended))) {
        sound += expectWhole(`${what}: repair`, mended, true);
      } else if (exists(mended)) throw new Error(`${what}: repair has left a half`);
    }
  });
  return `${studies} damaged studies: ${refused} refused in one line by sweep --resume, ${harmless} came to the same results; ` +
    `repair kept ${sound} of ${4 * studies} results`;
}

if (import.meta.main) console.log(await attackStore(Number(Deno.args[0] ?? 60)));
