/** A task in the YAML of lm-evaluation-harness: multiple choice or generated texts over rows of a file, without examples. */
import { parse } from "@std/yaml/parse";
import { GENERATION_KEYS, readAnswers, readGeneration, readTextMetrics } from "./generation.ts";
import { type Fields, show } from "./fields.ts";
import { type OwnQuestions, refusal } from "./questions.ts";
import { compileExpression, compileTemplate, type Reader } from "./template.ts";

/** Keys that define a question. */
const READ = [
  ...["task", "dataset_path", "dataset_kwargs", "test_split", "validation_split", "output_type"],
  ...["doc_to_text", "doc_to_target", "doc_to_choice", "target_delimiter", "num_fewshot", "metric_list"],
];

/** Its output types, with the keys that only the other one has. */
const OTHERS: { readonly [type: string]: readonly string[] } = {
  multiple_choice: GENERATION_KEYS,
  generate_until: ["doc_to_choice"],
};

/** Keys that change nothing where there are no examples. */
const WITHOUT_EFFECT = [
  ...["tag", "metadata", "dataset_name", "training_split", "fewshot_split", "fewshot_delimiter"],
  ...["should_decontaminate", "doc_to_decontamination_query"],
];

const METRICS = ["acc", "acc_norm"];

const refuse = (key: string, value: unknown, expected: string) =>
  new RangeError(`found ${show(value)} for "${key}", expected ${expected}`);

/** The names of a group's tasks; undefined where a file is none. @throws {UsageError} If the group is not a list of names. */
export function readHarnessGroup(path: string, text: string): readonly string[] | undefined {
  if (!/^group:/m.test(text)) return undefined;
  let yaml: Fields;
  try {
    yaml = Object(parse(text));
  } catch (error) {
    throw refusal(path, (error as Error).message.split("\n")[0]!.replace(/:$/, ""));
  }
  const { group, group_alias: _, task, aggregate_metric_list: __, metadata: ___, ...others } = yaml;
  const [odd] = Object.keys(others), isList = Array.isArray(task) && task.length > 0;
  if (odd !== undefined) {
    throw refusal(path, `found "${odd}" in the group ${show(group)}, expected group and task`);
  }
  if (isList && task.every((name) => typeof name === "string")) return task;
  throw refusal(
    path,
    `found ${show(task)} for "task" of the group ${show(group)}, expected a list of names of tasks`,
  );
}

/**
 * Reads a task.
 *
 * @throws {UsageError} If it is no YAML, or uses an unknown key or value; one line names it.
 */
export function readHarnessTask(path: string, text: string): OwnQuestions {
  try {
    // A function of a file of Python is known by its name alone.
    const plain = text.replace(/!function ([\w.]+)/g, '"!function $1"');
    return readTask(parse(plain), path.split(/[/\\]/).at(-1)!);
  } catch (error) {
    throw refusal(path, (error as Error).message.split("\n")[0]!.replace(/:$/, ""));
  }
}

function readTask(value: unknown, file: string): OwnQuestions {
  const yaml: Fields = Object(value);
  const { task, output_type: type, num_fewshot: shots = 0, target_delimiter: delimiter = " " } = yaml;
  const others = OTHERS[String(type)],
    keys = [...READ, ...GENERATION_KEYS].filter((key) => !others?.includes(key));
  const unknown = Object.keys(yaml).filter((key) => !keys.includes(key) && !WITHOUT_EFFECT.includes(key));
  if (unknown.length > 0) {
    throw new RangeError(`found ${unknown.map(show).join(", ")}, expected keys among ${keys.join(", ")}`);
  }
  if (typeof task !== "string") throw refuse("task", task, "its name");
  if (others === undefined) throw refuse("output_type", type, Object.keys(OTHERS).join(" or "));
  if (shots !== 0) throw refuse("num_fewshot", shots, "0");
  if (typeof delimiter !== "string") throw refuse("target_delimiter", delimiter, "a text");
  const data = readDataFile(yaml),
    whole = { name: task, help: `${task} of ${file}`, ...(data !== undefined && { data }) };
  const context = readContext(yaml.doc_to_text);
  if (type === "generate_until") return { ...whole, ...readGenerated(yaml, file, context, delimiter) };
  const choicesOf = readChoices(yaml.doc_to_choice), goldOf = readTarget(yaml.doc_to_target);
  return {
    ...whole,
    protocol: `lm-evaluation-harness's multiple choice of ${file}, without examples; each choice after ` +
      `${show(delimiter)}; log-likelihoods in nats from float32 logits.`,
    metrics: readMetrics(yaml.metric_list),
    ask(row) {
      const choices = choicesOf(row);
      return { context: context(row), choices, gold: goldOf(row, choices), delimiter };
    },
  };
}

/** A task whose texts are generated. Functions read the answers of a row, as LongBench has them. */
function readGenerated(yaml: Fields, file: string, context: Reader<string>, delimiter: string) {
  const { doc_to_target: target, process_results: process, repeats = 1 } = yaml;
  if (repeats !== 1) throw refuse("repeats", repeats, "1");
  if (typeof target !== "string") throw refuse("doc_to_target", target, "a field or a template");
  const evaluate = compileExpression(target), render = compileTemplate(evaluate === undefined ? target : "");
  const valueOf = (row: Fields) => {
    if (process !== undefined) return row["answers"];
    return Object.hasOwn(row, target) ? row[target] : evaluate?.(row) ?? render(row);
  };
  const generation = readGeneration(yaml.generation_kwargs), stops = generation.until.map(show).join(", ");
  return {
    protocol: `lm-evaluation-harness's generated texts of ${file}, without examples: greedy decoding of ` +
      `${generation.maxTokens} tokens at most${stops && `, up to ${stops}`}.`,
    metrics: readTextMetrics(yaml),
    ask: (row: Fields) => ({
      context: context(row),
      answers: readAnswers(valueOf(row)),
      delimiter,
      ...generation,
    }),
  };
}

/** The file of the split that is evaluated; undefined where the data set is no local file. */
function readDataFile(yaml: Fields): string | undefined {
  const { dataset_path: path, test_split: test, validation_split: validation } = yaml;
  const { data_files: files, ...others } = Object(yaml.dataset_kwargs) as Fields;
  if (Object.keys(others).length > 0) {
    throw new RangeError(`found ${show(others)} in "dataset_kwargs", expected only data_files`);
  }
  if (path !== "json" && files === undefined) return undefined;
  const split = test ?? validation;
  if (path !== "json" || typeof split !== "string") {
    const found = `found dataset_path ${show(path)} and split ${show(split)}`;
    throw new RangeError(`${found} for data_files, expected json, and a test_split or validation_split`);
  }
  // One file without a split is that of "train".
  const file = (typeof files === "string" ? { train: files } : Object(files) as Fields)[split];
  if (typeof file === "string") return file;
  throw new RangeError(`found ${show(file)} for split "${split}" in data_files, expected a path`);
}

function readMetrics(list: unknown = METRICS.map((metric) => ({ metric }))): string[] {
  return [list].flat().map((entry) => {
    const { metric, aggregation = "mean", higher_is_better: isHigher = true, ...rest } = Object(entry);
    const isKnown = METRICS.includes(metric) && aggregation === "mean" && isHigher === true;
    if (isKnown && Object.keys(rest).length === 0) return metric;
    throw new RangeError(`found metric ${show(entry)}, expected the mean of ${METRICS.join(" or ")}`);
  });
}

/** A field if the row has one of that name, else the output of a template. */
function readContext(source: unknown): Reader<string> {
  if (typeof source !== "string") throw refuse("doc_to_text", source, "a field or a template");
  const render = compileTemplate(source);
  return (row) => Object.hasOwn(row, source) ? row[source] as string : render(row);
}

/** A list as it is, a field, or a template that is one expression. */
function readChoices(source: unknown): Reader<string[]> {
  if (Array.isArray(source)) return () => source;
  if (typeof source !== "string") throw refuse("doc_to_choice", source, "a list, a field or a template");
  const evaluate = compileExpression(source);
  return (row) => {
    if (Object.hasOwn(row, source)) return row[source] as string[];
    if (evaluate !== undefined) return evaluate(row) as string[];
    throw new RangeError(`found "${source}" for "doc_to_choice", expected a field or one {{ }}`);
  };
}

/** The index of the right choice: a number, a field, or a template; a text is looked for among the choices. */
function readTarget(source: unknown): (row: Fields, choices: readonly string[]) => number {
  if (typeof source === "number") return () => source;
  if (typeof source !== "string") throw refuse("doc_to_target", source, "a number, a field or a template");
  const evaluate = compileExpression(source), render = compileTemplate(evaluate === undefined ? source : "");
  return (row, choices) => {
    const isField = Object.hasOwn(row, source);
    const target = isField ? row[source] : evaluate === undefined ? render(row) : evaluate(row);
    if (typeof target === "number") return target;
    if (!isField && /^\d+$/.test(String(target))) return Number(target);
    const index = choices.indexOf(String(target));
    if (index >= 0) return index;
    throw refuse("doc_to_target", target, `one of ${show(choices)}`);
  };
}
