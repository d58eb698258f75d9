import { fileURLToPath } from "node:url";
import { assert, assertAlmostEquals, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { findBf16Unit } from "../../../ffi/bf16_testing.ts";
import { explainError } from "../cli/task.ts";
import { StudyStore } from "../../../lib/sweep/mod.ts";
import { command } from "../eval.ts";
import type { ItemUnit } from "../items/run.ts";
import {
  countUnits,
  dropLastUnits,
  interruptTask,
  listFolder,
  resumeArguments,
  runTask,
  withFolder,
} from "../testing.ts";

/** The first item that a folder's study holds. */
function firstItem(folder: string): ItemUnit {
  using store = StudyStore.open(`${folder}/study.db`);
  return store.units<ItemUnit>("item", ({ id }) => id).finished[0]!;
}

const DATA = fileURLToPath(new URL("./testdata/items", import.meta.url));
const FAST = ["--data", DATA, "--threads", "1", "--quiet"];
const { reason: noBf16 } = await findBf16Unit();
const rounded = noBf16 ? [] : ["--matmul", "bf16"];

interface Scored {
  readonly logLikelihoods: number[];
  readonly reach: { positions: number; missedKeys: number; ownSkips: number };
}
interface Result {
  readonly task: string;
  readonly id: string;
  readonly dense: Scored;
  readonly filtered?: Scored;
}

Deno.test("eval --json prints results, budgets and every item, and writes the same", () =>
  withFolder(async (folder) => {
    const out = `${folder}/out`, method = ["--method", "variance", "--prune-ratio", "0.4", "--recent", "2"];
    const { code, stdout, stderr } = await runTask(
      "eval",
      ...[
        ...FAST,
        ...method,
        "--filter-from",
        "50%",
        "--tasks",
        "winogrande,mmlu,lambada_openai",
        "--items",
        "1",
      ],
      ...rounded,
      "--out",
      out,
      "--json",
    );
    assertEquals([code, stderr], [0, ""]);
    const { results, budgets, environment, items } = JSON.parse(stdout);
    assertEquals(
      results.map((
        row: { task: string; metric: string; items: number },
      ) => [row.task, row.metric, row.items]),
      [
        ["winogrande", "acc", 1],
        ["mmlu", "acc", 1],
        ["lambada_openai", "acc", 1],
        ["lambada_openai", "perplexity", 1],
      ],
    );
    for (const { difference, filtered, dense } of results) {
      assertAlmostEquals(difference.estimate, filtered.mean - dense.mean, 1e-12);
      assertEquals(difference.verdict, "no significant difference");
    }
    assertEquals(Object.keys(budgets), ["winogrande", "mmlu", "lambada_openai"]);
    for (const { task, dense, filtered } of items as Result[]) {
      const { reach, achievedRatio, skipRatioPerLayer, usage } = budgets[task];
      assertEquals(reach, filtered!.reach); // of its only item
      assert(reach.ownSkips > 0 && reach.positions > 0, task);
      assert(achievedRatio > 0.1 && skipRatioPerLayer.length === 10 && usage.queriesSkipped > 0, task);
      assertEquals(
        dense.reach,
        { positions: reach.positions, missedKeys: 0, ownFiltered: 0, ownSkips: 0 } as never,
      );
      assert(filtered!.logLikelihoods.every((sum, i) => sum < 0 && sum !== dense.logLikelihoods[i]));
    }
    assertEquals([environment.filterFrom, environment.options.fusion, environment.options.warmup], [
      "50%",
      "variance",
      null,
    ]);
    assertEquals(environment.products, noBf16 ? undefined : "bf16");
    for (const { sha256, promptsSha256, items, of } of environment.tasks) {
      assertMatch(`${sha256} ${promptsSha256}`, /^[0-9a-f]{64} [0-9a-f]{64}$/);
      assertEquals([items, of], [1, 2]);
    }
    assertMatch(environment.tokenizerSha256, /^[0-9a-f]{64}$/);
    assert(environment.peakMemoryBytes > 5_000_000, `${environment.peakMemoryBytes}`); // the weights at least
    assertEquals(listFolder(out), ["eval.json", "study.db"]);
    assertEquals(Deno.readTextFileSync(`${out}/eval.json`), stdout);
  }));

/** The numbers of lm-evaluation-harness for an item, made by `verify/harness_items.py`. */
interface Golden extends Pick<Result, "task" | "id"> {
  readonly logLikelihoods: number[];
  readonly greedy: boolean[];
  readonly metrics: { readonly [name: string]: number };
}

Deno.test("eval finds what lm-evaluation-harness finds with transformers on the built-in model's dequantised weights", () =>
  withFolder(async (folder) => {
    const { items: golden }: { items: Golden[] } = JSON.parse(
      Deno.readTextFileSync(new URL("./testdata/harness_golden.json", import.meta.url)),
    );
    const { code, stdout, stderr } = await runTask("eval", ...FAST, "--json", "--out", `${folder}/out`);
    assertEquals([code, stderr], [0, ""]);
    const { items, results } = JSON.parse(stdout);
    assertEquals(
      items.map(({ task, id }: Result) => `${task} ${id}`),
      golden.map(({ task, id }) => `${task} ${id}`),
    );
    golden.forEach((own, i) => {
      const { logLikelihoods, greedy } = items[i].dense;
      assertEquals([logLikelihoods.length, greedy], [own.logLikelihoods.length, own.greedy], own.id);
      own.logLikelihoods.forEach((sum, j) =>
        assertAlmostEquals(logLikelihoods[j] / sum, 1, 1e-5, `${own.id} ${j}`)
      );
    });
    assertEquals(golden.length, 20);
    for (const { task, metric, dense } of results) {
      const theirs = golden.filter((own) => own.task === task).map(({ metrics }) => metrics[metric]!);
      // For perplexity the harness stores log-likelihoods of words.
      const mean = theirs.reduce((a, b) => a + b, 0) / theirs.length * (metric === "perplexity" ? -1 : 1);
      assertAlmostEquals(dense.mean, mean, 1e-5, `${task} ${metric}`);
    }
  }));

Deno.test("eval prints a table, dense alone where no method is asked for, and how long it takes", () =>
  withFolder(async (folder) => {
    const args = ["--data", DATA, "--threads", "1", "--tasks", "piqa,lambada_openai", "--items", "1"];
    const { code, stdout, stderr } = await runTask(
      "eval",
      ...args,
      "--out",
      `${folder}/out`,
      "--csv",
      `${folder}/t.csv`,
    );
    assertEquals(code, 0, stderr);
    assertMatch(stdout, /^task +metric +items +dense\n-/);
    assertMatch(stdout, /^piqa +acc_norm +1 +(0|100)\.0%$/m);
    assertMatch(stdout, /^lambada_openai +ppl +1 +\d+\.\d\d$/m);
    assertMatch(stderr, /^2 items of 2 tasks; cpu: /m);
    assertMatch(stderr, /^piqa 1\/1, \d+ s left$/m);
    assertEquals(Deno.readTextFileSync(`${folder}/t.csv`).trimEnd().split("\n").length, 5);
  }));

Deno.test("eval takes tasks that read a text, beside items, and finds what sweep finds", () =>
  withFolder(async (folder) => {
    const text = [
      "--context",
      "64",
      "--tokens",
      "256",
      "--warmup",
      "8",
      "--threads",
      "1",
      "--quiet",
      "--json",
    ];
    const method = ["--method", "key", "--prune-ratio", "0.3", "--recent", "2"];
    const run = async (task: string, ...args: string[]) => {
      const out = `${folder}/${task}${args.join("")}`;
      const { code, stdout, stderr } = await runTask(task, ...args, ...text, ...method, "--out", out);
      assertEquals([code, stderr], [0, ""]);
      return JSON.parse(stdout);
    };
    const tasks = ["perplexity", "perplexity_streaming"];
    const made = ["--items", "2", "--length", "60"];
    const all = await run("eval", "--tasks", "perplexity,copy,perplexity_streaming", ...made);
    const { results, budgets, environment } = all;
    assertEquals(results.map(({ task }: Result) => task), ["copy", "copy", ...tasks]);
    for (const [i, task] of tasks.entries()) {
      const { trials: [trial], dense, environment: ran } = await run("sweep", "--task", task);
      const { dense: own, filtered, difference, items } = results[i + 2];
      assertAlmostEquals(own.value, dense.perplexity, 1e-9);
      assertAlmostEquals(filtered.value, trial.perplexity, 1e-9);
      assertAlmostEquals(difference.estimate, trial.nllDelta, 1e-9);
      assertEquals([items, budgets[task].achievedRatio], [trial.scoredTokens, trial.achievedRatio]);
      const [, first, second] = environment.tasks, { protocol, sha256, context } = i === 0 ? first : second;
      assertEquals([protocol, sha256, context], [ran.protocol, ran.textSha256, ran.context]);
    }
  }));

/** The one line that an error ends a task with. */
function explain(error: unknown): string {
  const line = explainError(error);
  if (line === undefined) throw error; // a defect of the program, with its trace
  return line;
}

Deno.test("eval refuses what it cannot run, in one line with file and line number, and writes nothing", () =>
  withFolder(async (folder) => {
    const out = `${folder}/out`, data = `${folder}/data`;
    Deno.mkdirSync(data);
    const good = '{"id": "a", "query": "Why?", "choices": ["x", "y"], "gold": 0}';
    Deno.writeTextFileSync(`${data}/piqa.jsonl`, `${good}\n{"id": "b"\n`);
    Deno.writeTextFileSync(`${data}/arc_easy.jsonl`, `${good.replace('"gold": 0', '"gold": 2')}\n`);
    Deno.writeTextFileSync(`${data}/openbookqa.jsonl`, `${good}\n`);
    const cases: [string[], string][] = [
      [[], "Cannot tell what to evaluate: expected --data DIR"],
      [["--tasks", "piqa"], "Cannot tell what to evaluate: expected --data DIR"],
      // Longer ones would lose their start, and the needle with it.
      [
        ["--tasks", "needle", "--length", "513"],
        "of 513 tokens: the model was trained on 512 (take a smaller --length",
      ],
      [
        ["--tasks", "needle", "--items", "999999999999"],
        "--items 999999999999: expected an integer from 1 to 100000",
      ],
      [["--tasks", "needle", "--length", "9"], "Cannot make needle of 9 tokens: its smallest context has "],
      [["--data", `${folder}/none`], "there is no such folder"],
      [["--data", folder], "found none of arc_easy.jsonl, "],
      [["--data", data, "--tasks", "pica"], 'Cannot use task "pica": expected one of '],
      [["--data", data, "--tasks", "boolq"], 'boolq.jsonl": there is no such file'],
      [["--data", data, "--tasks", "piqa"], 'piqa.jsonl", line 2: it is not JSON'],
      [["--data", data, "--tasks", "arc_easy"], 'arc_easy.jsonl", line 1: found 2 for "gold"'],
      [["--data", DATA, "--items", "0"], "Cannot use --items 0"],
      [["--data", DATA, "--filter-from", "16"], "Cannot use --filter-from: a dense run filters nothing"],
      [
        ["--data", DATA, "--method", "key", "--filter-from", "x"],
        "Cannot use --filter-from x: expected tokens",
      ],
      [
        ["--data", DATA, "--method", "key", "--filter-from", "101%"],
        "expected tokens, as in 16, or a fraction",
      ],
      [
        ["--data", DATA, "--method", "key", "--filter-from", "1", "--warmup", "1"],
        "with --warmup: expected one",
      ],
      [["--data", DATA, "--method", "learned", "--filter-from", "10%"], "--filter-from 10% for "],
      [["--data", DATA, "--seeds", "1"], 'Cannot use flag "--seeds": "eval" has no such flag'],
      [["--data", DATA, "--text", "x"], "Cannot use --text: none of the tasks reads a text"],
      [["--tasks", "perplexity", "--tokens", "8"], "Cannot evaluate a text of 8 tokens"],
      // A dense run in disguise: nothing comes after the warm-up, or too little for the filter to reach a scored position.
      [
        ["--data", data, "--tasks", "openbookqa", "--method", "key", "--warmup", "32"],
        "Cannot call openbookqa filtered: ",
      ],
      [
        [
          "--data",
          data,
          "--tasks",
          "openbookqa",
          "--kv-method",
          "keydiff",
          "--side",
          "key",
          "--warmup",
          "1",
          "--recent",
          "9",
        ],
        "the filter reached no scored position of 1 items",
      ],
    ];
    for (const [args, expected] of cases) {
      const line = await command.main([...args, "--quiet", "--threads", "1", "--out", out]).then(
        () => "accepted",
        explain,
      );
      assertStringIncludes(line, expected, args.join(" "));
      assertEquals(line.includes("\n"), false, line);
    }
    assertEquals(listFolder(folder).includes("out") ? listFolder(out) : [], []);
  }));

Deno.test("eval keeps what it measured where the method turns out to reach nothing", () =>
  withFolder(async (folder) => {
    const args = [
      "--tasks",
      "recall",
      "--items",
      "2",
      "--length",
      "60",
      "--method",
      "key",
      "--filter-from",
      "50",
    ];
    const few = [...args, "--prune-ratio", "0.01", "--threads", "1", "--quiet"];
    for (const place of ["--out", "--resume"]) {
      const line = await command.main([...few, place, folder]).then(() => "accepted", explain);
      assertStringIncludes(
        line,
        "Cannot call recall filtered: the filter reached no scored position of 2 items",
      );
      assertStringIncludes(line, `; all 4 scores are in ${folder}/study.db (`);
      assertEquals([listFolder(folder), countUnits(folder, "item")], [["study.db"], 4]);
    }
  }));

Deno.test("eval makes items of the length asked for, without data", () =>
  withFolder(async (folder) => {
    const args = [
      "--tasks",
      "copy,recall,needle",
      "--length",
      "120",
      "--items",
      "2",
      "--threads",
      "1",
      "--quiet",
    ];
    const key = [
      "--side",
      "key",
      "--kv-method",
      "knorm",
      "--kv-ratio",
      "0.5",
      "--warmup",
      "16",
      "--recent",
      "8",
      "--whole",
      "0+9",
    ];
    const { code, stdout, stderr } = await runTask(
      "eval",
      ...args,
      ...key,
      "--out",
      `${folder}/out`,
      "--json",
    );
    assertEquals([code, stderr], [0, ""]);
    const { results, budgets, environment } = JSON.parse(stdout);
    assertEquals(
      results.map(({ task, metric, items }: { task: string; metric: string; items: number }) =>
        `${task} ${metric} ${items}`
      ),
      ["copy", "recall", "needle"].flatMap((task) => [`${task} acc 2`, `${task} perplexity 2`]),
    );
    for (
      const { meanReach, kvAchievedRatio } of Object.values(budgets) as {
        meanReach: { missedKeys: number };
        kvAchievedRatio: number;
      }[]
    ) {
      assert(
        meanReach.missedKeys === 1 && kvAchievedRatio > 0.3,
        `${meanReach.missedKeys} ${kvAchievedRatio}`,
      );
    }
    assertEquals([environment.tasks[0].tokens, environment.wholeLayers], [120, [0, 9]]);
  }));

Deno.test("eval stops on Ctrl-C, and goes on to the result of an uninterrupted run", () =>
  withFolder(async (folder) => {
    const out = `${folder}/out`, path = `${out}/study.db`;
    const args = [...FAST.slice(0, 4), "--method", "random", "--prune-ratio", "0.3", "--filter-from", "4"];
    const { code, stdout, stderr } = await interruptTask(
      "eval",
      [...args, "--out", out],
      () => countUnits(out, "item") >= 5,
    );
    assertEquals([code, stdout, listFolder(out)], [130, "", ["study.db"]]);
    const finished = countUnits(out, "item");
    assert(finished < 40, `${finished} scores before the interrupt`);
    assertStringIncludes(stderr, `Interrupted: ${finished} finished scores are in ${path}. To go on: `);
    for (
      const [other, expected] of [
        [["--seed", "1", "--resume", out], "its runs ran with seed 0, expected the same, found 1 ("],
        ...noBf16 ? [] : [
          [
            [...rounded, "--resume", out],
            "its runs ran with products exact, expected the same, found bf16 (",
          ] as const,
        ],
        [["--out", out], "it holds a study (go on with --resume"],
      ] as const
    ) {
      const refused = await runTask("eval", ...args, ...other, "--quiet");
      assertEquals([refused.code, refused.stdout], [2, ""]);
      assertStringIncludes(refused.stderr, expected);
    }
    Deno.mkdirSync(`${folder}/some`);
    Deno.copyFileSync(path, `${folder}/some/study.db`);
    dropLastUnits(out, 2); // both runs of an item, which are kept together
    const resumed = await runTask("eval", ...resumeArguments("eval", stderr), "--json", "--quiet");
    assertEquals([resumed.code, resumed.stderr, listFolder(out)], [0, "", ["eval.json", "study.db"]]);
    const whole = await runTask("eval", ...args, "--out", `${folder}/whole`, "--json", "--quiet");
    const untimed = (text: string) =>
      JSON.parse(
        text,
        (key, value) => /timeMs$|^peakMemoryBytes$/i.test(key) || key === "startedAt" ? undefined : value,
      );
    assertEquals(untimed(resumed.stdout), untimed(whole.stdout));
    // Results do not depend on the order or on the other tasks: one task is left out, the others are reversed.
    const left = firstItem(`${folder}/some`).task;
    const tasks = new Set<string>(JSON.parse(whole.stdout).items.map(({ task }: Result) => task));
    assert(tasks.delete(left) && tasks.size > 1);
    const others = [
      "--tasks",
      [...tasks].reverse().join(),
      "--resume",
      `${folder}/some`,
      "--json",
      "--quiet",
    ];
    const some = await runTask("eval", ...args, ...others);
    assertEquals([some.code, some.stderr], [0, ""]);
    assertEquals(listFolder(`${folder}/some`), ["eval.json", "study.db"]); // the scores of the other task
    const of = (text: string, task: string) =>
      untimed(text).items.filter((item: Result) => item.task === task);
    for (const task of tasks) assertEquals(of(some.stdout, task), of(whole.stdout, task));
  }));
