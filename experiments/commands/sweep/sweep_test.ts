import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { DatabaseSync } from "node:sqlite";
import { StudyStore } from "../../../lib/sweep/mod.ts";
import {
  finish,
  interruptTask,
  listFolder,
  resumeArguments,
  runTask,
  spawnTask,
  withFolder,
} from "../testing.ts";
import { command } from "../sweep.ts";
import { prepareStudy, readResults, readTrials, runKilled } from "../study/study_testing.ts";

/** Small enough to run often: 2 chunks of 64 tokens. */
const SMALL = ["--context", "64", "--tokens", "128", "--warmup", "8", "--threads", "1"];
/** Trials enough to be interrupted in their midst. */
const SEEDS = Array.from({ length: 40 }, (_, i) => i).join(",");
const RECORD =
  ("fusion gamma tau lambda tail recent pruneRatio warmup threshold keyState achievedRatio skipRatioPerLayer " +
    "perplexity densePerplexity nllDelta nllDeltaSe kl top1Agreement tokens kvBytesHeld kvBytesAvoided " +
    "attentionFlopsAvoided totalFlopsAvoided timeMs denseTimeMs seed version modelSha256 textSha256").split(
      " ",
    );

Deno.test("sweep --json prints the summary alone and writes everything", () =>
  withFolder(async (folder) => {
    const out = `${folder}/deep/out`;
    const { code, stdout, stderr } = await runTask(
      "sweep",
      ...SMALL,
      ...["--method", "variance,learned,random,oracle", "--tau", "0.5,1", "--prune-ratio", "0.25,0.5"],
      ...["--out", out, "--json", "--quiet"],
    );
    assertEquals([code, stderr], [0, ""]);
    const summary = JSON.parse(stdout);
    assertEquals(Object.keys(summary), ["trials", "dense", "environment"]);
    assertEquals(summary.trials.length, 10); // tau has an effect only on `variance`
    for (const trial of summary.trials) {
      for (const key of RECORD) assert(trial[key] !== undefined, key);
      assertEquals([trial.tokens, trial.skipRatioPerLayer.length], [128, 10]);
      assert(
        Math.abs(trial.achievedRatio - trial.pruneRatio) < 0.05,
        `${trial.fusion} ${trial.achievedRatio}`,
      );
      assert(trial.kl >= 0 && trial.nllDeltaSe > 0 && trial.kvBytesAvoided > 0);
      assert(Math.abs(Math.log(trial.perplexity / trial.densePerplexity) - trial.nllDelta) < 1e-6);
    }
    const order = summary.trials.map((
      t: { pruneRatio: number; perplexity: number },
    ) => [t.pruneRatio, t.perplexity]);
    assertEquals(order, order.toSorted((a: number[], b: number[]) => a[0]! - b[0]! || a[1]! - b[1]!));
    assertEquals(listFolder(out), ["report.html", "study.db", "summary.json"]);
    assertEquals(JSON.parse(Deno.readTextFileSync(`${out}/summary.json`)), summary);
    assertEquals(readTrials(out).length, 10);
    const report = Deno.readTextFileSync(`${out}/report.html`);
    assertStringIncludes(report, "plotly.js (cartesian");
    assertEquals(report.match(/<tr[ >]/g)!.length, 12);
  }));

Deno.test("sweep takes a grid from a file, with flags in place of its axes, and prints a table", () =>
  withFolder(async (folder) => {
    Deno.writeTextFileSync(
      `${folder}/grid.json`,
      '[{"fusion": ["mean", "key"], "prune-ratio": [0.1, 0.2]}, {"preset": "paper"}]',
    );
    const { code, stdout, stderr } = await runTask(
      "sweep",
      ...["--context", "520", "--tokens", "520", "--threads", "1"],
      ...["--grid", `${folder}/grid.json`, "--prune-ratio", "0.4", "--out", `${folder}/out`],
    );
    assertEquals(code, 0, stderr);
    const table = stdout.split("\n");
    assertEquals(table.filter((line) => /^ +0\.4 /.test(line)).length, 3);
    // `paper` sets the recent window to 0, which therefore is no column.
    assertMatch(stdout, /^ +0\.4 +paper( \*)? +0\.\d{3}/m);
    assertEquals(table[0]!.includes("recent"), false);
    assertMatch(table[2]!, /^ +- +dense +0\.000/);
    assertStringIncludes(stderr, "[3/3]");
    assertStringIncludes(stderr, "Warning: chunks of 520 tokens; the model was trained on 512\n");
    assertMatch(stdout, /: 1 chunk of 520 tokens, dense perplexity \d+\.\d\d\.\n/);
    assertStringIncludes(stdout, `Report: ${folder}/out/report.html`);
  }));

Deno.test("sweep goes on after it was killed, and keeps every finished trial", () =>
  withFolder(async (folder) => {
    const out = `${folder}/out`;
    const args = [...SMALL, "--method", "random", "--seed", SEEDS, "--out", out];
    const child = await spawnTask("sweep", args);
    const ended = finish(child);
    while (readTrials(out).length < 2) await new Promise((resolve) => setTimeout(resolve, 2));
    child.kill("SIGKILL");
    await ended;
    const before = readTrials(out);
    assert(before.length >= 2 && before.length < 40, `${before.length} trials before the kill`);
    assertEquals(listFolder(out).filter((name) => !/^study\.db/.test(name)), []);
    const { code, stderr } = await runTask("sweep", ...args, "--resume");
    assertEquals(code, 0, stderr);
    const after = readTrials(out);
    assertEquals([after.length, after.slice(0, before.length)], [40, before]);
    assertEquals(new Set(after.map(({ seed }) => seed)).size, 40);
    assertEquals(JSON.parse(Deno.readTextFileSync(`${out}/summary.json`)).trials.length, 40);
    const mixed = await runTask("sweep", ...SMALL, "--context=32", "--out", out, "--resume");
    assertEquals(mixed.code, 2);
    assertEquals(readTrials(out), after);
  }));

Deno.test("the trial of a killed process waits again at once, whatever its lease", () =>
  withFolder(async (folder) => {
    for (const task of ["sweep", "worker"]) {
      const out = `${folder}/${task}`, args = [...SMALL, "--method", "random", "--seed", SEEDS, "--out", out];
      await interruptTask("sweep", args, () => readTrials(out).length >= 2, "SIGKILL");
      const study = new DatabaseSync(`${out}/study.db`);
      study.exec("UPDATE trial SET lease = 1e15 WHERE state = 'running'");
      study.close();
      // In a process of its own it gives up the permission for programs, which finding ended processes needs.
      const child = spawnTask(task, task === "sweep" ? [...args, "--resume"] : ["--study", out]);
      const limit = setTimeout(() => child.kill("SIGKILL"), 120_000);
      const { code, stderr } = await finish(child);
      clearTimeout(limit);
      assertEquals([code, readTrials(out).length], [0, 40], stderr);
    }
  }));

Deno.test("sweep stops on Ctrl-C, says how to go on, and that command does", () =>
  withFolder(async (folder) => {
    const out = `${folder}/an out`, log = `${out}/study.db`;
    const args = [
      ...SMALL,
      "--method=random",
      "--seed",
      SEEDS,
      "--out",
      out,
    ];
    const { code, stdout, stderr } = await interruptTask("sweep", args, () => readTrials(out).length >= 1);
    assertEquals([code, stdout], [130, ""]);
    const finished = readTrials(out);
    assertMatch(stderr, new RegExp(`Interrupted: ${finished.length} finished trials? (is|are) in ${log}`));
    assertEquals(listFolder(out), ["study.db"]);
    const resumed = await runTask("sweep", ...resumeArguments("sweep", stderr), "--json");
    assertEquals(resumed.code, 0, resumed.stderr);
    assertEquals(JSON.parse(resumed.stdout).trials.length, 40);
    assertEquals(readTrials(out).slice(0, finished.length), finished);
  }));

Deno.test("sweep stops on SIGTERM as on Ctrl-C", () =>
  withFolder(async (folder) => {
    const child = await spawnTask("sweep", [
      ...SMALL,
      "--method=random",
      "--seed",
      SEEDS,
      "--out",
      `${folder}/out`,
    ]);
    const ended = finish(child);
    while (readTrials(`${folder}/out`).length < 1) await new Promise((resolve) => setTimeout(resolve, 2));
    child.kill("SIGTERM");
    const { code, stdout, stderr } = await ended;
    assertEquals([code, stdout], [143, ""]);
    assertMatch(stderr, /Interrupted: .* To go on: deno task sweep /);
  }));

Deno.test("sweep ends its work when its progress has no reader", () =>
  withFolder(async (folder) => {
    const child = await spawnTask("sweep", [...SMALL, "--method=random,mean", "--out", `${folder}/out`]);
    await child.stderr.cancel();
    const stdout = await new Response(child.stdout).text();
    assertEquals((await child.status).code, 0);
    assertStringIncludes(stdout, "Report: ");
  }));

Deno.test("sweep names a study.db that is none", () =>
  withFolder(async (folder) => {
    Deno.mkdirSync(`${folder}/study.db`);
    const { code, stderr } = await runTask("sweep", ...SMALL, "--resume", folder);
    assertEquals(code, 2);
    assertMatch(
      stderr,
      /^Cannot open study [^\n]*: it is no plain file\n$/,
    );
  }));

Deno.test("sweep says how to take in the trials of an older version, and goes on with them", () =>
  withFolder(async (folder) => {
    const args = [...SMALL, "--method", "random", "--seed", "1,2,3", "--quiet"], old = `${folder}/old`;
    const whole = await runTask("sweep", ...args, "--out", `${folder}/whole`);
    assertEquals(whole.code, 0, whole.stderr);
    const trials = readTrials(`${folder}/whole`), log = `${old}/trials.jsonl`;
    Deno.mkdirSync(old);
    const lines = trials.slice(0, 2).map((trial) => `${JSON.stringify(trial)}\n`).join("") +
      '{"trial": "torn';
    Deno.writeTextFileSync(log, lines);
    const refused = await runTask("sweep", ...args, "--resume", old);
    assertEquals([refused.code, refused.stderr], [
      2,
      `Cannot use "${old}": it holds trials.jsonl, which an older version wrote (take it into a study by deno task ` +
      "study import, or take another --out)\n",
    ]);
    const imported = await runTask("study", "import", log, "--out", `${old}/study.db`);
    assertEquals([imported.code, imported.stderr], [0, ""]);
    const { code, stderr } = await runTask("sweep", ...args, "--resume", old);
    assertEquals([code, stderr], [0, ""]);
    assertEquals(readTrials(old).slice(0, 2), trials.slice(0, 2));
    assertEquals(readResults(`${old}/study.db`), readResults(`${folder}/whole/study.db`));
    assertEquals(Deno.readTextFileSync(log), lines);
    using store = StudyStore.open(`${old}/study.db`);
    assertEquals(store.flags.backend, "cpu"); // workers read the backend from the study
  }));

Deno.test("workers that are killed at random leave each trial once, equal to an undisturbed run's", () =>
  withFolder(async (folder) => {
    const path = await prepareStudy(folder, [...SMALL, "--method", "random", "--seed", SEEDS]);
    let draws = 0;
    const killed = await runKilled(path, {
      ...{ workers: 2, kills: 2, mostMs: 100, atWork: true },
      random: () => 0.2 * (draws++ % 4),
    });
    assert(killed > 0);
    assertEquals(readResults(path), readResults(`${folder}/whole/study.db`));
    assertEquals(readResults(path).size, 40);
  }));

Deno.test("sweep --jobs comes to the same trials", () =>
  withFolder(async (folder) => {
    const args = [...SMALL, "--method", "random", "--seed", SEEDS, "--quiet"];
    for (const jobs of ["1", "2"]) {
      const { code, stderr } = await runTask("sweep", ...args, "--jobs", jobs, "--out", `${folder}/${jobs}`);
      assertEquals([code, stderr], [0, ""]);
      assertEquals(listFolder(`${folder}/${jobs}`), ["report.html", "study.db", "summary.json"]);
    }
    assertEquals(readResults(`${folder}/2/study.db`), readResults(`${folder}/1/study.db`));
  }));

Deno.test("a sweep none of whose trials has a result says so, and ends with exit code 1", () => {
  const { findFailure } = command as unknown as { findFailure(result: object): string | undefined };
  const find = (trials: readonly object[], failed: number) =>
    findFailure({ summary: { trials }, failed, folder: "f" });
  assertEquals([find([{}], 1), find([], 0)], [undefined, undefined]);
  assertEquals(find([], 2), "Cannot show a result: all 2 trials failed (deno task study show f)");
});
