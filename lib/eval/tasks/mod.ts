/**
 * Every evaluation task: the only list. A new task is a file beside this one and a line here.
 * @module
 */
import { sayNearest } from "../../nearest.ts";
import type { EvaluationTask } from "../task.ts";
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
import { openbookqa } from "./openbookqa.ts";
import { perplexity } from "./perplexity.ts";
import { piqa } from "./piqa.ts";
import { recall } from "./recall.ts";
import { winogrande } from "./winogrande.ts";

/** The tasks; the first is the default, and the one of records that name none. */
export const TASKS: readonly [EvaluationTask, ...EvaluationTask[]] = [
  perplexity,
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
export * from "./openbookqa.ts";
export * from "./perplexity.ts";
export * from "./piqa.ts";
export * from "./recall.ts";
export * from "./winogrande.ts";
