/** `deno task sweep` over tasks of items: resumed, searched, shared out, and refused. */
import { fileURLToPath } from "node:url";
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { readTrials } from "../study/study_testing.ts";
import { interruptTask, listFolder, resumeArguments, runTask, withFolder } from "../testing.ts";

/** Three items that are made, each of about 60 tokens. */
const RECALL = ["--task", "recall", "--length", "60", "--items", "3", "--filter-from", "50%"];
const SEEDS = Array.from({ length: 30 }, (_, i) => i).join(",");
const DATA = fileURLToPath(new URL("../eval/testdata/items", import.meta.url));

/** A summary without the values that differ from run to run. */
const lasting = (text: string): object =>
  JSON.parse(text, (key, value) => /timeMs$|^(started|finished)At$/i.test(key) ? undefined : value);

Deno.test("a sweep over items stops on Ctrl-C, and goes on to the summary of an uninterrupted one", () =>
  withFolder(async (folder) => {
    const out = `${folder}/out`, args = [...RECALL, "--method", "random", "--seed", SEEDS, "--threads", "1"];
    const { code, stderr } = await interruptTask(
      "sweep",
      [...args, "--out", out],
      () => readTrials(out).length >= 1,
    );
    assertEquals(code, 130);
    const finished = readTrials(out).length;
    assert(finished < 30, `${finished} trials before the interrupt`);
    for (const [flag, value] of [["--items", "4"], ["--length", "61"], ["--filter-from", "40%"]] as const) {
      const changed = args.with(args.indexOf(flag) + 1, value);
      const refused = await runTask("sweep", ...changed, "--resume", out, "--quiet");
      assertEquals([refused.code, refused.stdout], [2, ""], flag);
      assertMatch(refused.stderr, /its runs ran with \w+ .*, expected the same, found /);
    }
    const resumed = await runTask("sweep", ...resumeArguments("sweep", stderr), "--json", "--quiet");
    const whole = await runTask("sweep", ...args, "--out", `${folder}/whole`, "--json", "--quiet");
    assertEquals([resumed.code, resumed.stderr], [0, ""]);
    assertEquals(lasting(resumed.stdout), lasting(whole.stdout));
  }));

Deno.test("a sweep over items is searched and raced by its headline, with several processes as with one", () =>
  withFolder(async (folder) => {
    const space = { fusion: ["key", "random"], "prune-ratio": 0.4, tau: { low: 0.5, high: 2 } };
    Deno.writeTextFileSync(`${folder}/space.json`, JSON.stringify(space));
    const args = [...RECALL, "--space", `${folder}/space.json`, "--trials", "8", "--quiet", "--json"];
    const run = async (...more: string[]) => {
      const { code, stdout, stderr } = await runTask("sweep", ...args, ...more);
      assertEquals([code, stderr], [0, ""]);
      return JSON.parse(stdout);
    };
    const alone = await run("--sampler", "sobol", "--threads", "1", "--out", `${folder}/a`);
    const shared = await run("--sampler", "sobol", "--jobs", "2", "--out", `${folder}/b`);
    const found = ({ trials }: typeof alone) =>
      trials.map(({ trial, acc, errorDelta }: { trial: string; acc: number; errorDelta: number }) => ({
        ...{ trial, acc, errorDelta },
      }));
    assertEquals(found(shared), found(alone));
    const accuracies = alone.trials.map(({ acc }: { acc: number }) => acc);
    assertEquals(accuracies, accuracies.toSorted((a: number, b: number) => b - a), "best first");
    const raced = await run("--race", "--threads", "1", "--out", `${folder}/c`);
    assertEquals([raced.search.proposed, raced.race.order.length], [8, 3]);
    assertEquals(listFolder(`${folder}/a`), ["report.html", "study.db", "summary.json"]);
    const report = Deno.readTextFileSync(`${folder}/a/report.html`);
    assertStringIncludes(report, "Acc against skipped queries");
    assertStringIncludes(report, "recall, by items");
  }));

Deno.test("a sweep over items counts them, shows chance, and what a filter reached", () =>
  withFolder(async (folder) => {
    const args = [
      "--task",
      "piqa",
      "--data",
      DATA,
      "--filter-from",
      "50%",
      "--method",
      "random",
      "--recent",
      "2",
    ];
    const { code, stdout, stderr } = await runTask("sweep", ...args, "--threads", "1", "--out", folder);
    assertEquals(code, 0, stderr);
    assertMatch(stderr, /^1 trial on 64 tokens of piqa.jsonl; cpu: /m);
    assertMatch(stdout, /Q skipped +acc +error increase +95% +acc_norm /);
    assertMatch(
      stdout,
      /^tiny on piqa.jsonl: 2 items of up to 34 tokens, dense acc 50.0% \(chance 50.0%\)\.$/m,
    );
    const { trials: [trial] } = JSON.parse(Deno.readTextFileSync(`${folder}/summary.json`));
    assert(trial.missedKeys > 0 && trial.ownSkips > 0 && trial.achievedRatio > 0.2);
    assertEquals([trial.filterFrom, trial.items, trial.scoredTokens], ["50%", 2, 2]);
  }));

Deno.test("a sweep over items refuses what it cannot run, in one line and before it writes", () =>
  withFolder(async (folder) => {
    const out = `${folder}/out`, piqa = ["--task", "piqa", "--data", DATA];
    const cases: [string[], string][] = [
      [["--task", "piqa"], "Cannot tell where the items of piqa are: expected --data DIR"],
      [[...piqa, "--context", "64"], "Cannot use --context with task piqa: it has items"],
      [["--items", "3"], "Cannot use --items with task perplexity: it reads a text, and has no items"],
      [[...piqa, "--warmup", "4", "--filter-from", "50%"], "Cannot use --filter-from with --warmup"],
      [[...piqa, "--filter-from", "x"], "Cannot use --filter-from x: expected tokens"],
      [[...piqa, "--method", "key"], "Cannot call piqa with key filtered: "],
      [
        ["--task", "needle", "--length", "513"],
        "Cannot make needle of 513 tokens: the model was trained on 512",
      ],
      [
        ["--task", "needle_multikey", "--method", "oracle", "--filter-from", "50%"],
        "Cannot score item 0 of needle_multikey: it asks for a text, which a non-causal method cannot make",
      ],
    ];
    for (const [args, expected] of cases) {
      const { code, stdout, stderr } = await runTask("sweep", ...args, "--quiet", "--out", out);
      assertEquals([code, stdout, listFolder(folder)], [2, "", []], args.join(" "));
      assertStringIncludes(stderr, expected);
      assertEquals(stderr.trimEnd().split("\n").length, 1, stderr);
    }
  }));
