import { assert, assertAlmostEquals, assertEquals, assertStringIncludes } from "@std/assert";
import { testSlow } from "../../../lib/testing.ts";
import { findBf16Unit } from "../../../ffi/bf16_testing.ts";
import { openCpu } from "../../../ffi/mod.ts";
import { scoreSequence } from "../../../lib/eval/mod.ts";
import { type HeadReport, headRules, replayTable } from "../../../lib/heads/mod.ts";
import { createReplay } from "../../../lib/methods/mod.ts";
import { loadModel } from "../../../lib/model/mod.ts";
import { explainError } from "../cli/task.ts";
import { command as heads, warningOfMemory } from "../heads.ts";
import { readTrace } from "./trace_file.ts";
import { command as score } from "../score.ts";
import {
  countUnits,
  dropLastUnits,
  interruptTask,
  listFolder,
  resumeArguments,
  runTask,
  withFolder,
} from "../testing.ts";

const { reason: noBf16 } = await findBf16Unit();

async function run(task: string, ...args: string[]) {
  const { code, stdout, stderr } = await runTask(task, "--backend", "cpu", "--json", "--quiet", ...args);
  assertEquals([code, stderr.replace(/^Warning: 700 tokens; the model was trained on 512\n/, "")], [0, ""]);
  return JSON.parse(stdout);
}

Deno.test("heads writes a report, a page and a trace that score replays", () =>
  withFolder(async (folder) => {
    const out = `${folder}/out`;
    const args = [
      "--tokens",
      "300",
      "--context",
      "100",
      "--tail",
      "0.2",
      "--prune-ratio",
      "0.1",
      "--recent",
      "5",
      "--cache-dtype",
      "f16",
      "--out",
      out,
    ];
    const report = await run("heads", ...args, "--resamples", "50", "--method", "learned") as HeadReport;
    assertEquals(listFolder(out), ["heads.html", "heads.json", "trace.parquet"]);
    assertEquals(JSON.parse(Deno.readTextFileSync(`${out}/heads.json`)), report);
    assertEquals(report.layers.map(({ layer }) => layer), [8, 9]);
    assertEquals(report.views.map((view) => [view.keyState, view.anchor, view.layers.length]), [
      ["post-rope", "ema", 2],
      ["post-rope", "mean", 2],
      ["pre-rope", "ema", 2],
      ["pre-rope", "mean", 2],
    ]);
    assertEquals(report.overall.rules.map(({ rule }) => rule), [...headRules()]);
    assertEquals(report.environment.textTokens, 300);
    assertEquals(report.layers[0]!.learnedWeights.length, report.learnedFeatures.length);

    const { table, info } = await readTrace(`${out}/trace.parquet`);
    assertEquals([table.rows, table.sK.length, table.sV.length, info.stream], [600, 3, 3, "dense"]);
    const skipped = table.keep.reduce((sum, keep, row) => sum + (table.layer[row] === 9 && !keep ? 1 : 0), 0);
    assertAlmostEquals(report.layers[1]!.skipped!, skipped / (3 * 68), 1e-9);
    for (let row = 1; row < 100; row++) {
      assertAlmostEquals(table.sK.reduce((sum, own) => sum + own[row]!, 0) / 3, table.muK[row]!, 1e-6);
      assertEquals(table.keep[row] === 0, table.score[row]! > table.threshold[row]! && row >= 32);
    }
    assertEquals([table.muK[0], table.score[100]], [NaN, NaN]);

    const replayed = await run("score", "--replay", `${out}/trace.parquet`);
    assertEquals([replayed.lengths, replayed.layers, replayed.nll.length], [[100, 100, 100], [8, 9], 297]);
    assertEquals(replayed.keep[1], [...table.keep.subarray(300)]);
    assertEquals(replayed.ids, [...table.id.subarray(0, 300)]);
    // The losses under these masks, with the window and the cache that were asked for.
    const { model, config } = await loadModel("tiny", await openCpu(), { cacheDType: "f16" });
    const losses = replayTable(table).map((
      { ids, keep },
    ) => [...scoreSequence(model, ids, createReplay(config, { keep, warmup: 32, recent: 5 })).nll]);
    assertEquals(replayed.nll, losses.flat());
    const means = losses.map((nll) => nll.reduce((a, b) => a + b) / nll.length);
    assertAlmostEquals(Math.log(replayed.perplexity), means.reduce((a, b) => a + b) / 3, 1e-9);
  }));

Deno.test("score --replay gives the losses of the run that kept the trace", () =>
  withFolder(async (folder) => {
    const ids = `${folder}/ids.json`, trace = `${folder}/trace.parquet`;
    const list = Array.from({ length: 300 }, (_, i) => i === 0 ? 1 : 300 + (i * 37 + i * i) % 900);
    Deno.writeTextFileSync(ids, JSON.stringify(list));
    for (
      const method of [
        ["--preset", "paper"],
        ["--method", "learned", "--features", "similarity+norm+query"],
        ["--method", "learned", "--chunk", "100"],
        ["--method", "oracle"],
        ["--cache-skipped", "--phase", "decode", "--tokens", "120"],
        ["--method", "mean", "--recent", "3", "--cache-dtype", "bf16", "--dtype", "q4_0", "--tokens", "120"],
        ...(noBf16 ? [] : [["--method", "mean", "--matmul", "bf16", "--tokens", "120"]]),
      ]
    ) {
      const first = await run("score", "--ids", ids, ...method, "--trace", trace);
      const again = await run("score", "--replay", trace);
      assertEquals(again, first, method.join(" "));
      assert(first.keep.flat().includes(0));
      assertEquals(again.dtype, method.includes("--dtype") ? "q4_0" : undefined);
      assertEquals(again.products, method.includes("--matmul") ? "bf16" : undefined);
    }
  }));

Deno.test("heads and score --replay name what is wrong with their input, and write nothing", () =>
  withFolder(async (folder) => {
    const file = (name: string, text: string) => {
      Deno.writeTextFileSync(`${folder}/${name}`, text);
      return `${folder}/${name}`;
    };
    const text = file("text.txt", "Some words on a page."), ids = file("ids.json", "[1, 2, 3]");
    Deno.mkdirSync(`${folder}/used`);
    file("used/heads.json", "{}");
    const before = listFolder(folder), out = `${folder}/out`;
    const cases: [(args: string[]) => Promise<number>, string[], string][] = [
      [heads.main, ["--method", "oracle"], "what the rules are measured against"],
      [heads.main, ["--warmup", "4", "--tokens", "600"], "--warmup: found 4, expected an integer from 8"],
      [heads.main, ["--absorb", "kept", "--tokens", "600"], '--absorb: found "kept", expected "all"'],
      [heads.main, ["--context", "39", "--tokens", "600"], "expected at least 40"],
      [heads.main, ["--text", text], "expected at least one context of 512"],
      [heads.main, ["--text", `${folder}/none`], "there is no such file"],
      [heads.main, ["--resamples", "0"], "--resamples 0"],
      [heads.main, ["--out", `${folder}/used`], "it holds heads.json"],
      [heads.main, ["--replay", text], "no such flag"],
      [score.main, ["--replay", text], "as a trace"],
      [score.main, ["--replay", `${folder}/none`], "there is no such file"],
      [score.main, ["--replay", text, "--text", text], "Cannot use --text with --replay"],
      [score.main, ["--replay", text, "--method", "mean"], "Cannot use --method with --replay"],
      [score.main, ["--ids", ids, "--trace", `${folder}/t.parquet`], "a dense run has no decisions"],
      [
        score.main,
        ["--ids", ids, "--preset", "paper", "--trace", `${folder}/none/t.parquet`],
        "Cannot write",
      ],
      [score.main, ["--ids", ids, "--preset", "paper", "--trace", folder], "Cannot write"],
    ];
    for (const [task, args, part] of cases) {
      const place = task === heads.main && !args.includes("--out") ? ["--out", out, "--quiet"] : ["--quiet"];
      let line: string | undefined;
      try {
        await task([...args, ...place]);
      } catch (error) {
        line = explainError(error);
        if (line === undefined) throw error;
      }
      assertStringIncludes(line ?? "accepted", part, args.join(" "));
      assertEquals(line!.includes("\n"), false);
      assertEquals(listFolder(folder), before, args.join(" "));
    }
  }));

testSlow(
  "heads stops on Ctrl-C, and goes on to the files of an uninterrupted run",
  () =>
    withFolder(async (folder) => {
      const out = `${folder}/an out`, path = `${out}/study.db`, whole = `${folder}/whole`;
      const args = [
        ...["--tokens", "4000", "--context", "100", "--tail", "0.2", "--prune-ratio", "0.1"],
        ...["--resamples", "20", "--threads", "1"],
      ];
      const uninterrupted = await runTask("heads", ...args, "--out", whole, "--quiet");
      assertEquals(uninterrupted.code, 0, uninterrupted.stderr);
      const isTime = () => countUnits(out, "chunk") >= 2;
      const { code, stdout, stderr } = await interruptTask("heads", [...args, "--out", out], isTime);
      assertEquals([code, stdout, listFolder(out)], [130, "", ["study.db"]]);
      const kept = countUnits(out, "chunk");
      assert(kept >= 2 && kept < 40, `${kept}`);
      assertStringIncludes(stderr, `Interrupted: ${kept} finished chunks are in ${path}. To go on: `);

      for (
        const [other, expected] of [
          [
            ["--prune-ratio", "0.05", "--resume", out],
            "its runs ran with pruneRatio 0.1, expected the same, found 0.05",
          ],
          [
            ["--prune-ratio", "0.1", "--text", "README.md", "--resume", out],
            "its runs ran with text built-in prose, expected the same, found README.md",
          ],
          [["--prune-ratio", "0.1", "--out", out], "it holds a study (go on with --resume"],
          [["--prune-ratio", "0.1", "--resume", folder], "found no study.db there"],
        ] as const
      ) {
        const refused = await runTask("heads", ...args.slice(0, 6), ...other);
        assertEquals([refused.code, refused.stdout], [2, ""]);
        assertStringIncludes(refused.stderr, expected);
        assertEquals(refused.stderr.trimEnd().split("\n").length, 1, refused.stderr);
      }
      assertEquals(countUnits(out, "chunk"), kept);

      dropLastUnits(out, 1);
      const words = resumeArguments("heads", stderr);
      const resumed = await runTask("heads", ...words);
      assertEquals(resumed.code, 0, resumed.stderr);
      assertEquals(listFolder(out), ["heads.html", "heads.json", "trace.parquet"]);
      const timeless = (place: string) =>
        Deno.readTextFileSync(`${place}/heads.json`).replace(/"startedAt":"[^"]*"/, "");
      assertEquals(timeless(out), timeless(whole));
      assertEquals(
        Deno.readFileSync(`${out}/trace.parquet`),
        Deno.readFileSync(`${whole}/trace.parquet`),
      );
      const again = await runTask("heads", ...words);
      assertEquals(again.code, 2);
      assertStringIncludes(again.stderr, "it holds heads.json, a finished run");
    }),
);

Deno.test("warningOfMemory() speaks where the tokens take more than is free", () => {
  assertEquals(warningOfMemory(8192 * 30, 2e9), undefined);
  assertEquals(
    warningOfMemory(300_000 * 30, 20e9),
    "Warning: this takes some 36.0 GB of memory, and 20.0 GB are free (take fewer --tokens)",
  );
});
