/** What an evaluation of items is to run: its tasks with their items in tokens, and the method for each context. */
import { UsageError } from "../../../lib/errors.ts";
import {
  checkScorable,
  type EncodedItem,
  encodeItem,
  findItemTask,
  GENERATED_TASKS,
  type GeneratedTask,
  type Item,
  ITEM_TASKS,
  type ItemRow,
  type ItemTask,
  limitItems,
  reachesNothing,
  type ReachMasks,
  reachOf,
  readItemRows,
} from "../../../lib/eval/mod.ts";
import { effectiveOptions, type Pruner, type ResolvedOptions } from "../../../lib/methods/mod.ts";
import type { HubOptions, ModelConfig, ModelFile } from "../../../lib/model/mod.ts";
import { sha256 } from "../../../lib/sha256.ts";
import { exists, isFolder, readText } from "../cli/files.ts";
import type { FlagValues } from "../cli/flags/parse.ts";
import { checkFlags } from "../cli/task.ts";
import { readCount } from "../cli/flags/text.ts";
import { readHubData } from "./hub_data.ts";

/** A task, and where its items come from. */
export interface ReadTask {
  readonly task: ItemTask | GeneratedTask;
  /** Its file, or what its items are made from. */
  readonly source: object;
  /** SHA-256 of its file, or of that. */
  readonly sha256: string;
  /** Items of the file, or made. */
  readonly count: number;
  /** Those that are used; a task that makes them measures lengths by the tokenizer, and none longer than a model reads. */
  readonly itemsFor: (file: Pick<ModelFile, "tokenizer" | "config">) => readonly Item[];
}

/** A task whose items are known, in tokens too. */
export interface PlannedTask extends Omit<ReadTask, "itemsFor"> {
  readonly items: readonly Item[];
  readonly encoded: readonly EncodedItem[];
  /** SHA-256 of the ids of all contexts and continuations. */
  readonly promptsSha256: string;
}

/** Where a method begins to filter an item. */
export interface FilterFrom {
  /** As it was given. */
  readonly text: string;
  /** The warm-up for a context of so many tokens. */
  readonly warmup: (contextTokens: number) => number;
}

/**
 * Reads `--filter-from`.
 *
 * @param hasText Whether a text is read beside the items, which --warmup is for.
 * @throws {UsageError} If it is neither tokens nor a share.
 */
export function readFilterFrom(
  values: FlagValues,
  method: ResolvedOptions | undefined,
  hasText = false,
): FilterFrom | undefined {
  const text = values.get("filter-from")?.[0] as string | undefined;
  if (text === undefined) return undefined;
  if (method === undefined) throw new UsageError("Cannot use --filter-from: a dense run filters nothing");
  if (values.has("warmup") && !hasText) {
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
 * Reads the tasks that were asked for, with their data.
 *
 * @throws {UsageError} If there is no such task or file, or a line is broken; by file and line.
 */
export async function readTasks(values: FlagValues): Promise<ReadTask[]> {
  const folder = values.get("data")?.[0] as string | undefined, count = readCount(values, "items", 1);
  const tokens = readCount(values, "length", 1) ?? 256, seed = readCount(values, "data-seed", 0) ?? 0;
  return await Promise.all(
    chooseTasks(values, folder).map(async (task) => {
      if ("generate" in task) {
        readCount(values, "items", 1, MAX_MADE);
        const source = { count: count ?? 50, tokens, seed };
        return {
          ...{ task, source, sha256: await sha256(JSON.stringify(source)), count: source.count },
          itemsFor: ({ tokenizer, config: { contextLength } }) => {
            if (tokens > contextLength) {
              throw new UsageError(
                `Cannot make ${task.name} of ${tokens} tokens: the model was trained on ${contextLength} ` +
                  "(take a smaller --length, or another --model)",
              );
            }
            return checkFlags(() =>
              task.generate({ ...source, countTokens: (text) => tokenizer.encode(text).length })
            );
          },
        } satisfies ReadTask;
      }
      const { source, place, read, ...data } = folder === HUB
        ? await openHub(task, values.has("offline") ? { offline: true } : {})
        : await openFile(task, `${folder}/${task.file}`);
      const all = checkFlags(() => task.read(read()));
      if (all.length === 0) throw new UsageError(`Cannot use ${place}: found no item to score`);
      const items = limitItems(all, count);
      return { ...{ task, source, sha256: data.sha256, count: all.length }, itemsFor: () => items };
    }),
  );
}

/** Items that a task makes, at most: all are made before the first is scored. */
const MAX_MADE = 100_000;

/** What `--data` says where the hub's data are meant. */
const HUB = "hub";

/** Where a task's rows come from, what messages call it, and the rows. */
interface OpenedRows {
  readonly source: object;
  readonly place: string;
  readonly sha256: string;
  readonly read: () => ItemRow[];
}

async function openFile(task: ItemTask, path: string): Promise<OpenedRows> {
  const text = await readText(path), read = () => readItemRows(path, text);
  return { source: { file: task.file }, place: `"${path}"`, sha256: await sha256(text), read };
}

async function openHub(task: ItemTask, options: HubOptions): Promise<OpenedRows> {
  const { repository, revision, files } = task.hub;
  const found = await readHubData(task, options).catch((error) =>
    checkFlags(() => {
      throw error;
    })
  );
  return {
    source: { repository, revision, files },
    place: `"${repository}"`,
    sha256: found.sha256,
    read: () => found.rows,
  };
}

/** The tasks that were named, or those whose file a folder holds. */
function chooseTasks(values: FlagValues, folder: string | undefined): (ItemTask | GeneratedTask)[] {
  const named = values.get("tasks")?.[0] as string | undefined;
  if (folder !== undefined && folder !== HUB && !isFolder(folder)) {
    throw new UsageError(`Cannot use --data "${folder}": there is no such folder`);
  }
  const tasks = named === undefined
    ? ITEM_TASKS.filter(({ file }) => folder === HUB || folder !== undefined && exists(`${folder}/${file}`))
    : [...new Set(named.split(",").map((name) => checkFlags(() => findItemTask(name.trim()))))];
  if (folder === undefined && (tasks.length === 0 || tasks.some((task) => "file" in task))) {
    throw new UsageError(
      "Cannot tell what to evaluate: expected --data DIR, a folder with a JSONL file a task, --data hub, or " +
        `--tasks ${GENERATED_TASKS.map(({ name }) => name).join(",")}`,
    );
  }
  if (tasks.length > 0) return tasks;
  const files = new Set(ITEM_TASKS.map(({ file }) => file));
  throw new UsageError(`Cannot use --data "${folder}": found none of ${[...files].join(", ")}`);
}

/** Items of tasks in a model's tokens. @throws {UsageError} If one cannot be made or scored. */
export function planTasks(
  tasks: readonly ReadTask[],
  file: Pick<ModelFile, "tokenizer" | "config">,
): Promise<PlannedTask[]> {
  const { tokenizer, config } = file;
  return Promise.all(tasks.map(async ({ itemsFor, ...read }) => {
    const items = itemsFor(file);
    const encoded = items.map((item) => checkFlags(() => encodeItem(tokenizer, item, config.contextLength)));
    const ids = encoded.map(({ requests }) => requests.map((r) => [[...r.context], [...r.continuation]]));
    return { ...read, items, encoded, promptsSha256: await sha256(JSON.stringify(ids)) };
  }));
}

/** What a record says of its tasks. */
export function recordTask({ task, source, sha256, promptsSha256, count, items }: PlannedTask) {
  return {
    ...{ task: task.name, protocol: task.protocol, ...source, sha256, promptsSha256 },
    ...{ items: items.length, of: count },
  };
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
 * @throws {UsageError} If a warm-up, or a method on this model or of an item, cannot be.
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

/** What feeds a request, or the text that its item asks for, at most: its scored positions are [from, to). */
function spansOf({ item, requests }: EncodedItem): { readonly from: number; readonly to: number }[] {
  return requests.map(({ context, continuation }) => ({
    from: context.length - 1,
    to: context.length + Math.max(continuation.length, item.sought?.maxTokens ?? 0) - 1,
  }));
}

/** What a method reached nothing of. */
export interface Unreached {
  readonly planned: PlannedTask;
  readonly prunerFor: (contextTokens: number) => Pick<Pruner, "spans">;
  /** The method, where there are several. */
  readonly method?: string | undefined;
}

/** A filter that reached nothing, in words. */
function describeUnreached({ planned: { task, encoded }, prunerFor, method }: Unreached): string {
  const spans = encoded.flatMap(spansOf), warmups = spans.map(({ from }) => prunerFor(from + 1).spans.warmup);
  return `Cannot call ${task.name}${
    method === undefined ? "" : ` with ${method}`
  } filtered: the filter reached no ` +
    `scored position of ${encoded.length} items (sequences of up to ${
      Math.max(...spans.map(({ to }) => to))
    } tokens, a warm-up of ${Math.min(...warmups)} or more`;
}

/** The most that a method can decide: everything behind its warm-up goes. */
function mostFiltered({ layers, spans: { warmup }, keySide }: Pruner, tokens: number): ReachMasks {
  const from = (start: number) => new Uint8Array(tokens).fill(1, 0, start);
  return {
    keep: new Map(layers.map((layer) => [layer, from(Math.max(warmup, 1))])),
    kvKeep: new Map(keySide?.layers.map((layer) => [layer, from(warmup)])),
  };
}

/**
 * Refuses a method that can reach no scored position of a task, whatever it decides: every sequence ends within its
 * warm-up or its window, or no layer sees as far back as where keys go.
 */
export function expectReach(
  planned: PlannedTask,
  prunerFor: (contextTokens: number) => Pruner,
  config: Pick<ModelConfig, "numLayers" | "layers">,
  method?: string,
): void {
  const spans = new Map(planned.encoded.flatMap(spansOf).map((span) => [JSON.stringify(span), span]));
  const reaches = spans.values().some(({ from, to }) => {
    const pruner = prunerFor(from + 1);
    return !reachesNothing({ reach: reachOf(config, pruner, mostFiltered(pruner, to), from, to) });
  });
  if (reaches) return;
  const what = describeUnreached({ planned, prunerFor, method });
  throw new UsageError(`${what}; use --filter-from 25%, or a smaller --warmup or --recent)`);
}

/**
 * Refuses what a run has found to be filtered nowhere: its numbers would be the dense model's. What it measured stays.
 *
 * @param kept What holds the scores.
 * @param instead What to do where that is not enough.
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
