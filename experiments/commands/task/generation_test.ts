/** Tests `generate_until` of a task in a file: patterns and filters as lm-evaluation-harness has them, and the texts. */
import { assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { generateTokens } from "../../../lib/model/generate/generate.ts";
import { Sampler } from "../../../lib/model/generate/sampler.ts";
import { UsageError } from "../../../lib/errors.ts";
import { setOwnTasks } from "../../../lib/eval/mod.ts";
import { loadModel, ReferenceBackend } from "../../../mod.ts";
import { runTask, withFolder } from "../testing.ts";
import { takeTaskFiles } from "./file.ts";
import { readTextMetrics } from "./generation.ts";
import { compilePython } from "./python_pattern.ts";

/** A pattern, its group, a text, and what the harness's RegexFilter finds. */
const FOUND: readonly (readonly [string, number, string, string])[] = [
  ["#### (\\-?[0-9\\.\\,]+)", 0, "so\n#### -1,250.5 yes", "-1,250.5"],
  ["(-?[$0-9.,]{2,})|(-?[0-9]+)", -1, "from 12 to 7", "7"],
  ["(?i)answer: (\\w+)", 0, "ANSWER: é_1 x", "é_1"],
  ["[^\\w\\s]+", 1, "a, b; c", ";"],
  ["none(\\d)", 0, "nothing", "[invalid]"],
];

Deno.test("filters find what the harness's find, and metrics have their names", () => {
  for (const [regex_pattern, group_select, text, expected] of FOUND) {
    const filter = [{ function: "regex", regex_pattern, group_select }, { function: "take_first" }];
    const [metric] = readTextMetrics({ filter_list: [{ name: "number", filter }] });
    const of = (answer: string) => {
      const item = {
        requests: [] as never,
        gold: 0,
        sought: { answers: ["?", answer], maxTokens: 1, until: [] },
      };
      return metric!.of(item, { logLikelihoods: [], greedy: [], generated: text });
    };
    assertEquals([metric!.name, of(expected), of(`${expected}?`)], ["exact_match/number", 1, 0]);
  }
  for (const wrong of ["\\p", "(?x) a", "(?<!a*)b(", "[\\W]"]) {
    assertThrows(() => compilePython(wrong), RangeError, JSON.stringify(wrong));
  }
});

const YAML = `task: own_text
dataset_path: json
dataset_kwargs: { data_files: { test: own.jsonl } }
output_type: generate_until
test_split: test
doc_to_text: "{{text}}"
doc_to_target: "{{answers}}"
process_results: !function metrics.get_qa_f1_with_score
generation_kwargs: { until: [".", "\\n", "e w"], max_gen_toks: 12, do_sample: false }
metric_list: [{ metric: score, aggregation: mean, higher_is_better: true }, { metric: qa_f1_score }]
`;

const MODULE =
  `export const task = { name: "own_words", data: "own.jsonl", metrics: ["f1", "rouge_l", "exact_match"],
  ask: ({ text, answers }: Record<string, unknown>) => ({ context: text, answers, maxTokens: 12, until: [".", "\\n", "e w"] }) };
`;

Deno.test("eval generates a text up to its stop texts, the same from YAML and a module, dense and filtered", () =>
  withFolder(async (folder) => {
    const texts = [
      "It was a dark night, and the",
      "The old man said that the ship ",
      "She went to the house,",
    ];
    const before = "The sea was calm, and the ship lay still. ".repeat(3);
    texts.forEach((text, i) => texts[i] = before + text);
    const rows = texts.map((text) => ({ text, answers: ["the sea", "the house was"] }));
    Deno.writeTextFileSync(`${folder}/own.jsonl`, rows.map((row) => JSON.stringify(row)).join("\n"));
    Deno.writeTextFileSync(`${folder}/own.yaml`, YAML);
    Deno.writeTextFileSync(`${folder}/own.ts`, MODULE);
    const { model, tokenizer } = await loadModel("tiny", new ReferenceBackend());
    const expected = texts.map((text) => {
      const prompt = tokenizer.encode(text, { special: true }), stream = tokenizer.decodeStream(prompt);
      const options = { sampler: new Sampler(), maxTokens: 12, endIds: tokenizer.endIds };
      const steps = [...generateTokens(model, model.start(), prompt, options)];
      const all = steps.map((step) => step.kind === "token" && !step.isEnd ? stream.next(step.id) : "").join(
        "",
      );
      return (all + stream.end()).split(/\.|\n|e w/)[0];
    });
    const method = [
      "--method",
      "key",
      "--side",
      "key",
      "--kv-ratio",
      "0.5",
      "--warmup",
      "2",
      "--recent",
      "2",
    ];
    const found = [];
    for (const file of ["own.yaml", "own.ts"]) {
      const args = ["--task-file", `${folder}/${file}`, ...method, "--threads", "1", "--json", "--quiet"];
      const { code, stdout, stderr } = await runTask("eval", ...args, "--out", `${folder}/${file}.out`);
      assertEquals([code, stderr], [0, ""]);
      found.push(JSON.parse(stdout));
    }
    for (const { items } of found) {
      const dense = items.map(({ dense }: { dense: { generated: string } }) => dense.generated);
      assertEquals(dense, expected);
    }
    const [yaml, module] = found,
      valuesOf = (index: number) => {
        const [first] = [yaml, module][index].results;
        return [first.dense.value, first.filtered.value];
      };
    assertEquals(valuesOf(0), valuesOf(1));
    const both = ["--task-file", `${folder}/own.yaml,${folder}/own.ts`, ...method, "--threads", "1"];
    const { code, stdout } = await runTask("eval", ...both, "--json", "--quiet", "--out", `${folder}/both`);
    assertEquals(code, 0);
    const bare = ({ task, metric, dense }: { task: string; metric: string; dense: object }) => ({
      task,
      metric,
      dense,
    });
    const one = await runTask("sweep", ...both, "--quiet", "--out", `${folder}/sweep`);
    assertEquals([one.code, one.stdout], [2, ""]);
    assertStringIncludes(one.stderr, "with 2 tasks here: expected --task, one of own_text, own_words");
    const table = await runTask(
      "compare",
      ...both.slice(0, 2),
      ...method.slice(2),
      "--threads",
      "1",
      "--methods",
      "keydiff,knorm",
      "--seeds",
      "1",
      "--match",
      "none",
      "--json",
      "--quiet",
      "--out",
      `${folder}/compare`,
    );
    assertEquals([table.code, table.stderr], [0, ""]);
    const tasks = JSON.parse(table.stdout).results.map(({ task }: { task: string }) => task);
    assertEquals([...new Set(tasks)].sort(), ["own_text", "own_words"]);
    assertEquals(JSON.parse(stdout).results.map(bare), [...yaml.results, ...module.results].map(bare));
    assertEquals(yaml.results.map(({ metric }: { metric: string }) => metric), ["score", "qa_f1_score"]);
    assertEquals(module.results.length, 3);
  }));

Deno.test("a task that generates refuses what it does not know in one line", () =>
  withFolder(async (folder) => {
    const cases: [string, string, string][] = [
      ["do_sample: false", "do_sample: true", 'found true for "do_sample", expected false'],
      ["max_gen_toks: 12", "max_gen_toks: 0", 'found 0 for "max_gen_toks"'],
      [
        "get_qa_f1_with_score",
        "get_bleu",
        'found "!function metrics.get_bleu" for "process_results", expected one of',
      ],
      ["metric: score", "metric: bleu", 'found {"metric":"bleu"'],
      ["until:", "top_k: 1, until:", 'found {"top_k":1} for "generation_kwargs"'],
      ["doc_to_text:", "doc_to_choice: x\ndoc_to_text:", 'found "doc_to_choice", expected keys among'],
    ];
    try {
      for (const [from, to, expected] of cases) {
        Deno.writeTextFileSync(`${folder}/own.yaml`, YAML.replace(from, to));
        const { message } = await assertRejects(() => takeTaskFiles([`${folder}/own.yaml`]), UsageError);
        assertStringIncludes(message, expected);
        assertEquals(message.includes("\n"), false);
      }
    } finally {
      setOwnTasks([]);
    }
  }));
