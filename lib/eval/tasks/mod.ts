/**
 * Every evaluation task: the only list. A new task is a file beside this one and a line here.
 * @module
 */
import { sayNearest } from "../../nearest.ts";
import type { EvaluationTask } from "../task.ts";
import { perplexity } from "./perplexity.ts";

/** The tasks; the first is the default, and the one of records that name none. */
export const TASKS: readonly [EvaluationTask, ...EvaluationTask[]] = [
  perplexity,
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
  const task = TASKS.find((task) => task.name === name);
  if (task !== undefined) return task;
  const names = TASKS.map((task) => task.name);
  throw new RangeError(
    `Cannot use task "${name}": expected one of ${names.join(", ")}${sayNearest(name, names)}`,
  );
}

export * from "./perplexity.ts";
