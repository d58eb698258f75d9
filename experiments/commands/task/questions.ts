/** Questions that a user's own file asks of rows, as a task. */
import { UsageError } from "../../../lib/errors.ts";
import {
  ACC,
  ACC_GREEDY,
  ACC_NORM,
  GREEDY_DISTANCES,
  ITEM_PERPLEXITY,
  type ItemMetric,
} from "../../../lib/eval/items/item_metrics.ts";
import type { ItemRow } from "../../../lib/eval/items/item_rows.ts";
import { defineItemTask, type Question, readQuestions } from "../../../lib/eval/items/item_task.ts";
import type { Task } from "../../../lib/eval/task.ts";
import { type Fields, show } from "./fields.ts";
import { type Generation, readGeneration, TEXT_METRICS } from "./generation.ts";

export interface OwnQuestions {
  readonly name: string;
  readonly help: string;
  readonly protocol: string;
  /** Metrics or their names, the headline first. */
  readonly metrics: readonly (string | ItemMetric)[];
  /** Path of its rows, JSONL or a JSON list, from the file's folder on; left out: `<name>.jsonl` of `--data`. */
  readonly data?: string;
  readonly ask: (row: Fields) => Question | GeneratedQuestion;
}

/** A question whose answer is a text that the model generates. */
interface GeneratedQuestion extends Partial<Generation> {
  readonly context: string;
  readonly answers: readonly string[];
  readonly delimiter?: string;
}

/** Metrics that a file may name. */
const METRICS: { readonly [name: string]: ItemMetric } = {
  acc: ACC,
  acc_norm: ACC_NORM,
  acc_greedy: ACC_GREEDY,
  perplexity: ITEM_PERPLEXITY,
  ...TEXT_METRICS,
};

/** An error about a file. */
export const refusal = (path: string, what: string): UsageError =>
  new UsageError(`Cannot use the task in "${path}": ${what}`);

/** A task of a file's questions. @throws {UsageError} If it names a metric that is none. */
export function defineQuestions(path: string, questions: OwnQuestions): Task {
  const { name, help, protocol, data, ask } = questions;
  const [main, ...others] = questions.metrics.map((metric) => {
    if (typeof metric !== "string") return metric;
    if (Object.hasOwn(METRICS, metric)) return METRICS[metric]!;
    const known = Object.keys(METRICS).join(", ");
    throw refusal(path, `found metric ${show(metric)}, expected some of ${known}`);
  });
  if (main === undefined) throw refusal(path, "found no metric, expected at least one");
  // Metrics that a file makes itself are of generated texts, as those of this list.
  const generates = questions.metrics.map((own) =>
    typeof own !== "string" || Object.hasOwn(TEXT_METRICS, own)
  );
  if (new Set(generates).size > 1) {
    const texts = Object.keys(TEXT_METRICS).join(", ");
    throw refusal(
      path,
      `found metrics of choices and of generated texts, expected either (${texts}) or the others`,
    );
  }
  const ofTexts = generates[0]!;
  const folder = path.replace(/[^/\\]*$/, ""), isAbsolute = /^([/\\]|[a-z]:)/i.test(data ?? "");
  return defineItemTask({
    name,
    help,
    protocol,
    metrics: [main, ...others],
    ...(ofTexts && { distances: GREEDY_DISTANCES }),
    file: `${name}.jsonl`,
    ...(data !== undefined && { path: isAbsolute ? data : `${folder}${data}` }),
    read: (rows) => readQuestions(rows, (row) => askRow(path, row, ask, ofTexts)),
  });
}

/** The question that a file makes of a row. @throws {UsageError} If that fails, or is none; it names the row. */
function askRow(path: string, row: ItemRow, ask: OwnQuestions["ask"], ofTexts: boolean): Question {
  const refuse = (what: string) => refusal(path, `at ${row.place} ${what}`);
  let asked: Partial<Question & GeneratedQuestion>;
  try {
    asked = Object(ask(row.toJSON()));
  } catch (error) {
    throw refuse((error as Error).message);
  }
  const { context, choices, gold, delimiter = " ", answers } = asked;
  if (typeof context !== "string") throw refuse(`found ${show(context)} for its context, expected a text`);
  const isText = (own: unknown) => typeof own === "string" && own !== "";
  if (ofTexts !== (answers !== undefined)) {
    const [metrics, fields] = ofTexts ? ["texts", "answers"] : ["choices", "choices and gold"];
    throw refuse(`found metrics of ${metrics}, expected ${fields} next to the context`);
  }
  if (answers !== undefined) {
    const first = Array.isArray(answers) ? answers.find(isText) : undefined;
    if (first === undefined) throw refuse(`found ${show(answers)} for its answers, expected texts`);
    const { maxTokens, until } = readGeneration({ max_gen_toks: asked.maxTokens, until: asked.until });
    return { context, choices: [first], gold: 0, delimiter, sought: { answers, maxTokens, until } };
  }
  if (!Array.isArray(choices) || choices.length === 0 || !choices.every(isText)) {
    throw refuse(`found ${show(choices)} for its choices, expected texts that are not empty`);
  }
  if (!Number.isInteger(gold) || gold! < 0 || gold! >= choices.length) {
    throw refuse(`found ${show(gold)} for the right choice, expected the index of one of ${choices.length}`);
  }
  return { context, choices, gold: gold!, delimiter };
}
