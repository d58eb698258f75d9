import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import {
  finish,
  interruptTask,
  listFolder,
  readLines,
  resumeArguments,
  runTask,
  spawnTask,
  withFolder,
} from "./testing.ts";

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
      ...["--fusion", "variance,learned,random,oracle", "--tau", "0.5,1", "--prune-ratio", "0.25,0.5"],
      ...["--out", out, "--json", "--quiet"],
    );
    assertEquals([code, stderr], [0, ""]);
    const summary = JSON.parse(stdout);
    assertEquals(Object.keys(summary), ["trials", "dense", "environment"]);
    assertEquals(summary.trials.length, 10); // tau counts for `variance` alone
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
    assertEquals(listFolder(out), ["report.html", "summary.json", "trials.jsonl"]);
    assertEquals(JSON.parse(Deno.readTextFileSync(`${out}/summary.json`)), summary);
    assertEquals(readLines(`${out}/trials.jsonl`).length, 10);
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
    // The recent window of 0 is what `paper` means, and is no column.
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
    const out = `${folder}/out`, log = `${out}/trials.jsonl`;
    const args = [...SMALL, "--fusion", "random", "--seed", SEEDS, "--out", out];
    const child = await spawnTask("sweep", args);
    const ended = finish(child);
    while (readLines(log).length < 2) await new Promise((resolve) => setTimeout(resolve, 2));
    child.kill("SIGKILL");
    await ended;
    const before = readLines(log);
    assert(before.length >= 2 && before.length < 40, `${before.length} trials before the kill`);
    assertEquals(listFolder(out), ["trials.jsonl"]);
    Deno.writeTextFileSync(log, '{"trial": "torn', { append: true });
    const { code, stderr } = await runTask("sweep", ...args, "--resume");
    assertEquals(code, 0, stderr);
    const after = readLines(log);
    assertEquals([after.length, after.slice(0, before.length)], [40, before]);
    assertEquals(new Set(after.map((line) => JSON.parse(line).seed)).size, 40);
    assertEquals(JSON.parse(Deno.readTextFileSync(`${out}/summary.json`)).trials.length, 40);
    const mixed = await runTask("sweep", ...SMALL, "--context=32", "--out", out, "--resume");
    assertEquals(mixed.code, 2);
    assertEquals(readLines(log), after);
  }));

Deno.test("sweep stops on Ctrl-C, says how to go on, and that command does", () =>
  withFolder(async (folder) => {
    const out = `${folder}/an out`, log = `${out}/trials.jsonl`;
    const args = [
      ...SMALL,
      "--fusion=random",
      "--seed",
      SEEDS,
      "--out",
      out,
    ];
    const { code, stdout, stderr } = await interruptTask("sweep", args, () => readLines(log).length >= 1);
    assertEquals([code, stdout], [130, ""]);
    const finished = readLines(log);
    assertMatch(stderr, new RegExp(`Interrupted: ${finished.length} finished trials? (is|are) in ${log}`));
    assertEquals(listFolder(out), ["trials.jsonl"]);
    const resumed = await runTask("sweep", ...resumeArguments("sweep", stderr), "--json");
    assertEquals(resumed.code, 0, resumed.stderr);
    assertEquals(JSON.parse(resumed.stdout).trials.length, 40);
    assertEquals(readLines(log).slice(0, finished.length), finished);
  }));

Deno.test("sweep stops on SIGTERM as on Ctrl-C", () =>
  withFolder(async (folder) => {
    const log = `${folder}/out/trials.jsonl`;
    const child = await spawnTask("sweep", [
      ...SMALL,
      "--fusion=random",
      "--seed",
      SEEDS,
      "--out",
      `${folder}/out`,
    ]);
    const ended = finish(child);
    while (readLines(log).length < 1) await new Promise((resolve) => setTimeout(resolve, 2));
    child.kill("SIGTERM");
    const { code, stdout, stderr } = await ended;
    assertEquals([code, stdout], [143, ""]);
    assertMatch(stderr, /Interrupted: .* To go on: deno task sweep /);
  }));

Deno.test("sweep ends its work when its progress has no reader", () =>
  withFolder(async (folder) => {
    const child = await spawnTask("sweep", [...SMALL, "--fusion=random,mean", "--out", `${folder}/out`]);
    await child.stderr.cancel();
    const stdout = await new Response(child.stdout).text();
    assertEquals((await child.status).code, 0);
    assertStringIncludes(stdout, "Report: ");
  }));

Deno.test("sweep names a trials.jsonl that is no file", () =>
  withFolder(async (folder) => {
    Deno.mkdirSync(`${folder}/trials.jsonl`);
    const { code, stderr } = await runTask("sweep", ...SMALL, "--resume", folder);
    assertEquals(code, 2);
    assertMatch(stderr, /^Cannot read or write a file: Is a directory: [^\n]*trials\.jsonl'\n$/);
  }));
