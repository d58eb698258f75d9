import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { BENCH_REPORT } from "../tools/bench/testing.ts";
import { checkPage, openBrowser, VIEWS } from "../../lib/plot/browser/page_testing.ts";
import { browserTest } from "../../lib/plot/figure/testing.ts";
import { makeSummary, makeTrial } from "../../lib/plot/testing.ts";
import { RUNS_SLOW } from "../../lib/testing.ts";
import { listFolder, runTask, withFolder } from "./testing.ts";

/** Small enough to run often: 2 chunks of 64 tokens. */
const SMALL = ["--context", "64", "--tokens", "128", "--warmup", "8", "--threads", "1", "--quiet"];

/** Makes a result of each task that a site takes. */
async function makeResults(folder: string): Promise<void> {
  const runs = [
    ["sweep", ...SMALL, "--method", "learned,random,variance", "--tau", "0,1", "--prune-ratio", "0.2,0.4"],
    ["compare", ...SMALL, "--methods", "random,learned,oracle", "--seeds", "2"],
    ["heads", ...SMALL, "--resamples", "20"],
    ...(RUNS_SLOW ? [["bench", "--only", "filter", "--threads", "1", "--quiet"]] : []),
  ];
  for (const [task, ...args] of runs) {
    const { code, stderr } = await runTask(task!, ...args, "--out", `${folder}/${task}`);
    assertEquals(code, 0, stderr);
  }
  if (RUNS_SLOW) return;
  await Deno.mkdir(`${folder}/bench`);
  await Deno.writeTextFile(`${folder}/bench/bench.json`, JSON.stringify(BENCH_REPORT));
}

browserTest(
  "report makes a site whose pages draw from the folder alone, on any width and in both schemes",
  () =>
    withFolder(async (folder) => {
      await makeResults(folder);
      const out = `${folder}/site with blanks`;
      const { code, stdout, stderr } = await runTask("report", folder, "--out", out);
      assertEquals([code, stderr], [0, ""]);
      assertStringIncludes(stdout, `4 results: ${out}/index.html`);
      assertEquals(listFolder(out), [
        "bench_bench.html",
        "compare_compare.html",
        "heads_heads.html",
        "index.html",
        "plotly.min.js",
        "sweep_sweep.html",
      ]);
      await using browser = await openBrowser();
      const views = RUNS_SLOW ? VIEWS : VIEWS.slice(0, 1); // the gallery shows every plot in the other one
      const plots = {
        "index.html": 0,
        "bench_bench.html": 1, // of the measurements
        "compare_compare.html": 3,
        "heads_heads.html": 14,
        "sweep_sweep.html": 8,
      };
      for (const [file, expected] of Object.entries(plots)) {
        for (const view of views) {
          const found = await checkPage(`${out}/${file}`, { browser, ...view });
          assertEquals([found.problems, found.requests, found.plots], [[], [], expected], file);
        }
      }
      assertEquals((await runTask("report", `${folder}/sweep`, "--out", out)).code, 0); // renews the site
      assert(!Deno.readTextFileSync(`${out}/index.html`).includes("compare"));
    }),
);

Deno.test("report leaves out what it cannot use, by file and field, and makes a site of the rest", () =>
  withFolder(async (folder) => {
    const summary = makeSummary([makeTrial({ tau: 1 }, 0.5, 50), makeTrial({ tau: 2 }, 0.5, 51)]);
    const [first, second] = summary.trials, { environment } = summary;
    const spoil = (more: object) => ({ ...summary, trials: [first, { ...second, ...more }] });
    const files: [string, object, string?][] = [
      ["good/summary.json", summary],
      [
        "a/summary.json",
        spoil({ tau: "one" }),
        'trial 2, field "tau": found "one", expected a number in [0, 64]',
      ],
      ["b/summary.json", spoil({ kl: "x" }), 'trial 2, field "kl": found "x", expected a number or null'],
      ["c/summary.json", { ...summary, trials: {} }, 'found no list of "trials"'],
      ["d/summary.json", { ...summary, environment: { ...environment, task: "magic" } }, '"magic"'],
      [
        "e/summary.json",
        { ...summary, trials: [null] },
        'trial 1, field "trial": found nothing, expected a text',
      ],
      ["f/compare.json", {
        methods: [{ name: "x", achievedRatio: 0.5, loss: "1" }],
        intervals: {},
        environment,
      }, 'method 1, field "loss": found "1", expected a number'],
      ["g/heads.json", { layers: [], overall: {}, environment }, "Cannot make a page of heads"],
    ];
    for (const [file, content] of files) {
      await Deno.mkdir(`${folder}/in/${file.split("/")[0]}`, { recursive: true });
      await Deno.writeTextFile(`${folder}/in/${file}`, JSON.stringify(content));
    }
    const { code, stdout, stderr } = await runTask("report", `${folder}/in`, "--out", `${folder}/out`);
    assertEquals([code, stdout], [0, `1 result: ${folder}/out/index.html\n`], stderr);
    const lines = stderr.trimEnd().split("\n"), wrong = files.slice(1);
    assertEquals(lines.length, wrong.length, stderr);
    for (const [i, [file, , error]] of wrong.entries()) {
      assertStringIncludes(lines[i]!, `Left out: Cannot use "${folder}/in/${file}": `);
      assertStringIncludes(lines[i]!, error!);
    }
    assertEquals(listFolder(`${folder}/out`), ["good_sweep.html", "index.html", "plotly.min.js"]);
  }));

Deno.test("report refuses what it cannot use, in one line and before it writes", () =>
  withFolder(async (folder) => {
    await Deno.mkdir(`${folder}/broken`);
    await Deno.mkdir(`${folder}/mine`);
    await Deno.mkdir(`${folder}/good`);
    await Deno.writeTextFile(`${folder}/broken/heads.json`, '{"layers": []}');
    await Deno.writeTextFile(`${folder}/mine/index.html`, "<title>Mine</title>");
    await Deno.writeTextFile(`${folder}/good/summary.json`, JSON.stringify(makeSummary([])));
    const cases: [string[], RegExp][] = [
      [[], /^Cannot run report with 0 names: expected deno task report DIR…/],
      [[`${folder}/none`], /^Cannot read ".*none": there is no such folder/],
      [[`${folder}/mine`], /^Cannot make a report of .*: found none of summary\.json, heads\.json/],
      [
        [`${folder}/broken`],
        /^Cannot use ".*heads\.json": found no "overall", expected what deno task heads/,
      ],
      [
        [`${folder}/good`, "--out", `${folder}/mine`],
        /^Cannot write to ".*mine": its index\.html is no report/,
      ],
      [
        [`${folder}/good`, "--uot", "x"],
        /^Cannot use flag "--uot.*": "report" has no such flag, the nearest is "--out"/,
      ],
    ];
    for (const [args, expected] of cases) {
      const { code, stdout, stderr } = await runTask("report", ...args);
      assertEquals([code, stdout], [2, ""], stderr);
      assertMatch(stderr, expected);
      assertEquals(stderr.trimEnd().split("\n").length, 1, stderr);
    }
    assertEquals(listFolder(`${folder}/mine`), ["index.html"]);
  }));
