/** Questions that a user's own file asks of rows, as a task. */
import { UsageError } from "../../../lib/errors.ts";
import {
  ACC,
  ACC_GREEDY,
  ACC_NORM,
  ITEM_PERPLEXITY,
  type ItemMetric,
} from "../../../lib/eval/items/item_metrics.ts";
import type { ItemRow } from "../../../lib/eval/items/item_rows.ts";
import { defineItemTask, type Question, readQuestions } from "../../../lib/eval/items/item_task.ts";
import type { Task } from "../../../lib/eval/task.ts";

export type Fields = { readonly [name: string]: unknown };

export interface OwnQuestions {
  readonly name: string;
  readonly help: string;
  readonly protocol: string;
  /** Names of metrics, the headline first. */
  readonly metrics: readonly string[];
  /** Path of its rows, JSONL or a JSON list, from the file's folder on; left out: `<name>.jsonl` of `--data`. */
  readonly data?: string;
  readonly ask: (row: Fields) => Question;
}

/** Metrics that a file may name. */
const METRICS: { readonly [name: string]: ItemMetric } = {
  acc: ACC,
  acc_norm: ACC_NORM,
  acc_greedy: ACC_GREEDY,
  perplexity: ITEM_PERPLEXITY,
};

/** An error about a file. */
export const refusal = (path: string, what: string): UsageError =>
  new UsageError(`Cannot use the task in "${path}": ${what}`);

export const show = (value: unknown): string => JSON.stringify(value) ?? "nothing";

/** A task of a file's questions. @throws {UsageError} If it names a metric that is none. */
export function defineQuestions(path: string, questions: OwnQuestions): Task {
  const { name, help, protocol, data, ask } = questions;
  const [main, ...others] = questions.metrics.map((metric) => {
    if (Object.hasOwn(METRICS, metric)) return METRICS[metric]!;
    const known = Object.keys(METRICS).join(", ");
    throw refusal(path, `found metric ${show(metric)}, expected some of ${known}`);
  });
  if (main === undefined) throw refusal(path, "found no metric, expected at least one");
  const folder = path.replace(/[^/\\]*$/, ""), isAbsolute = /^([/\\]|[a-z]:)/i.test(data ?? "");
  return defineItemTask({
    name,
    help,
    protocol,
    metrics: [main, ...others],
    file: `${name}.jsonl`,
    ...(data !== undefined && { path: isAbsolute ? data : `${folder}${data}` }),
    read: (rows) => readQuestions(rows, (row) => askRow(path, row, ask)),
  });
}

/** The question that a file makes of a row. @throws {UsageError} If that fails, or is none; it names the row. */
function askRow(path: string, row: ItemRow, ask: OwnQuestions["ask"]): Question {
  const refuse = (what: string) => refusal(path, `at ${row.place} ${what}`);
  let asked: Partial<Question>;
  try {
    asked = Object(ask(row.toJSON()));
  } catch (error) {
    throw refuse((error as Error).message);
  }
  const { context, choices, gold, delimiter = " " } = asked;
  if (typeof context !== "string") throw refuse(`found ${show(context)} for its context, expected a text`);
  const isText = (own: unknown) => typeof own === "string" && own !== "";
  if (!Array.isArray(choices) || choices.length === 0 || !choices.every(isText)) {
    throw refuse(`found ${show(choices)} for its choices, expected texts that are not empty`);
  }
  if (!Number.isInteger(gold) || gold! < 0 || gold! >= choices.length) {
    throw refuse(`found ${show(gold)} for the right choice, expected the index of one of ${choices.length}`);
  }
  return { context, choices, gold: gold!, delimiter };
}
