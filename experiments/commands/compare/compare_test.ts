import { fileURLToPath } from "node:url";
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { explainError } from "../cli/task.ts";
import { describeComparison } from "../../../lib/plot/reports/verdict.ts";
import type { Interval } from "../../../lib/stats/mod.ts";
import { StudyStore } from "../../../lib/sweep/mod.ts";
import { command } from "../compare.ts";
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

/** Small enough to run often: 2 chunks of 64 tokens. */
const SMALL = ["--context", "64", "--tokens", "128", "--warmup", "8", "--threads", "1"];

Deno.test("compare --json prints the comparison alone and writes everything", () =>
  withFolder(async (folder) => {
    const out = `${folder}/deep/out`;
    const { code, stdout, stderr } = await runTask(
      "compare",
      ...SMALL,
      ...["--methods", "random,variance inverted,paper,oracle", "--seeds", "2", "--prune-ratio", "0.3"],
      ...["--out", out, "--json", "--quiet"],
    );
    assertEquals([code, stderr], [0, ""]);
    const comparison = JSON.parse(stdout);
    const names = comparison.methods.map(({ name }: { name: string }) => name);
    assertEquals([names[0], ...names.toSorted()], [
      "dense",
      "dense",
      "oracle",
      "paper",
      "random",
      "variance inverted",
    ]);
    for (
      const { name, achievedRatio, lossIncrease, options, seeds, matched } of comparison.methods.slice(1)
    ) {
      assert(Math.abs(achievedRatio - 0.3) < 0.06, `${name} ${achievedRatio}`);
      assertEquals([matched.budget, matched.asked, options.pruneRatio], ["pairs", 0.3, matched.ratio]);
      assert(lossIncrease.low <= lossIncrease.estimate && lossIncrease.estimate <= lossIncrease.high);
      assertEquals([options.warmup, options.recent, seeds], [8, 16, name.startsWith("random") ? 2 : 1]);
    }
    assertEquals(listFolder(out), ["compare.html", "compare.json", "study.db"]);
    assertEquals(JSON.parse(Deno.readTextFileSync(`${out}/compare.json`)), comparison);
    const page = Deno.readTextFileSync(`${out}/compare.html`);
    assertStringIncludes(page, "plotly.js (cartesian");
    assertEquals(page.match(/<tr[ >]/g)!.length, 6 + 1 + 3 * 5); // the losses, and three metrics of each
  }));

Deno.test("compare runs all methods at one window and at equal KV cache, and says so in the terminal", () =>
  withFolder(async (folder) => {
    const args = ["--context", "128", "--tokens", "256", "--threads", "1", "--quiet", "--prune-ratio", "0.5"];
    const spans = ["--warmup", "8", "--recent", "4"];
    const methods = ["--methods", "keys,keydiff,streaming,random", "--seeds", "1"];
    const run = async (...more: string[]) => {
      const { code, stdout, stderr } = await runTask("compare", ...args, ...methods, ...spans, ...more);
      assertEquals([code, stderr], [0, ""]);
      return stdout;
    };
    const { methods: rows, results } = JSON.parse(await run("--json", "--out", `${folder}/equal`));
    const own = rows.slice(1) as {
      retained: { cache: number };
      options: { recent: number; warmup: number };
    }[];
    const held = own.map(({ retained }) => retained.cache);
    assert(Math.max(...held) - Math.min(...held) <= 0.01, `${held}`);
    assertEquals(own.map(({ options: { warmup, recent } }) => [warmup, recent]), Array(4).fill([8, 4]));
    const against = results.flatMap((row: { against: object }) => Object.values(row.against));
    assert(against.every(({ unequal }: { unequal?: { budget: string } }) => unequal?.budget !== "cache"));
    const text = await run("--match", "none", "--out", `${folder}/as_is`);
    assertMatch(text, /^At 50% of keys and values evicted, /m);
    assertMatch(
      text,
      /^(Better than|No significant difference from|Worse than) the random baseline \(random\): /m,
    );
    assertMatch(text, /^All methods ran at a warm-up of 8 and a recent window of 4\.$/m);
  }));

Deno.test("compare answers items alone where nothing asks for a text: no prose is read, and savings are those of the items", () =>
  withFolder(async (folder) => {
    const args = [
      ...[
        "--data",
        DATA,
        "--tasks",
        "piqa,winogrande",
        "--filter-from",
        "8",
        "--recent",
        "2",
        "--seeds",
        "1",
      ],
      ...["--methods", "key,random", "--threads", "1"],
    ];
    const { code, stdout, stderr } = await runTask("compare", ...args, "--out", `${folder}/out`, "--json");
    assertEquals(code, 0, stderr);
    assertEquals(stderr.includes("prose"), false, stderr);
    const { environment, results, items, methods } = JSON.parse(stdout);
    const ran = methods.find(({ name }: { name: string }) => name === "key").options.pruneRatio;
    assertEquals([environment.task, environment.text], ["piqa", "piqa.jsonl"]);
    assertEquals(items.tasks.map(({ task }: { task: string }) => task), ["winogrande"]);
    assertEquals([...new Set(results.map(({ task }: { task: string }) => task))], ["piqa", "winogrande"]);
    // Few items, and still intervals of retained: inside the range, and of some width.
    const intervals = [
      ...methods.slice(1).map(({ lossIncrease }: { lossIncrease: Interval }) => lossIncrease),
      ...results.flatMap(({ against }: { against: object }) => Object.values(against)),
    ];
    for (const { low, high } of intervals) {
      assert(low >= -1 && high <= 1 && high - low > 0.1, `${low} ${high}`);
    }
    // The numbers equal those of eval with one method.
    const alone = await runTask(
      "eval",
      ...[...args.slice(0, 8), "--threads", "1", "--quiet", "--json", "--out", `${folder}/eval`],
      ...["--method", "key", "--prune-ratio", String(ran)],
    );
    const { budgets } = JSON.parse(alone.stdout);
    for (const row of results.filter((row: { method: string }) => row.method === "key")) {
      const { items, identical, meanReach } = budgets[row.task];
      assertEquals([row.reach.identical, row.reach.missedKeys], [identical / items, meanReach.missedKeys]);
    }
    const html = Deno.readTextFileSync(`${folder}/out/compare.html`);
    assertStringIncludes(html, "Methods compared: tiny on piqa, winogrande");
    const printed = await runTask("table", `${folder}/out`, "--format", "latex");
    assertEquals([printed.code, printed.stderr], [0, ""]);
    assertMatch(printed.stdout, /^method & pairs & KV cache & piqa acc & winogrande acc & mean/m);
    assertMatch(printed.stdout, /\\textbf\{/);
    // A second table has the difference of any two methods; CSV has it alone.
    assertMatch(printed.stdout, /^method & minus & task & difference & p & verdict/m);
    const csv = await runTask("table", `${folder}/out`, "--pairs", "--format", "csv");
    const [head, ...lines] = csv.stdout.trim().split("\n");
    const kept = JSON.parse(Deno.readTextFileSync(`${folder}/out/compare.json`)) as {
      pairs: { task: string; method: string; other: string; estimate: number; low: number; high: number }[];
      results: {
        task: string;
        metric: string;
        method: string;
        against: { dense?: { low: number; high: number } };
      }[];
    };
    assertEquals([csv.code, head, lines.length], [
      0,
      "method,minus,task,difference,p,verdict",
      // And the mean of the two tasks for each two methods.
      kept.pairs.length * 3 / 2,
    ]);
    for (const { task, method, other, estimate, low, high } of kept.pairs) {
      assert(low <= estimate && estimate <= high);
      const { dense } = kept.results.find((row) => row.task === task && row.method === method)!.against;
      if (other === "dense") assertEquals([low, high], [dense!.low, dense!.high]);
    }
    assert(kept.pairs.some(({ other }) => other !== "dense"));
    for (
      const [args, error] of [
        [
          ["--pairs", "--rows", "none"],
          "Cannot print differences: found no two of none in one run, expected folders of deno task compare",
        ],
        [["--latex", "--format", "csv"], "Cannot use --latex with --format: expected one of them"],
        [
          ["--pairs", "--columns", "p"],
          "Cannot use --columns with --pairs: they are those of the other table (leave --columns out)",
        ],
      ] as const
    ) {
      const refused = await runTask("table", `${folder}/out`, ...args);
      assertEquals([refused.code, refused.stdout, refused.stderr.trim()], [2, "", error]);
    }
  }));

Deno.test("compare fits methods on a calibration text, and says so in the record", () =>
  withFolder(async (folder) => {
    const text = fileURLToPath(new URL("../../../README.md", import.meta.url));
    const fitted = ["--calibration", text, "--calibration-domain", "other", "--calibration-tokens", "100"];
    const methods = ["--methods", "attention-drop,flap,probe-pruning", "--prune-ratio", "0.3"];
    const { code, stdout, stderr } = await runTask(
      "compare",
      ...SMALL,
      ...methods,
      ...fitted,
      "--out",
      folder,
      "--json",
      "--quiet",
    );
    assertEquals(code, 0, stderr);
    const { methods: rows, environment } = JSON.parse(stdout);
    assertEquals([environment.calibration, environment.calibrationSha256.length], ["other, 100 tokens", 64]);
    const of = (name: string) => rows.find((row: { name: string }) => row.name === name);
    assertEquals(of("attention-drop").retained.pairs, 0.7);
    assert(of("flap").retained.parameters < 0.85 && of("probe-pruning").retained.parameters === 1);
    assertStringIncludes(of("flap").labels, "calibration on other text");
    assertStringIncludes(of("probe-pruning").labels, "no calibration");
    assertEquals(rows.filter(({ missed }: { missed: boolean }) => missed), []);
    assertEquals(new Set(rows.map(({ loss }: { loss: number }) => loss)).size, 4);
  }));

Deno.test("compare stops on Ctrl-C in a fit on a calibration text too, which takes minutes, and says how to go on", () =>
  withFolder(async (folder) => {
    const text = `${folder}/text.txt`, out = `${folder}/out`, path = `${out}/study.db`;
    Deno.writeTextFileSync(text, "It was the best of times, it was the worst of times. ".repeat(20_000));
    const args = [
      ...["--context", "64", "--tokens", "64", "--threads", "1", "--methods", "sleb", "--prune-ratio", "0.5"],
      ...["--calibration", text, "--calibration-domain", "other", "--calibration-tokens", "200000"],
    ];
    let begun = NaN;
    // The fit begins when the full model has read the text.
    const isTime = () => {
      if (Number.isNaN(begun) && countUnits(out, "chunk") === 1) begun = performance.now();
      return performance.now() - begun > 500;
    };
    const { code, stdout, stderr } = await interruptTask("compare", [...args, "--out", out], isTime);
    const took = performance.now() - begun - 500;
    assertEquals(
      [code, stdout, listFolder(out), countUnits(out, "chunk")],
      [130, "", ["study.db"], 1],
      stderr,
    );
    assertStringIncludes(stderr, `Interrupted: 1 finished chunk is in ${path}. To go on: deno task compare `);
    assert(took < 30_000, `${took} ms`);
  }));

Deno.test("compare prints a table and how long it will take", () =>
  withFolder(async (folder) => {
    const long = ["--context", "520", "--tokens", "520", "--threads", "1"];
    const { code, stdout, stderr } = await runTask("compare", ...long, "--methods", "key", "--out", folder);
    assertEquals(code, 0, stderr);
    assertMatch(stdout, /^method +Q skipped +pairs +attn FLOPs +KV cache +proj FLOPs +params +ratio +loss/);
    assertMatch(stdout, /^key +0\.\d+ /m);
    assertMatch(stderr, /^\d+\/\d+ chunks, \d+ s left$/m);
    assertStringIncludes(stderr, "Warning: chunks of 520 tokens; the model was trained on 512\n");
  }));

Deno.test("compare refuses what it cannot run, in one line and before it writes", () =>
  withFolder(async (folder) => {
    const cases: [string[], RegExp][] = [
      [["--methods", "magic"], /^Cannot compare "magic": expected some of variance, /],
      [["--seeds", "0"], /^Cannot use --seeds 0: expected an integer from 1 to 10000$/m],
      [["--seeds", "100000000"], /^Cannot use --seeds 100000000: expected an integer from 1 to 10000$/m],
      [
        ["--tokens", "99999999999999999999"],
        /^Cannot use --tokens 9{20}: expected an integer from 2 to 9007199254740991$/m,
      ],
      [["--prune-ratio", "0.9"], /^Cannot .*0\.9/],
      [["--prune-ratio", "0.3,0.5"], /^Cannot use --prune-ratio 0\.3,0\.5: found 2 values/],
      [["--context", "5000", "--tokens", "200"], /^Cannot evaluate a text of/],
      [
        ["--methods", "local,key", "--warmup", "8"],
        /^Cannot use --warmup: found 8, expected at least \d+ since a local/,
      ],
    ];
    for (const [args, expected] of cases) {
      const { code, stdout, stderr } = await runTask("compare", ...args, "--quiet", "--out", `${folder}/out`);
      assertEquals([code, stdout], [2, ""], stderr);
      assertMatch(stderr, expected);
      assertEquals(stderr.trimEnd().split("\n").length, 1, stderr);
    }
    Deno.writeTextFileSync(`${folder}/compare.json`, "{}");
    const { code, stderr } = await runTask("compare", ...SMALL, "--out", folder);
    assertEquals(code, 2);
    assertStringIncludes(stderr, "it holds compare.json, a finished run");
    assertEquals(listFolder(folder), ["compare.json"]);
  }));

Deno.test("compare stops on Ctrl-C, and goes on to the result of an uninterrupted run", () =>
  withFolder(async (folder) => {
    const out = `${folder}/an out`, path = `${out}/study.db`;
    const args = [
      ...["--context", "64", "--tokens", "512", "--warmup", "8", "--threads", "1", "--seeds", "12"],
      ...["--methods", "random,key,oracle", "--prune-ratio", "0.3"],
    ];
    const isTime = () => countUnits(out, "chunk") >= 12;
    const { code, stdout, stderr } = await interruptTask("compare", [...args, "--out", out], isTime);
    assertEquals([code, stdout, listFolder(out)], [130, "", ["study.db"]]);
    const finished = countUnits(out, "chunk");
    assert(finished < 15 * 8, `${finished} chunks before the interrupt`);
    assertStringIncludes(stderr, `Interrupted: ${finished} finished chunks are in ${path}. To go on: `);

    for (
      const [other, expected] of [
        [
          ["--context", "32", "--resume", out],
          "its runs ran with context 64, expected the same, found 32",
        ],
        [["--out", out], "it holds a study (go on with --resume"],
        [["--resume", folder], "found no study.db there"],
      ] as const
    ) {
      const refused = await runTask("compare", ...args.slice(2), ...other);
      assertEquals([refused.code, refused.stdout], [2, ""]);
      assertStringIncludes(refused.stderr, expected);
      assertEquals(refused.stderr.trimEnd().split("\n").length, 1, refused.stderr);
    }
    assertEquals(countUnits(out, "chunk"), finished);

    dropLastUnits(out, 1);
    const words = resumeArguments("compare", stderr);
    const resumed = await runTask("compare", ...words, "--json", "--quiet");
    assertEquals([resumed.code, resumed.stderr], [0, ""]);
    assertEquals(listFolder(out), ["compare.html", "compare.json", "study.db"]);
    const whole = await runTask("compare", ...args, "--out", `${folder}/whole`, "--json", "--quiet");
    assertEquals(withoutTime(resumed.stdout), withoutTime(whole.stdout));
    const again = await runTask("compare", ...words);
    assertEquals(again.code, 2);
    assertStringIncludes(again.stderr, "it holds compare.json, a finished run");
  }));

const DATA = fileURLToPath(new URL("../eval/testdata/items", import.meta.url));

Deno.test("compare answers items at several ratios too, and goes on after an interrupt to the same table", () =>
  withFolder(async (folder) => {
    const out = `${folder}/out`, path = `${out}/study.db`;
    const args = [
      ...[...SMALL, "--methods", "random,key", "--seeds", "2", "--ratios", "0.3,0.5", "--recent", "2"],
      ...[
        "--data",
        DATA,
        "--tasks",
        "piqa,winogrande,recall",
        "--length",
        "60",
        "--items",
        "2",
        "--filter-from",
        "8",
      ],
    ];
    const { code, stdout, stderr } = await interruptTask(
      "compare",
      [...args, "--out", out],
      () => countUnits(out, "item") >= 3,
    );
    assertEquals([code, stdout, listFolder(out)], [130, "", ["study.db"]]);
    const finished = countUnits(out, "item");
    assert(finished < 42, `${finished} scores before the interrupt`);
    assertStringIncludes(stderr, `Interrupted: ${finished} finished scores are in ${path}. To go on: `);
    const other = await runTask("compare", ...args.slice(0, -1), "9", "--resume", out);
    assertEquals([other.code, other.stdout], [2, ""]);
    assertStringIncludes(
      other.stderr,
      "its items of piqa were filtered from 8, expected the same, found 9 (",
    );

    dropLastUnits(out, 7); // all runs of an item, which are kept together
    const resumed = await runTask("compare", ...resumeArguments("compare", stderr), "--json", "--quiet");
    assertEquals([resumed.code, resumed.stderr], [0, ""]);
    assertEquals(listFolder(out), ["compare.html", "compare.json", "study.db"]);
    const whole = await runTask("compare", ...args, "--out", `${folder}/whole`, "--json", "--quiet");
    assertEquals(withoutTime(resumed.stdout), withoutTime(whole.stdout));

    const { methods, results, items } = JSON.parse(whole.stdout);
    assertEquals(
      methods.map(({ name, asked = 0 }: { name: string; asked?: number }) => [name, asked]).sort(),
      [
        ["dense", 0],
        ["key at 0.3", 0.3],
        ["key at 0.5", 0.5],
        ["random at 0.3", 0.3],
        ["random at 0.5", 0.5],
      ],
    );
    const measured = "perplexity,kl,top1Agreement,acc,acc_norm,acc,acc,perplexity".split(",");
    assertEquals(
      results.map(({ metric }: { metric: string }) => metric),
      measured.flatMap((metric) => Array(5).fill(metric)),
    );
    // Both seeds of random count, each its own 4 methods x seeds of 3 tasks x 2 items.
    assertEquals(countUnits(`${folder}/whole`, "item"), 7 * 6);
    for (const { method, task, reach, timeMs } of items.budgets) {
      assert(reach.ownSkips + reach.missedKeys > 0 && timeMs > 0, `${method} ${task}`);
    }
    assertEquals(items.tasks.map(({ task, items }: { task: string; items: number }) => [task, items]), [
      ["piqa", 2],
      ["winogrande", 2],
      ["recall", 2],
    ]);
    // The numbers equal those of eval, which runs one method.
    const alone = await runTask(
      "eval",
      ...[
        "--data",
        DATA,
        "--tasks",
        "piqa",
        "--items",
        "2",
        "--threads",
        "1",
        "--filter-from",
        "8",
        "--recent",
        "2",
      ],
      ...["--method", "key", "--prune-ratio", "0.5", "--out", `${folder}/eval`, "--json", "--quiet"],
    );
    const row = results.find((own: { method: string; task: string }) =>
      own.method === "key at 0.5" && own.task === "piqa"
    );
    const [{ filtered, difference }] = JSON.parse(alone.stdout).results;
    assertEquals([row.value, row.against.dense.estimate], [filtered.value, difference.estimate]);
  }));

Deno.test("compare refuses items that it cannot score, in one line and before it writes", () =>
  withFolder(async (folder) => {
    const data = ["--data", DATA, "--tasks", "arc_easy"], small = ["--context", "64", "--tokens", "64"];
    const cases: [string[], string][] = [
      [["--methods", "key", "--filter-from", "8"], "Cannot use --filter-from: expected --data or --tasks"],
      [["--methods", "key", "--tasks", "pica"], 'Cannot use task "pica": expected one of '],
      [["--methods", "key", "--data", folder], "found none of arc_easy.jsonl, "],
      [
        ["--methods", "key", "--ratios", "0.3,1"],
        "Cannot use --ratios 0.3,1: expected ratios between 0 and 1",
      ],
      [["--methods", "key", "--ratios", "0.3,0.3"], "Cannot compare at ratios 0.3, 0.3: expected different"],
      [["--ratios", "0.3", "--prune-ratio", "0.3"], "Cannot use --ratios with --prune-ratio"],
      [
        ["--methods", "key", "--match", "row"],
        'Cannot use --match "row": expected one of cache, pairs, flops, none',
      ],
      [[...data, "--methods", "key", "--warmup", "40"], "Cannot call arc_easy with key filtered: "],
      // Some tokens come after the warm-up, but no scored position misses one of them.
      [[...data, "--methods", "keys", "--filter-from", "4"], "Cannot call arc_easy with keys filtered: "],
    ];
    for (const [args, expected] of cases) {
      const out = `${folder}/out`;
      const line = await command.main([...small, ...args, "--threads", "1", "--quiet", "--out", out])
        .then(() => "accepted", explainError);
      assertStringIncludes(line!, expected);
      assertEquals(line!.includes("\n"), false, line);
      assertEquals(listFolder(folder).filter((name) => name === "study.db"), []);
    }
  }));

Deno.test("compare keeps what it measured where a method turns out to reach nothing, and goes on with it", () =>
  withFolder(async (folder) => {
    const path = `${folder}/study.db`;
    const run = (tasks: string, ratio: string, place: string, length = "60") =>
      runTask(
        "compare",
        ...[...SMALL, "--methods", "key", "--quiet", "--items", "2", "--filter-from", "50", "--tasks", tasks],
        ...["--length", length, "--prune-ratio", ratio, place, folder],
      );
    // A hundredth of the ten tokens after the warm-up is none. In the second run a task joins.
    const runs = [["recall", "--out", "", 4], [
      "recall,copy",
      "--resume",
      ", nor of copy with key",
      8,
    ]] as const;
    for (const [tasks, place, also, scores] of runs) {
      const { code, stdout, stderr } = await run(tasks, "0.01", place);
      assertEquals([code, stdout], [2, ""]);
      assertMatch(stderr, /^Cannot call recall with key filtered: .*\n$/);
      assertStringIncludes(
        stderr,
        `${also}; all ${scores} scores are in ${path} (leave it out of --methods or --tasks, or filter more, and go on`,
      );
      assertEquals(listFolder(folder), ["study.db"]);
      assertEquals(countUnits(folder, "item"), scores);
    }
    // The same of the items that losses are of.
    const out = ["--prune-ratio", "0.01", "--methods", "key", "--threads", "1", "--out", `${folder}/own`];
    for (const flag of ["--tasks", "--task"]) {
      const own = [flag, "recall", "--items", "2", "--length", "60", "--filter-from", "50"];
      const main = await runTask("compare", ...own, ...out, "--match", "none", "--quiet");
      assertEquals([main.code, listFolder(`${folder}/own`)], [2, ["study.db"]], flag);
      assertMatch(main.stderr, /^Cannot call recall with key filtered: .*leave it out of --methods.*\n$/);
      Deno.removeSync(`${folder}/own`, { recursive: true });
    }
    const longer = await run("recall", "0.5", "--resume", "61");
    assertEquals([longer.code, longer.stdout, listFolder(folder).length], [2, "", 1]);
    assertStringIncludes(
      longer.stderr,
      `"${path}": its items of recall are of other data, expected the same (`,
    );
    const resumed = await run("recall", "0.5", "--resume");
    assertEquals([resumed.code, resumed.stderr], [0, ""]);
    // Answers of the full model are not computed again. A task that is left out keeps its scores.
    using store = StudyStore.open(path);
    const lines = store.units<ItemUnit>("item", ({ id }) => id).finished;
    const ofDense = lines.filter(({ run }) => run === "dense").map(({ task }) => task);
    assertEquals([lines.length, ofDense], [10, ["recall", "recall", "copy", "copy"]]);
  }));

/** The output without its start, its durations, and its peak memory. */
function withoutTime(text: string): string {
  return text.replace(/"startedAt": "[^"]*"/, "").replaceAll(/"(timeMs|peakMemoryBytes)": [\d.]+/g, "");
}

Deno.test("compare --budget and score --budget give each method the fraction that is asked for, or name the least", () =>
  withFolder(async (folder) => {
    const flags = ["--side", "key", "--warmup", "4", "--recent", "4", "--block", "8", "--quiet", "--json"];
    const text = ["--tokens", "200", "--context", "200", "--seeds", "1"];
    const run = (task: string, ...args: string[]) => runTask(task, ...flags, ...args);
    const methods = ["--methods", "snapkv,adakv,key"];
    const { code, stdout, stderr } = await run(
      "compare",
      ...text,
      ...methods,
      "--budget",
      "cache=0.4",
      "--out",
      `${folder}/out`,
    );
    assertEquals([code, stderr], [0, ""]);
    for (const { name, retained, matched, options } of JSON.parse(stdout).methods.slice(1)) {
      assert(Math.abs(retained.cache - 0.4) <= 0.005, `${name}: ${retained.cache}`);
      assertEquals([matched.target, matched.reached, matched.ratio], [0.4, true, options.kvRatio]);
    }
    // All three share the budget, whatever their ratios are.
    assertMatch(
      describeComparison(JSON.parse(stdout)).join(" "),
      /^At KV cache, 40% of the full model as requested, no method differs significantly from “adakv”/,
    );
    const refused = await run(
      "compare",
      ...text,
      ...["--methods", "key"],
      "--budget",
      "rows=2%",
      "--out",
      `${folder}/less`,
    );
    assertEquals([refused.code, refused.stdout], [2, ""]);
    assertMatch(
      refused.stderr,
      /^Cannot give "\w+" 2\.0% of KV cache: found \d+\.\d% as the least, at ratios up to 0\.99, expected at least cache=0\.\d+\n$/,
    );
    Deno.writeTextFileSync(
      `${folder}/text.txt`,
      "It was a dark night, and the rain fell in torrents. ".repeat(12),
    );
    const scored = await run(
      "score",
      "--text",
      `${folder}/text.txt`,
      "--method",
      "tova",
      "--budget",
      "flops=0.9",
    );
    assertEquals([scored.code, scored.stderr], [0, ""]);
    const one = await run(
      "score",
      "--text",
      `${folder}/text.txt`,
      "--method",
      "tova",
      "--budget",
      "cache=50%",
    );
    const { kvBytesHeld, kvBytesAvoided } = JSON.parse(one.stdout);
    assert(Math.abs(kvBytesHeld / (kvBytesHeld + kvBytesAvoided) - 0.5) <= 0.005);
    for (
      const [task, args, error] of [
        [
          "compare",
          ["--budget", "cash=0.3"],
          "expected rows, cache, pairs, flops = a fraction between 0 and 1, as in cache=0.3",
        ],
        [
          "compare",
          ["--budget", "cache=1.5"],
          "expected rows, cache, pairs, flops = a fraction between 0 and 1, as in cache=0.3",
        ],
        [
          "compare",
          ["--budget", "cache=0.3", "--match", "cache"],
          "Cannot use --budget with --match: expected one of them",
        ],
        ["score", ["--text", `${folder}/text.txt`, "--budget", "cache=0.3"], "Cannot use --budget"],
      ] as const
    ) {
      const wrong = await runTask(task, ...args);
      assertEquals([wrong.code, wrong.stdout], [2, ""]);
      assertMatch(wrong.stderr, new RegExp(error.replaceAll(/[.]/g, "\\.")));
    }
  }));
