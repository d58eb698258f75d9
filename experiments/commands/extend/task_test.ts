/**
 * The promise of CONTRIBUTING.md: a new evaluation task is one file and one line, and sweep, compare and report have
 * it. A copy of the project takes in a task; only `lib/eval/tasks/` differs from the project itself.
 */
import { assert, assertAlmostEquals, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { IN_SLOW_TIER, unless } from "../../../lib/testing.ts";
import { copyProject, finish, type Finished, moduleOf } from "../testing.ts";

const TOY = `/** Accuracy of the next token. */
import { rowsOf } from "../../tensor.ts";
import { ChunkEvaluation, type ChunkScorer } from "../chunks/chunk_evaluation.ts";
import { cutChunks } from "../chunks/chunks.ts";
import type { Task } from "../task.ts";

/** 0 where the likeliest token is the next one, else 1. */
const scorer: ChunkScorer = {
  score(model, ids, hidden) {
    const states = rowsOf(model.backend.read(hidden), 0, ids.length - 1);
    const { data, shape: [rows, vocabulary] } = model.backend.read(model.logits(model.backend.upload(states)));
    return Float64Array.from({ length: rows! }, (_, row) => {
      const logits = (data as Float32Array).subarray(row * vocabulary!, (row + 1) * vocabulary!);
      return logits.indexOf(logits.reduce((a, b) => Math.max(a, b))) === ids[row + 1] ? 0 : 1;
    });
  },
};

/** A task. */
export const toy: Task = {
  name: "toy",
  help: "whether the next token is the likeliest",
  protocol: "Chunks of a text; fraction of next tokens that are the likeliest.",
  loss: { name: "error", label: "error", unit: "errors", of: "token" },
  headline: {
    name: "accuracy",
    label: "acc",
    help: "fraction of next tokens that are the likeliest",
    better: "higher",
    digits: 1,
    percent: true,
    fromLoss: (loss) => 1 - loss,
    formula: "1 - the mean loss",
  },
  metrics: [],
  open: (model, { ids, context }) => new ChunkEvaluation(toy, model, cutChunks(ids, context), scorer),
};
`;

const ENDINGS = `/** Which of two words ends a sentence. */
import { ACC } from "../items/item_metrics.ts";
import { defineItemTask, type ItemTask, readQuestions } from "../items/item_task.ts";

/** A task of items. */
export const endings: ItemTask = defineItemTask({
  name: "endings",
  help: "which of two words ends a sentence",
  protocol: "The sentence's start, each word after one space.",
  file: "endings.jsonl",
  metrics: [ACC],
  read: (rows) =>
    readQuestions(rows, (row) => {
      return { context: row.text("start"), choices: row.texts("words", 2, 2), gold: row.index("gold", 2) };
    }),
});
`;

const copy = copyProject("lib/eval/tasks");
Deno.writeTextFileSync(`${copy}/lib/eval/tasks/toy.ts`, TOY);
Deno.writeTextFileSync(`${copy}/lib/eval/tasks/endings.ts`, ENDINGS);
const list = Deno.readTextFileSync(`${copy}/lib/eval/tasks/mod.ts`);
Deno.writeTextFileSync(
  `${copy}/lib/eval/tasks/mod.ts`,
  list.replace(
    "import { perplexity }",
    'import { toy } from "./toy.ts";\nimport { endings } from "./endings.ts";\n$&',
  ).replace("  perplexity,\n", "$&  toy,\n  endings,\n"),
);

const deno = (...args: string[]): Promise<Finished> =>
  finish(new Deno.Command(Deno.execPath(), { args, cwd: copy, stdout: "piped", stderr: "piped" }).spawn());
const run = (task: string, line: string) => deno("run", "-A", moduleOf(task), ...line.split(" "));

const SMALL = "--threads 1 --task toy --context 64 --tokens 256 --warmup 8";

Deno.test({
  ...unless(IN_SLOW_TIER, "a new task is a file and a line that type-check"),
  fn: async () => {
    const { code, stderr } = await deno("check", "lib/eval/tasks/mod.ts");
    assertEquals(code, 0, stderr);
  },
});

Deno.test("sweep, its help, table, records, front and report, and the site know a new task", async () => {
  const { stdout: help } = await run("sweep", "--help=all");
  assertStringIncludes(
    help,
    "  --task NAME\n      task to evaluate (perplexity)\n      perplexity: ",
  );
  assertStringIncludes(help, "      toy: whether the next token is the likeliest\n");

  const out = `${copy}/results/s`;
  const { code, stdout, stderr } = await run(
    "sweep",
    `${SMALL} --method learned,random --prune-ratio 0.25,0.5 --recent 8,16 --out ${out}`,
  );
  assertEquals(code, 0, stderr);
  assertMatch(stderr, /random 0.25: accuracy \d+\.\d%/);
  assertMatch(stdout, /Q skipped +acc +error increase +95% +pairs +attn FLOPs +KV cache/);
  assertMatch(stdout, /: 4 chunks of 64 tokens, dense accuracy \d+\.\d%\.\n/);
  const { trials, dense, environment } = JSON.parse(Deno.readTextFileSync(`${out}/summary.json`));
  assertEquals([environment.task, trials[0].task], ["toy", "toy"]);
  assertStringIncludes(environment.protocol, "likeliest");
  assertAlmostEquals(dense.accuracy, 1 - dense.error, 1e-12);
  assert(dense.accuracy > 0.05 && dense.accuracy < 1);
  for (const trial of trials) {
    assertAlmostEquals(trial.denseAccuracy - trial.accuracy, trial.errorDelta, 1e-12);
    assert(trial.errorDeltaSe > 0 && trial.scoredTokens === 4 * 63 && trial.perplexity === undefined);
  }
  for (const ratio of [0.25, 0.5]) {
    const own = trials.filter(({ pruneRatio }: { pruneRatio: number }) => pruneRatio === ratio);
    const found = own.map(({ accuracy }: { accuracy: number }) => accuracy);
    assertEquals(found, found.toSorted((a: number, b: number) => b - a), "best first");
  }
  const best = Math.max(...trials.map(({ accuracy }: { accuracy: number }) => accuracy));
  assert(trials.some((t: { pareto: boolean; accuracy: number }) => t.pareto && t.accuracy === best));
  const report = Deno.readTextFileSync(`${out}/report.html`);
  for (const part of ["Accuracy against skipped queries", "Higher is better", "lies above the grey band"]) {
    assertStringIncludes(report, part);
  }
  const own = report.replaceAll(/<script>.*?<\/script>/gs, (script) => script.length > 1e6 ? "" : script);
  assertEquals(own.match(/.{40}(perplexity|\bnats\b).{40}/i), null);

  const site = await run("report", `${copy}/results --out ${copy}/site`);
  assertEquals(site.code, 0, site.stderr);
  const index = Deno.readTextFileSync(`${copy}/site/index.html`);
  assertMatch(index, /on the Pareto front; dense accuracy \d+\.\d%/);

  const mixed = await run("sweep", `${SMALL.replace("--task toy ", "")} --method key --resume ${out}`);
  assertEquals(mixed.code, 2);
  assertMatch(mixed.stderr, /its runs ran with task toy, expected the same, found perplexity/);
  const refused = await run("sweep", "--task toi");
  assertEquals(refused.code, 2);
  assertMatch(
    refused.stderr,
    /^Cannot use task "toi": expected one of perplexity, toy, endings, perplexity_bos, .*, the nearest is "toy"\n$/,
  );
});

Deno.test("compare, its table and report know a new task", async () => {
  const out = `${copy}/results/c`;
  const { code, stdout, stderr } = await run(
    "compare",
    `${SMALL} --methods key,random --seeds 1 --out ${out}`,
  );
  assertEquals(code, 0, stderr);
  assertMatch(
    stdout,
    /method +Q skipped +pairs +attn FLOPs +KV cache +proj FLOPs +params +ratio +loss +acc +loss increase/,
  );
  const { methods } = JSON.parse(Deno.readTextFileSync(`${out}/compare.json`));
  for (const { loss, accuracy } of methods) assertAlmostEquals(accuracy, 1 - loss, 1e-12);
  assertStringIncludes(Deno.readTextFileSync(`${out}/compare.html`), "errors per token");
});

Deno.test("sweep, compare and eval know a new task of items, and find the same of it", async () => {
  const data = `${copy}/data`, starts = ["The sun rises in the", "At night we go to", "A fish swims in the"];
  Deno.mkdirSync(data);
  Deno.writeTextFileSync(
    `${data}/endings.jsonl`,
    starts.map((start, id) =>
      `${JSON.stringify({ id: `${id}`, start, words: ["east", "bed"], gold: id % 2 })}\n`
    )
      .join(""),
  );
  const small = `--data ${data} --filter-from 50% --recent 1 --prune-ratio 0.4 --threads 1 --quiet --json`;
  const find = async (task: string, line: string) => {
    const { code, stdout, stderr } = await run(
      task,
      `${line} ${small} --out ${copy}/own/${task}${line.length}`,
    );
    assertEquals([code, stderr], [0, ""]);
    return JSON.parse(stdout);
  };
  const swept = await find("sweep", "--task endings --method key,random");
  const compared = await find("compare", "--task endings --methods key,random --seeds 1");
  const beside = await find(
    "compare",
    "--context 64 --tokens 64 --tasks endings --methods key,random --seeds 1",
  );
  const { results: [row] } = await find("eval", "--tasks endings --method key");
  assertEquals([swept.environment.task, swept.environment.items, swept.dense.chance], ["endings", 3, 0.5]);
  assertAlmostEquals(swept.dense.acc, row.dense.value, 1e-12);
  const of = (results: { method: string; task: string; value: number }[]) =>
    results.find(({ method, task }) => method === "key" && task === "endings")!.value;
  const [trial] = swept.trials.filter(({ fusion }: { fusion: string }) => fusion === "key");
  for (const found of [of(compared.results), of(beside.results), trial.acc]) {
    assertAlmostEquals(found, row.filtered.value, 1e-12);
  }
  const report = Deno.readTextFileSync(
    `${copy}/own/sweep${"--task endings --method key,random".length}/report.html`,
  );
  assertStringIncludes(report, "Acc against skipped queries");
});
