/**
 * Every evaluation task: the only list. A new task is a file next to this one and a line here.
 * @module
 */
import { sayNearest } from "../../nearest.ts";
import { type Metric, metricOfUnits } from "../metrics.ts";
import { ownTasks } from "./own_task.ts";
import type { Task } from "../task.ts";
import { arcChallenge, arcEasy } from "./arc.ts";
import { boolq } from "./boolq.ts";
import { copy } from "./copy.ts";
import { hellaswag } from "./hellaswag.ts";
import { lambada } from "./lambada.ts";
import { mmlu, mmlu5 } from "./mmlu.ts";
import { needle, needleMultikey, needleMultivalue } from "./needles.ts";
import { openbookqa } from "./openbookqa.ts";
import { perplexity } from "./perplexity.ts";
import { perplexityBos } from "./perplexity_bos.ts";
import { perplexityLlamaCpp } from "./perplexity_llama_cpp.ts";
import { perplexityStreaming } from "./perplexity_streaming.ts";
import { perplexityWord } from "./perplexity_word.ts";
import { piqa } from "./piqa.ts";
import { recall } from "./recall.ts";
import { variableTracking } from "./variable_tracking.ts";
import { winogrande } from "./winogrande.ts";
import { commonWords, frequentWords } from "./word_counts.ts";

/** The tasks; the first is the default, and the one of records that name none. */
export const TASKS: readonly [Task, ...Task[]] = [
  perplexity,
  perplexityBos,
  perplexityLlamaCpp,
  perplexityStreaming,
  perplexityWord,
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
 * console.assert(findTask("piqa").items !== undefined && findTask("piqa").headline.name === "acc");
 * ```
 */
export function findTask(name: string = TASKS[0].name): Task {
  const tasks = [...TASKS, ...ownTasks().map(({ task }) => task)];
  const task = tasks.find((task) => task.name === name);
  if (task !== undefined) return task;
  const names = tasks.map((task) => task.name);
  throw new RangeError(
    `Cannot use task "${name}": expected one of ${names.join(", ")}${sayNearest(name, names)}`,
  );
}

/**
 * A metric of a task: its headline, or another.
 *
 * @throws {RangeError} If there is no such task or metric.
 *
 * @example
 * ```ts
 * console.assert(findMetric("piqa", "acc_norm").percent && findMetric("perplexity", "kl").better === "lower");
 * ```
 */
export function findMetric(task: string, metric: string): Metric {
  const { headline, metrics } = findTask(task), all = [metricOfUnits(headline), ...metrics];
  const found = all.find(({ name }) => name === metric);
  if (found !== undefined) return found;
  throw new RangeError(
    `Cannot find metric "${metric}" of ${task}: expected one of ${all.map(({ name }) => name).join(", ")}`,
  );
}

export * from "./perplexity.ts";
