import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { interruptTask, listFolder, readLines, resumeArguments, runTask, withFolder } from "./testing.ts";

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
      "oracle for paper",
      "paper",
      "random",
      "random for paper",
      "variance inverted",
    ]);
    for (const { name, achievedRatio, toDense, options, seeds } of comparison.methods.slice(1)) {
      assert(Math.abs(achievedRatio - 0.3) < 0.06, `${name} ${achievedRatio}`);
      assert(toDense.low <= toDense.estimate && toDense.estimate <= toDense.high);
      assertEquals([options.pruneRatio, options.recent, seeds], [
        0.3,
        name === "paper" || name.endsWith("for paper") ? 0 : 16,
        name.startsWith("random") ? 2 : 1,
      ]);
    }
    assertEquals(listFolder(out), ["compare.html", "compare.json"]);
    assertEquals(JSON.parse(Deno.readTextFileSync(`${out}/compare.json`)), comparison);
    const page = Deno.readTextFileSync(`${out}/compare.html`);
    assertStringIncludes(page, "plotly.js (cartesian");
    assertEquals(page.match(/<tr[ >]/g)!.length, 8);
  }));

Deno.test("compare prints a table and how long it will take", () =>
  withFolder(async (folder) => {
    const long = ["--context", "520", "--tokens", "520", "--threads", "1"];
    const { code, stdout, stderr } = await runTask("compare", ...long, "--methods", "key", "--out", folder);
    assertEquals(code, 0, stderr);
    assertMatch(stdout, /^method +Q skipped +pairs +attn FLOPs +KV held +loss/);
    assertMatch(stdout, /^key +0\.\d+ /m);
    assertMatch(stderr, /^key: \d+ s left$/m);
    assertStringIncludes(stderr, "Warning: chunks of 520 tokens; the model was trained on 512\n");
  }));

Deno.test("compare refuses what it cannot run, in one line and before it writes", () =>
  withFolder(async (folder) => {
    const cases: [string[], RegExp][] = [
      [["--methods", "magic"], /^Cannot compare "magic": expected some of variance, /],
      [["--seeds", "0"], /^Cannot use --seeds 0/],
      [["--prune-ratio", "0.9"], /^Cannot .*0\.9/],
      [["--prune-ratio", "0.3,0.5"], /^Cannot use --prune-ratio 0\.3,0\.5: found 2 values/],
      [["--context", "5000", "--tokens", "200"], /^Cannot evaluate a text of/],
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
    const out = `${folder}/an out`, log = `${out}/methods.jsonl`;
    const args = [
      ...["--context", "64", "--tokens", "512", "--warmup", "8", "--threads", "1", "--seeds", "12"],
      ...["--methods", "random,key,oracle", "--prune-ratio", "0.3"],
    ];
    const isTime = () => readLines(log).length >= 2;
    const { code, stdout, stderr } = await interruptTask("compare", [...args, "--out", out], isTime);
    assertEquals([code, stdout, listFolder(out)], [130, "", ["methods.jsonl"]]);
    const finished = readLines(log);
    assert(finished.length < 14, `${finished.length} runs before the interrupt`);
    assertStringIncludes(stderr, `Interrupted: ${finished.length} finished runs are in ${log}. To go on: `);

    for (
      const [other, expected] of [
        [
          ["--context", "32", "--resume", out],
          "its runs ran with model tiny, text built-in prose, context 64",
        ],
        [["--out", out], "it holds a comparison (go on with --resume"],
        [["--resume", folder], "found no methods.jsonl there"],
      ] as const
    ) {
      const refused = await runTask("compare", ...args.slice(2), ...other);
      assertEquals([refused.code, refused.stdout], [2, ""]);
      assertStringIncludes(refused.stderr, expected);
      assertEquals(refused.stderr.trimEnd().split("\n").length, 1, refused.stderr);
    }
    assertEquals(readLines(log), finished);

    Deno.truncateSync(log, Deno.statSync(log).size - 100);
    const words = resumeArguments("compare", stderr);
    const resumed = await runTask("compare", ...words, "--json", "--quiet");
    assertEquals([resumed.code, resumed.stderr], [0, ""]);
    assertEquals(listFolder(out), ["compare.html", "compare.json"]);
    const whole = await runTask("compare", ...args, "--out", `${folder}/whole`, "--json", "--quiet");
    assertEquals(withoutTime(resumed.stdout), withoutTime(whole.stdout));
    const again = await runTask("compare", ...words);
    assertEquals(again.code, 2);
    assertStringIncludes(again.stderr, "it holds compare.json, a finished run");
  }));

/** Everything but when it began. */
function withoutTime(text: string): string {
  return text.replace(/"startedAt": "[^"]*"/, "");
}
