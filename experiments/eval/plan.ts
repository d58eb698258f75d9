/** What an evaluation of items is to run: its tasks with their items in tokens, and the method for each context. */
import { UsageError } from "../../lib/errors.ts";
import {
  type EncodedItem,
  encodeItem,
  findItemTask,
  GENERATED_TASKS,
  type GeneratedTask,
  type Item,
  ITEM_TASKS,
  type ItemTask,
  limitItems,
  readItemRows,
} from "../../lib/eval/mod.ts";
import { effectiveOptions, type Pruner, type ResolvedOptions } from "../../lib/methods/mod.ts";
import type { ModelFile, Tokenizer } from "../../lib/model/mod.ts";
import { sha256 } from "../../lib/sha256.ts";
import { exists, isFolder, readText } from "../cli/files.ts";
import type { FlagValues } from "../cli/parse.ts";
import { checkFlags } from "../cli/task.ts";
import { readCount } from "../cli/text.ts";

/** A task and its data. */
export interface PlannedTask {
  readonly task: ItemTask | GeneratedTask;
  /** Its file, or what its items were made from. */
  readonly source: object;
  /** SHA-256 of its file, or of that. */
  readonly sha256: string;
  /** Items of the file, or made. */
  readonly count: number;
  /** Those that are used. */
  readonly items: readonly Item[];
}

/** Where a method begins to filter an item. */
export interface FilterFrom {
  /** As it was given. */
  readonly text: string;
  /** The warm-up for a context of so many tokens. */
  readonly warmup: (contextTokens: number) => number;
}

/** Reads `--filter-from`. @throws {UsageError} If it is neither tokens nor a share. */
export function readFilterFrom(
  values: FlagValues,
  method: ResolvedOptions | undefined,
): FilterFrom | undefined {
  const text = values.get("filter-from")?.[0] as string | undefined;
  if (text === undefined) return undefined;
  if (method === undefined) throw new UsageError("Cannot use --filter-from: a dense run filters nothing");
  if (values.has("warmup")) {
    throw new UsageError("Cannot use --filter-from with --warmup: expected one of them");
  }
  const [, number, percent] = text.match(/^(\d+(?:\.\d+)?)(%?)$/) ?? [];
  const value = Number(number);
  const fits = percent === "%" ? value <= 100 : Number.isSafeInteger(value) && !number?.includes(".");
  if (number === undefined || !fits) {
    throw new UsageError(
      `Cannot use --filter-from ${text}: expected tokens, as in 16, or a share of each context from 0% to 100%`,
    );
  }
  return {
    text,
    warmup: percent === "%" ? (tokens) => Math.round(value / 100 * tokens) : () => value,
  };
}

/**
 * Reads the tasks that were asked for, with their data; items that are to be made are made.
 *
 * @param tokenizer Of the model, for lengths in tokens; without one such items are left for later.
 * @throws {UsageError | RangeError} If there is no such task or file, or a line is broken; by file and line.
 */
export async function readTasks(values: FlagValues, tokenizer?: Tokenizer): Promise<PlannedTask[]> {
  const folder = values.get("data")?.[0] as string | undefined;
  const named = values.get("tasks")?.[0] as string | undefined, count = readCount(values, "items", 1);
  const tokens = readCount(values, "length", 1) ?? 256, seed = readCount(values, "data-seed", 0) ?? 0;
  if (folder !== undefined && !isFolder(folder)) {
    throw new UsageError(`Cannot use --data "${folder}": there is no such folder`);
  }
  const tasks = named === undefined
    ? ITEM_TASKS.filter(({ file }) => folder !== undefined && exists(`${folder}/${file}`))
    : [...new Set(named.split(",").map((name) => checkFlags(() => findItemTask(name.trim()))))];
  if (folder === undefined && (tasks.length === 0 || tasks.some((task) => "file" in task))) {
    throw new UsageError(
      "Cannot tell what to evaluate: expected --data DIR, a folder with a JSONL file a task, or " +
        `--tasks ${GENERATED_TASKS.map(({ name }) => name).join(",")}`,
    );
  }
  if (tasks.length === 0) {
    throw new UsageError(
      `Cannot use --data "${folder}": found none of ${
        [...new Set(ITEM_TASKS.map(({ file }) => file))].join(", ")
      }`,
    );
  }
  return await Promise.all(tasks.map(async (task) => {
    if ("generate" in task) {
      const countTokens = (text: string) => tokenizer!.encode(text).length;
      const options = { count: count ?? 50, tokens, seed };
      const items = tokenizer === undefined
        ? []
        : checkFlags(() => task.generate({ ...options, countTokens }));
      return {
        task,
        source: options,
        sha256: await sha256(JSON.stringify(options)),
        count: items.length,
        items,
      };
    }
    const path = `${folder}/${task.file}`, text = await readText(path);
    const all = checkFlags(() => task.read(readItemRows(path, text)));
    if (all.length === 0) throw new UsageError(`Cannot use "${path}": found no item to score`);
    const source = { file: task.file };
    return { task, source, sha256: await sha256(text), count: all.length, items: limitItems(all, count) };
  }));
}

/** A task's items in tokens, and the digest of these. @throws {UsageError} If an item cannot be scored. */
export async function encodeTask({ items }: PlannedTask, { tokenizer, config }: ModelFile) {
  const encoded = items.map((item) => checkFlags(() => encodeItem(tokenizer, item, config.contextLength)));
  const ids = encoded.map(({ requests }) => requests.map((r) => [[...r.context], [...r.continuation]]));
  return { encoded, promptsSha256: await sha256(JSON.stringify(ids)) };
}

/** Tokens that are fed for an item, at most: contexts are computed once. */
export function countTokens({ requests }: EncodedItem): number {
  const contexts = new Map(requests.map(({ context }) => [context.join(), context.length]));
  const fed = requests.reduce((sum, { continuation }) => sum + continuation.length - 1, 0);
  return [...contexts.values()].reduce((a, b) => a + b, fed);
}

/**
 * The method for each length of context, one object a warm-up.
 *
 * @param create Binds options to the model.
 * @throws {UsageError} If a warm-up, or a method on this model, cannot be.
 */
export function bindMethod(
  method: ResolvedOptions,
  from: FilterFrom | undefined,
  items: readonly EncodedItem[],
  create: (options: ResolvedOptions) => Pruner,
): (contextTokens: number) => Pruner {
  const known = new Map<number, Pruner>();
  const prunerFor = (tokens: number) => {
    const warmup = from?.warmup(tokens) ?? method.warmup;
    const pruner = known.get(warmup) ?? checkFlags(() => create({ ...method, warmup }));
    known.set(warmup, pruner);
    return pruner;
  };
  for (const { item, requests } of items) {
    for (const { context } of requests) {
      try {
        prunerFor(context.length);
      } catch (error) {
        if (from === undefined || !(error instanceof UsageError)) throw error;
        const why = error.message.replace(/^Cannot use (--warmup)?:? ?/, "");
        throw new UsageError(`Cannot use --filter-from ${from.text} for ${item.place}: ${why}`);
      }
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

/** A filter that reached nothing, in one line. */
export function describeNothing(
  task: string,
  items: readonly EncodedItem[],
  warmups: readonly number[],
): string {
  const longest = Math.max(
    ...items.flatMap(({ requests }) =>
      requests.map(({ context, continuation }) => context.length + continuation.length - 1)
    ),
  );
  return `Cannot call ${task} filtered: the filter reached no scored position of ${items.length} items ` +
    `(sequences of up to ${longest} tokens, a warm-up of ${
      Math.min(...warmups)
    } or more; use --filter-from 25%, or a ` +
    "smaller --warmup or --recent)";
}

/** Refuses a method that can reach nothing, since every sequence ends within its warm-up. */
export function expectReach(
  task: string,
  items: readonly EncodedItem[],
  prunerFor: (contextTokens: number) => Pick<Pruner, "warmup">,
): void {
  const warmups = items.flatMap(({ requests }) =>
    requests.map(({ context }) => prunerFor(context.length).warmup)
  );
  const reaches = items.some(({ requests }) =>
    requests.some(({ context, continuation }) =>
      context.length + continuation.length - 1 > Math.max(prunerFor(context.length).warmup, 1)
    )
  );
  if (!reaches) throw new UsageError(describeNothing(task, items, warmups));
}
