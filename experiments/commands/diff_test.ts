import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { makeSummary, makeTrial } from "../../lib/plot/testing.ts";
import { checkPage } from "../../lib/plot/browser/page_testing.ts";
import { browserTest } from "../../lib/plot/figure/testing.ts";
import { listFolder, runTask, withFolder } from "./testing.ts";

const SMALL = ["--context", "64", "--tokens", "256", "--warmup", "8", "--threads", "1", "--quiet"];

/** Runs a task into a folder. */
async function run(task: string, ...args: string[]): Promise<void> {
  const { code, stderr } = await runTask(task, ...args);
  assertEquals([code, stderr], [0, ""]);
}

Deno.test("diff pairs two sweeps of one text, block by block, and makes a page", () =>
  withFolder(async (folder) => {
    for (const recent of ["0", "16"]) {
      await run(
        "sweep",
        ...SMALL,
        "--method",
        "key,mean",
        "--recent",
        recent,
        "--out",
        `${folder}/${recent}`,
      );
    }
    const args = [`${folder}/0`, `${folder}/16/summary.json`], out = `${folder}/diff`;
    const { code, stdout, stderr } = await runTask("diff", ...args, "--json", "--out", out);
    assertEquals([code, stderr], [0, ""]);
    const { paired, options, rows } = JSON.parse(stdout);
    assertEquals([paired, options], [true, [{ name: "recent", a: "0", b: "16" }]]);
    assertEquals(rows.map(({ name }: { name: string }) => name).sort(), ["dense", "key · 0.5", "mean · 0.5"]);
    const [a, b] = ["0", "16"].map((name) =>
      JSON.parse(Deno.readTextFileSync(`${folder}/${name}/summary.json`))
    );
    for (const { name, difference } of rows.slice(1)) {
      const nll = ({ trials }: typeof a) =>
        trials.find((t: { fusion: string }) => name.startsWith(t.fusion)).nllDelta;
      assert(Math.abs(difference.estimate - (nll(b) - nll(a))) < 1e-6, name);
      // The effect of a passage on both runs cancels: the paired interval is narrower than that of two unpaired runs.
      assert(difference.high - difference.low > 0);
    }
    assertEquals(rows[0].difference, { estimate: 0, low: 0, high: 0 });
    assertEquals(listFolder(out), ["diff.html", "diff.json"]);
    assertEquals(JSON.parse(Deno.readTextFileSync(`${out}/diff.json`)), JSON.parse(stdout));
    assert((await Deno.stat(`${out}/diff.html`)).size < 2e6);
    const table = await runTask("diff", ...args, "--csv", `${folder}/diff.csv`);
    assertMatch(table.stdout, /^trial +Q skipped +ppl A +ppl B +B - A +sign\n/);
    assertStringIncludes(table.stdout, "Paired: both read the same tokens");
    assertMatch(Deno.readTextFileSync(`${folder}/diff.csv`), /^name,a\.achievedRatio,/);
  }));

Deno.test("diff pairs comparisons and scores, and what read another text it does not", () =>
  withFolder(async (folder) => {
    for (const [name, ratio] of [["a", "0.3"], ["b", "0.5"]] as const) {
      const text = `${folder}/${name}.txt`;
      await Deno.writeTextFile(
        text,
        `It was the best of times, it was the worst of times ${name}. `.repeat(20),
      );
      const method = ["--prune-ratio", ratio, "--out", `${folder}/${name}`];
      await run("compare", ...SMALL, "--methods", "key,mean", ...method);
      await run(
        "score",
        "--text",
        `${folder}/a.txt`,
        "--threads",
        "1",
        "--method",
        "key",
        "--quiet",
        ...method,
      );
      await run("score", "--text", text, "--threads", "1", "--quiet", "--out", `${folder}/other_${name}`);
    }
    const diff = async (...args: string[]) => {
      const { code, stdout, stderr } = await runTask("diff", ...args, "--json");
      assertEquals([code, stderr], [0, ""]);
      return JSON.parse(stdout);
    };
    const compared = await diff(`${folder}/a`, `${folder}/b`);
    assertEquals([compared.kind, compared.paired], ["compare", true]);
    const read = (name: string) => JSON.parse(Deno.readTextFileSync(`${folder}/${name}`));
    const lossOf = (name: string, method: string) =>
      read(`${name}/compare.json`).methods.find((own: { name: string }) => own.name === method).loss;
    const key = compared.rows.find(({ name }: { name: string }) => name === "key");
    assert(Math.abs(key.difference.estimate - (lossOf("b", "key") - lossOf("a", "key"))) < 1e-6);
    const scored = await diff(`${folder}/a/score.json`, `${folder}/b/score.json`);
    assertEquals([scored.kind, scored.paired, scored.rows.length], ["score", true, 2]);
    const other = await diff(`${folder}/other_a`, `${folder}/other_b`);
    assertEquals([other.paired, other.rows[0].difference], [false, null]);
    assertEquals(other.unpaired, "the runs did not read the same tokens in the same chunks");
  }));

Deno.test("diff names what it cannot use, in one line, and writes nothing", () =>
  withFolder(async (folder) => {
    const trial = makeTrial({}, 0.5, 50), summary = makeSummary([trial]);
    const files: [string, object][] = [
      ["good/summary.json", summary],
      ["spoilt/summary.json", { ...summary, trials: [{ ...trial, lossBlocks: { sums: [1], sizes: [] } }] }],
      ["heads/heads.json", {}],
      ["score/score.json", { ids: [1, 2], nll: [1] }],
      ["letters/score.json", { ids: [1, 2], nll: ["x"] }],
    ];
    for (const [file, content] of files) {
      await Deno.mkdir(`${folder}/${file.split("/")[0]}`);
      await Deno.writeTextFile(`${folder}/${file}`, JSON.stringify(content));
    }
    const good = `${folder}/good`;
    const cases: [string[], string][] = [
      [[], "Cannot run diff with 0 names: expected deno task diff A B [flags] (see --help)"],
      [[good], "Cannot run diff with 1 name:"],
      [[good, `${folder}/none`], `Cannot read "${folder}/none": there is no such file or folder`],
      [
        [good, `${folder}/heads/`],
        `Cannot use "${folder}/heads": found none of summary.json, compare.json, score.json`,
      ],
      [
        [good, `${folder}/heads/heads.json`],
        `Cannot use "${folder}/heads/heads.json": expected a folder, or a file`,
      ],
      [
        [good, `${folder}/score`],
        `Cannot compare "${good}" with "${folder}/score": found summary.json and score.json`,
      ],
      [
        [good, `${folder}/spoilt`],
        `Cannot use "${folder}/spoilt/summary.json": trial 1, field "lossBlocks": found {"sums":[1],"sizes":[]}, ` +
        "expected sums and sizes of blocks, as many, expected what deno task sweep writes",
      ],
      [
        [`${folder}/letters`, `${folder}/letters`],
        `Cannot use "${folder}/letters/score.json": field "nll": found ["x"]`,
      ],
      [[good, good, "--columns", "x"], "Cannot use --columns x: expected all, or some of trial, q-skipped"],
      [[good, good, "--outt", "x"], 'Cannot use flag "--outt'],
      [[good, good, "--json", "--latex"], "Cannot use --json with --latex: expected one of them"],
    ];
    for (const [args, expected] of cases) {
      const { code, stdout, stderr } = await runTask("diff", ...args);
      assertEquals([code, stdout], [2, ""], stderr);
      assertStringIncludes(stderr, expected);
      assertEquals(stderr.trimEnd().split("\n").length, 1, stderr);
    }
  }));

browserTest(
  "the page of two runs draws without a fault, narrow and wide, light and dark",
  () =>
    withFolder(async (folder) => {
      const rules = ["variance", "key", "learned", "random", "oracle"] as const;
      for (const [name, recent] of [["a", 0], ["b", 16]] as const) {
        const trials = rules.flatMap((fusion, i) =>
          [0.3, 0.5].map((pruneRatio) =>
            makeTrial({ fusion, pruneRatio, recent }, pruneRatio, 50 + 2 * i + (i - 2) * recent * pruneRatio)
          )
        );
        await Deno.mkdir(`${folder}/${name}`);
        await Deno.writeTextFile(`${folder}/${name}/summary.json`, JSON.stringify(makeSummary(trials)));
      }
      const { code, stderr } = await runTask("diff", `${folder}/a`, `${folder}/b`, "--out", `${folder}/out`);
      assertEquals(code, 0, stderr);
      const seen = await checkPage(`${folder}/out/diff.html`, {
        widths: [390, 1280],
        screenshots: Deno.env.get("TOKENFILTER_SCREENSHOTS"),
      });
      assertEquals([seen.plots, seen.problems, seen.requests], [1, [], []]);
    }),
);
