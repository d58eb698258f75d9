import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { checkPage, openBrowser } from "./browser/mod.ts";
import { browserTest } from "./browser/testing.ts";
import { listFolder, runTask, withFolder } from "./testing.ts";

/** Small enough to run often: 2 chunks of 64 tokens. */
const SMALL = ["--context", "64", "--tokens", "128", "--warmup", "8", "--threads", "1", "--quiet"];

/** Makes a result of each task that a site takes. */
async function makeResults(folder: string): Promise<void> {
  const runs = [
    ["sweep", ...SMALL, "--fusion", "learned,random,variance", "--tau", "0,1", "--prune-ratio", "0.2,0.4"],
    ["compare", ...SMALL, "--methods", "random,learned,oracle", "--seeds", "2"],
    ["heads", ...SMALL, "--resamples", "20"],
    ["bench", "--only", "filter", "--threads", "1", "--quiet"],
  ];
  for (const [task, ...args] of runs) {
    const { code, stderr } = await runTask(task!, ...args, "--out", `${folder}/${task}`);
    assertEquals(code, 0, stderr);
  }
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
      const plots = {
        "index.html": 0,
        "bench_bench.html": 4,
        "compare_compare.html": 2,
        "heads_heads.html": 13,
        "sweep_sweep.html": 6,
      };
      for (const [file, expected] of Object.entries(plots)) {
        const found = await checkPage(`${out}/${file}`, { browser });
        assertEquals([found.problems, found.requests, found.plots], [[], [], expected], file);
      }
      assertEquals((await runTask("report", `${folder}/sweep`, "--out", out)).code, 0); // renews the site
      assert(!Deno.readTextFileSync(`${out}/index.html`).includes("compare"));
    }),
);

Deno.test("report refuses what it cannot use, in one line and before it writes", () =>
  withFolder(async (folder) => {
    await Deno.mkdir(`${folder}/broken`);
    await Deno.mkdir(`${folder}/mine`);
    await Deno.mkdir(`${folder}/good`);
    await Deno.writeTextFile(`${folder}/broken/heads.json`, '{"layers": []}');
    await Deno.writeTextFile(`${folder}/mine/index.html`, "<title>Mine</title>");
    await Deno.writeTextFile(
      `${folder}/good/bench.json`,
      JSON.stringify({ kernels: [], lengths: [], roof: {}, environment: { startedAt: "2026" } }),
    );
    const cases: [string[], RegExp][] = [
      [[], /^Cannot make a report: found no folder of results/],
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
        /^Cannot use "--uot.*": there is no such flag, the nearest is "--out"/,
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
