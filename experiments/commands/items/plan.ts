/** The plan of items, of eval and compare: tasks with their items in tokens, and the method for each context. */
import { UsageError } from "../../../lib/errors.ts";
import { type ReachMasks, reachOf } from "../../../lib/eval/filter_reach.ts";
import { checkScorable, type EncodedItem } from "../../../lib/eval/items/encoded_item.ts";
import type { Item } from "../../../lib/eval/items/item.ts";
import { filterFor } from "../../../lib/eval/items/item_evaluation.ts";
import { encodeItems, readItems } from "../../../lib/eval/items/item_source.ts";
import { reachesNothing } from "../../../lib/eval/items/item_summary.ts";
import type { Filter, Task } from "../../../lib/eval/task.ts";
import { ownTasks } from "../../../lib/eval/tasks/own_task.ts";
import { findTask, TASKS } from "../../../lib/eval/tasks/mod.ts";
import { effectiveOptions, type ResolvedOptions } from "../../../lib/methods/bind/options.ts";
import type { Pruner } from "../../../lib/methods/protocol/pruner.ts";
import type { ModelConfig } from "../../../lib/model/config/config.ts";
import type { ModelFile } from "../../../lib/model/open.ts";
import { createFilter, type FilterFrom, readFilterFrom } from "../../../lib/sweep/filter_from.ts";
import { sha256 } from "../../../lib/sha256.ts";
import { exists, isFolder } from "../cli/files.ts";
import { unprobed } from "../cli/machine/retrieval.ts";
import { type FlagValues, textOf } from "../cli/flags/parse.ts";
import { checkFlags } from "../cli/task.ts";
import { fileOf, hasItems, HUB, type ItemTask, readTaskText, type TaskText } from "../task/data.ts";

/** A task with its data. */
export interface ReadTask {
  readonly task: ItemTask;
  readonly data: TaskText;
}

/** A task whose items are known, in tokens too. */
export interface PlannedTask extends ReadTask {
  readonly items: readonly Item[];
  /** Items of its data, or generated ones. */
  readonly of: number;
  readonly encoded: readonly EncodedItem[];
  /** SHA-256 of the ids of all contexts and continuations. */
  readonly promptsSha256: string;
}

/**
 * Reads `--filter-from`.
 *
 * @param hasText Whether a text is read besides the items, which --warmup is for.
 * @throws {UsageError} If it is neither tokens nor a fraction.
 */
export function readFilterFlag(values: FlagValues, hasText = false): FilterFrom | undefined {
  const text = textOf(values, "filter-from");
  if (text === undefined) return undefined;
  if (values.has("warmup") && !hasText) {
    throw new UsageError("Cannot use --filter-from with --warmup: expected one of them");
  }
  return checkFlags(() => readFilterFrom(text));
}

/**
 * Reads the tasks that were asked for, with their data.
 *
 * @throws {UsageError} If there is no such task or file, or a line is broken; by file and line.
 */
export async function readTasks(
  values: FlagValues,
  tasks: readonly Task[] = chooseTasks(values),
): Promise<ReadTask[]> {
  return await Promise.all(
    tasks.map(expectItemTask).map(async (task) => ({ task, data: await readTaskText(values, task) })),
  );
}

/** The tasks that were named, or those whose file a folder holds. */
export function chooseTasks(values: FlagValues): Task[] {
  const named = textOf(values, "tasks"), own = ownTasks().map(({ task }) => task);
  const folder = textOf(values, "data");
  if (folder !== undefined && folder !== HUB && !isFolder(folder)) {
    throw new UsageError(`Cannot use --data "${folder}": there is no such folder`);
  }
  const known = TASKS.filter(hasItems), inFiles = known.filter((task) => fileOf(task) !== undefined);
  const isThere = (task: ItemTask) =>
    folder === HUB || folder !== undefined && exists(`${folder}/${fileOf(task)}`);
  const tasks = named !== undefined
    ? [...new Set(named.split(",").map((name) => checkFlags(() => findTask(name.trim()))))]
    : own.length > 0
    ? own
    : inFiles.filter(isThere);
  const lacksData = ({ items }: Task) => items !== undefined && "file" in items && items.path === undefined;
  if (folder === undefined && (tasks.length === 0 || tasks.some(lacksData))) {
    const made = known.filter((task) => !inFiles.includes(task)).map(({ name }) => name);
    throw new UsageError(
      "Cannot tell what to evaluate: expected --data DIR, a folder with a JSONL file per task, --data hub, or " +
        `--tasks ${made.join(",")}`,
    );
  }
  if (tasks.length > 0) return tasks;
  throw new UsageError(
    `Cannot use --data "${folder}": found none of ${[...new Set(inFiles.map(fileOf))].join(", ")}`,
  );
}

/** A task of items. @throws {UsageError} If it reads a text. */
function expectItemTask(task: Task): ItemTask {
  if (hasItems(task)) return task;
  throw new UsageError(
    `Cannot use --tasks ${task.name} with a text: expected tasks of items (or --task ${task.name})`,
  );
}

/** Items of tasks, and from where they are filtered. */
export interface ItemPlan {
  readonly planned: readonly PlannedTask[];
  readonly from: FilterFrom | undefined;
}

/**
 * Items of tasks in a model's tokens, which every method can filter.
 *
 * @throws {UsageError} If one cannot be made or scored, or a method would be the full model in disguise.
 */
export async function planItems(
  tasks: readonly ReadTask[],
  file: Pick<ModelFile, "tokenizer" | "config">,
  from: FilterFrom | undefined,
  methods: readonly NamedOptions[],
): Promise<ItemPlan> {
  const planned = await Promise.all(tasks.map(async ({ task, data }): Promise<PlannedTask> => {
    const { items, of } = checkFlags(() => readItems(task.name, task.items, data, file));
    const encoded = checkFlags(() => encodeItems(items, file));
    const ids = encoded.map(({ requests }) => requests.map((r) => [[...r.context], [...r.continuation]]));
    return { task, data, items, of, encoded, promptsSha256: await sha256(JSON.stringify(ids)) };
  }));
  expectItems(planned, file.config, from, methods);
  return { planned, from };
}

/** A method's options, and the name that messages call it by, where there are several. */
interface NamedOptions {
  readonly name?: string;
  readonly options: ResolvedOptions;
}

/**
 * Checks that the model can score the items of tasks, and that every method can filter some of each.
 *
 * @throws {UsageError} If an item cannot be scored, or a method would be the full model in disguise.
 */
export function expectItems(
  tasks: readonly TaskItems[],
  config: ModelConfig,
  from: FilterFrom | undefined,
  methods: readonly NamedOptions[],
): void {
  const items = tasks.flatMap(({ encoded }) => encoded);
  for (const { name, options } of methods) {
    const prunerFor = bindMethod(() => createFilter(config, options, from, unprobed(config)), from, items);
    if (!asksToFilter(options)) continue;
    for (const own of tasks) expectReach(own, prunerFor, config, name, from);
  }
}

/** Fields of a record about a task. */
export function recordTask({ task, data: { source, sha256 }, promptsSha256, of, items }: PlannedTask) {
  return {
    ...{ task: task.name, protocol: task.protocol, ...source, sha256, promptsSha256 },
    ...{ items: items.length, of },
  };
}

/**
 * The method for each length of context, tried on all items.
 *
 * @param create Binds it to the model.
 * @throws {UsageError} If a warm-up, or a method on this model or of an item, cannot be.
 */
export function bindMethod(
  create: () => Filter,
  from: FilterFrom | undefined,
  items: readonly EncodedItem[],
): (contextTokens: number) => Pruner {
  const prunerFor = filterFor(checkFlags(create));
  for (const { item, requests } of items) {
    for (const { context } of requests) {
      try {
        checkFlags(() => prunerFor(context.length));
      } catch (error) {
        if (from === undefined || !(error instanceof UsageError)) throw error;
        const why = error.message.replace(/^Cannot use (--warmup)?:? ?/, "");
        throw new UsageError(`Cannot use --filter-from ${from.text} for ${item.place}: ${why}`);
      }
      checkFlags(() => checkScorable(item, prunerFor(context.length)));
    }
  }
  return prunerFor;
}

/** Whether a method was asked to filter anything. */
export function asksToFilter(method: ResolvedOptions): boolean {
  const { pruneRatio, kvRatio } = effectiveOptions(method);
  const ratios = [pruneRatio, kvRatio].filter((ratio) => ratio !== undefined && ratio !== null);
  return ratios.length === 0 || Math.max(...ratios as number[]) > 0;
}

/** Scored positions [from, to) of each request, at most: of its continuation, or of the text that its item asks for. */
function spansOf({ item, requests }: EncodedItem): { readonly from: number; readonly to: number }[] {
  return requests.map(({ context, continuation }) => ({
    from: context.length - 1,
    to: context.length + Math.max(continuation.length, item.sought?.maxTokens ?? 0) - 1,
  }));
}

/** Items of a task, in tokens. */
interface TaskItems {
  readonly task: Pick<Task, "name">;
  readonly encoded: readonly EncodedItem[];
}

/** A task of which a method filtered no scored position. */
export interface Unreached {
  readonly planned: TaskItems;
  readonly prunerFor: (contextTokens: number) => Pick<Pruner, "spans">;
  /** The method, where there are several. */
  readonly method?: string | undefined;
}

/** A method that filtered nothing, in words. */
function describeUnreached({ planned: { task, encoded }, prunerFor, method }: Unreached): string {
  const spans = encoded.flatMap(spansOf), warmups = spans.map(({ from }) => prunerFor(from + 1).spans.warmup);
  const what = method === undefined ? task.name : `${task.name} with ${method}`;
  const longest = Math.max(...spans.map(({ to }) => to));
  return `Cannot call ${what} filtered: the filter reached no scored position of ${encoded.length} items ` +
    `(sequences of up to ${longest} tokens, a warm-up of ${Math.min(...warmups)} or more`;
}

/** The most that a method can filter: everything behind its warm-up. */
function mostFiltered({ layers, spans: { warmup }, keySide }: Pruner, tokens: number): ReachMasks {
  const from = (start: number) => new Uint8Array(tokens).fill(1, 0, start);
  return {
    keep: new Map(layers.map((layer) => [layer, from(Math.max(warmup, 1))])),
    kvKeep: new Map(keySide?.layers.map((layer) => [layer, from(warmup)])),
  };
}

/**
 * Refuses a method that can filter no scored position of a task, whatever it decides. Either every sequence ends within
 * its warm-up or its window, or no layer attends far enough back to reach an evicted key.
 */
export function expectReach(
  planned: TaskItems,
  prunerFor: (contextTokens: number) => Pruner,
  config: Pick<ModelConfig, "numLayers" | "layers">,
  method?: string,
  from?: FilterFrom,
): void {
  const spans = new Map(planned.encoded.flatMap(spansOf).map((span) => [JSON.stringify(span), span]));
  const reaches = spans.values().some(({ from, to }) => {
    const pruner = prunerFor(from + 1);
    return !reachesNothing({ reach: reachOf(config, pruner, mostFiltered(pruner, to), from, to) });
  });
  if (reaches) return;
  const what = describeUnreached({ planned, prunerFor, method });
  const earlier = from === undefined ? "--filter-from 25%, or a smaller --warmup" : "a smaller --filter-from";
  throw new UsageError(`${what}; use ${earlier} or --recent)`);
}

/**
 * Refuses a run whose method has filtered nothing: its numbers would be the full model's. The measured scores are kept.
 *
 * @param kept The file with the scores, and their number.
 * @param instead The fix to offer besides a shorter warm-up.
 * @throws {UsageError} If there is any.
 */
export function refuseUnreached(
  unreached: readonly Unreached[],
  kept: { readonly path: string; readonly scores: number },
  instead: string,
): void {
  if (unreached.length === 0) return;
  const first = describeUnreached(unreached[0]!), others = unreached.slice(1);
  const also = others.map(({ planned, method }) =>
    [planned.task.name, method].filter(Boolean).join(" with ")
  );
  throw new UsageError(
    `${first})${also.length === 0 ? "" : `, nor of ${also.join(", ")}`}; all ${kept.scores} scores are in ` +
      `${kept.path} (${instead})`,
  );
}
