/** A study that another process has locked: a writer waits, then reports it in one line, and loses nothing. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { DatabaseSync } from "node:sqlite";
import { delay, readResults, readTrials } from "./study_testing.ts";
import { IN_SLOW_TIER, unless } from "../../../lib/testing.ts";
import { finish, resumeArguments, runProcess, spawnTask, withFolder } from "../testing.ts";

const SMALL = ["--context", "32", "--tokens", "32", "--warmup", "8", "--threads", "1", "--quiet"];
const seeds = (
  count: number,
) => ["--method", "random", "--seed", Array.from({ length: count }, (_, i) => i).join(",")];

/** Keeps a study locked, as a process in the midst of a change does. */
function lock(folder: string): Disposable {
  const db = new DatabaseSync(`${folder}/study.db`, { timeout: 5000 });
  db.exec("BEGIN IMMEDIATE");
  return db;
}

Deno.test({
  ...unless(
    IN_SLOW_TIER, // a command that finds a study locked waits for 20 s
    "sweep, worker and study say that a study is locked, at once or in the midst of a run, and go on later",
  ),
  fn: () =>
    withFolder(async (folder) => {
      const begun = `${folder}/begun`, long = `${folder}/long`, path = `${begun}/study.db`;
      const first = await runProcess("sweep", ...SMALL, ...seeds(4), "--time", "0.001s", "--out", begun);
      assertEquals([first.code, readTrials(begun).length], [0, 1], first.stderr);
      assertEquals((await runProcess("study", "export", begun, "--out", `${folder}/one.jsonl`)).code, 0);
      const before = readResults(path);
      const running = finish(await spawnTask("sweep", [...SMALL, ...seeds(400), "--out", long]));
      while (readTrials(long).length < 2) await delay(5);
      {
        using _begun = lock(begun);
        using _long = lock(long);
        const show = await runProcess("study", "show", begun);
        assertEquals([show.code, show.stderr], [0, ""]); // a command that only reads need not wait
        const refused = await Promise.all([
          runProcess("sweep", ...SMALL, ...seeds(4), "--resume", begun),
          runProcess("worker", "--study", path, "--threads", "1", "--quiet"),
          runProcess("study", "import", `${folder}/one.jsonl`, "--out", path),
        ]);
        for (const { code, stdout, stderr } of refused) {
          assertEquals([code, stdout], [2, ""]);
          assertMatch(stderr, /^Cannot use study "[^"]*": another process has locked it \([^\n]*\)[^\n]*\n$/);
        }
        const { code, stdout, stderr } = await running;
        assertEquals([code, stdout], [2, ""]);
        assertMatch(
          stderr,
          /^Cannot use study "[^"]*": another process has locked it \([^\n]*\): \d+ finished trials are in [^\n]*\n$/,
        );
        assertEquals(readResults(path), before);
        const kept = readTrials(long);
        assert(kept.length >= 2 && kept.length < 400, `${kept.length}`);
        assertEquals(resumeArguments("sweep", stderr).slice(-2), ["--resume", long]);
      }
      const kept = readTrials(long),
        again = await runProcess("sweep", ...SMALL, ...seeds(8), "--resume", long);
      assertEquals([again.code, again.stderr], [0, ""]);
      assertEquals(readTrials(long).slice(0, kept.length), kept);
      const { code } = await runProcess("worker", "--study", path, "--threads", "1", "--quiet");
      assertEquals([code, readTrials(begun).length], [0, 4]);
    }),
});
