/** `--budget` in the commands that search one ratio, or the ratios of a grid. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { runTask, withFolder } from "../../testing.ts";

const FLAGS = [
  "--side",
  "key",
  "--warmup",
  "4",
  "--recent",
  "4",
  "--block",
  "8",
  "--quiet",
  "--json",
  "--threads",
  "1",
];
const isNear = (found: number, target: number) => assert(Math.abs(found - target) <= 0.005, `${found}`);
const cacheOf = ({ kvBytesHeld, kvBytesAvoided }: { kvBytesHeld: number; kvBytesAvoided: number }) =>
  kvBytesHeld / (kvBytesHeld + kvBytesAvoided);

async function run(task: string, ...args: string[]) {
  const { code, stdout, stderr } = await runTask(task, ...FLAGS, ...args);
  assertEquals([code, stderr], [0, ""]);
  return JSON.parse(stdout);
}

Deno.test("sweep --budget gives every method of a grid the fraction, and each ratio once", () =>
  withFolder(async (folder) => {
    const text = ["--tokens", "400", "--context", "200", "--out", `${folder}/out`];
    const { trials } = await run(
      "sweep",
      ...text,
      "--method",
      "key,snapkv,random",
      "--seed",
      "0,1",
      "--budget",
      "cache=0.5",
    );
    assertEquals(trials.length, 4);
    for (const trial of trials.filter(({ kvFusion }: { kvFusion: string }) => kvFusion !== "random")) {
      isNear(cacheOf(trial), 0.5);
    }
    const ratios = new Set(trials.map(({ kvRatio }: { kvRatio: number }) => kvRatio));
    assert(ratios.size >= 2, [...ratios].join());
  }));

Deno.test("eval --budget has the fraction over all items, and generate over the prompt", () =>
  withFolder(async (folder) => {
    const items = ["--tasks", "needle,copy", "--length", "150", "--items", "4", "--out", `${folder}/out`];
    const { budgets, environment } = await run("eval", ...items, "--method", "tova", "--budget", "cache=0.6");
    const sums = Object.values<{ usage: Parameters<typeof cacheOf>[0] }>(budgets).reduce(
      (sum, { usage }) => ({
        kvBytesHeld: sum.kvBytesHeld + usage.kvBytesHeld,
        kvBytesAvoided: sum.kvBytesAvoided + usage.kvBytesAvoided,
      }),
      { kvBytesHeld: 0, kvBytesAvoided: 0 },
    );
    isNear(cacheOf(sums), 0.6);
    assert(environment.options.kvRatio > 0.4);

    Deno.writeTextFileSync(
      `${folder}/text.txt`,
      "It was a dark night, and the rain fell in torrents. ".repeat(12),
    );
    const prompt = ["--text", `${folder}/text.txt`, "--max-tokens", "1", "--method", "key"];
    const { runs } = await run("generate", ...prompt, "--budget", "cache=40%");
    isNear(runs[0].kvBytesHeld / runs[0].kvBytesDense, 0.4);
  }));

Deno.test("--budget is refused in one line where it has no meaning, and sends a time to --time", async () => {
  const cases: [task: string, args: string[], error: RegExp][] = [
    [
      "sweep",
      ["--budget", "20m"],
      /expected rows, .*as in cache=0.3 \(a limit of time is --time 20m, of deno task sweep\)\n$/,
    ],
    [
      "sweep",
      ["--budget", "cache=0.5", "--sampler", "random", "--method", "key,mean"],
      /expected a grid, whose ratios it replaces\n$/,
    ],
    [
      "sweep",
      ["--budget", "cache=0.5", "--prune-ratio", "0.3"],
      /--budget with --prune-ratio: expected one of them\n$/,
    ],
    [
      "eval",
      ["--tasks", "perplexity", "--budget", "cache=0.5", "--preset", "keys"],
      /with perplexity, which reads a text: expected tasks of items/,
    ],
    [
      "generate",
      ["--prompt", "It", "--budget", "cache=0.5"],
      /without a method: expected --method or --preset\n$/,
    ],
    ["serve", ["--budget", "cache=0.5"], /without a method: expected --method or --preset\n$/],
    [
      "serve",
      ["--port", "0", "--preset", "keys", "--budget", "cache=1%"],
      /^Cannot give "keys" 1\.0% of KV cache: found \d+\.\d% as the least/,
    ],
  ];
  for (const [task, args, error] of cases) {
    const { code, stdout, stderr } = await runTask(task, ...args);
    assertEquals([code, stdout], [2, ""], stderr);
    assertMatch(stderr, error);
  }
});
