/**
 * Every evaluation task: the only list. A new task is a file beside this one and a line here.
 * @module
 */
import { sayNearest } from "../../nearest.ts";
import type { EvaluationTask, Metric } from "../task.ts";
import { GREEDY_DISTANCES, type ItemMetric } from "../item_metrics.ts";
import type { ItemTask } from "../item_task.ts";
import { arcChallenge } from "./arc_challenge.ts";
import { arcEasy } from "./arc_easy.ts";
import type { GeneratedTask } from "../generated_task.ts";
import { boolq } from "./boolq.ts";
import { copy } from "./copy.ts";
import { hellaswag } from "./hellaswag.ts";
import { lambada } from "./lambada.ts";
import { mmlu, mmlu5 } from "./mmlu.ts";
import { needle } from "./needle.ts";
import { needleMultikey, needleMultivalue } from "./needles.ts";
import { openbookqa } from "./openbookqa.ts";
import { perplexity } from "./perplexity.ts";
import { perplexityLlamaCpp } from "./perplexity_llama_cpp.ts";
import { perplexityStreaming } from "./perplexity_streaming.ts";
import { perplexityWord } from "./perplexity_word.ts";
import { piqa } from "./piqa.ts";
import { recall } from "./recall.ts";
import { variableTracking } from "./variable_tracking.ts";
import { winogrande } from "./winogrande.ts";
import { commonWords, frequentWords } from "./word_counts.ts";

/** The tasks; the first is the default, and the one of records that name none. */
export const TASKS: readonly [EvaluationTask, ...EvaluationTask[]] = [
  perplexity,
  perplexityLlamaCpp,
  perplexityStreaming,
  perplexityWord,
];

/** The tasks of items, whose continuations are scored. */
export const ITEM_TASKS: readonly [ItemTask, ...ItemTask[]] = [
  arcEasy,
  arcChallenge,
  hellaswag,
  piqa,
  winogrande,
  boolq,
  openbookqa,
  lambada,
  mmlu,
  mmlu5,
];

/** The tasks whose items are made. */
export const GENERATED_TASKS: readonly [GeneratedTask, ...GeneratedTask[]] = [
  copy,
  recall,
  needle,
  needleMultikey,
  needleMultivalue,
  variableTracking,
  commonWords,
  frequentWords,
];

/**
 * The task of a name, or of a record's conditions.
 *
 * @throws {RangeError} If there is none.
 *
 * @example
 * ```ts
 * import { findTask } from "@tokenfilter/tokenfilter/eval";
 * console.assert(findTask("perplexity").headline.better === "lower" && findTask() === findTask("perplexity"));
 * ```
 */
export function findTask(name: string = TASKS[0].name): EvaluationTask {
  return findNamed(TASKS, name);
}

/**
 * The task of items of a name.
 *
 * @throws {RangeError} If there is none.
 *
 * @example
 * ```ts
 * import { findItemTask } from "@tokenfilter/tokenfilter/eval";
 * console.assert("file" in findItemTask("piqa") && "generate" in findItemTask("needle"));
 * ```
 */
export function findItemTask(name: string): ItemTask | GeneratedTask {
  return findNamed<ItemTask | GeneratedTask>([...ITEM_TASKS, ...GENERATED_TASKS], name);
}

/**
 * A metric of a task, of either kind.
 *
 * @throws {RangeError} If there is no such task or metric.
 *
 * @example
 * ```ts
 * console.assert(findMetric("piqa", "acc_norm").percent && findMetric("perplexity", "kl").better === "lower");
 * ```
 */
export function findMetric(task: string, metric: string): Metric & Pick<ItemMetric, "fromMean"> {
  const text = TASKS.find(({ name }) => name === task);
  const metrics: readonly (Metric & Pick<ItemMetric, "fromMean">)[] = text
    ? [{ ...text.headline, fromMean: text.headline.fromLoss }, ...text.metrics]
    : [...findItemTask(task).metrics, ...GREEDY_DISTANCES];
  const found = metrics.find(({ name }) => name === metric);
  if (found !== undefined) return found;
  throw new RangeError(
    `Cannot find metric "${metric}" of ${task}: expected one of ${
      metrics.map(({ name }) => name).join(", ")
    }`,
  );
}

function findNamed<T extends { readonly name: string }>(tasks: readonly T[], name: string): T {
  const task = tasks.find((task) => task.name === name);
  if (task !== undefined) return task;
  const names = tasks.map((task) => task.name);
  throw new RangeError(
    `Cannot use task "${name}": expected one of ${names.join(", ")}${sayNearest(name, names)}`,
  );
}

export * from "./arc_challenge.ts";
export * from "./arc_easy.ts";
export * from "./boolq.ts";
export * from "./copy.ts";
export * from "./hellaswag.ts";
export * from "./lambada.ts";
export * from "./mmlu.ts";
export * from "./needle.ts";
export * from "./needles.ts";
export * from "./openbookqa.ts";
export * from "./perplexity.ts";
export * from "./perplexity_llama_cpp.ts";
export * from "./perplexity_streaming.ts";
export * from "./piqa.ts";
export * from "./recall.ts";
export * from "./variable_tracking.ts";
export * from "./winogrande.ts";
export * from "./word_counts.ts";
