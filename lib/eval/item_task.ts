/**
 * What a task of items is: questions with continuations of which a model finds one likelier than the others, scored as
 * lm-evaluation-harness scores them. Adding one is a file in `tasks/` and a line in `tasks/mod.ts`.
 */
import type { ItemMetric } from "./item_metrics.ts";
import type { ItemRow } from "./item_rows.ts";

/** A continuation whose log-likelihood is wanted. */
export interface ItemRequest {
  /** What stands before it; not scored. */
  readonly context: string;
  /** What is scored, with the space that separates it. */
  readonly continuation: string;
  /** Characters (code points) of the choice without that space: what `acc_norm` divides by. */
  readonly characters: number;
}

/** Texts that are looked for in a text that a model makes. */
export interface Sought {
  /** The texts, whatever their order and the case of their letters. */
  readonly answers: readonly string[];
  /** Tokens that are made. */
  readonly maxTokens: number;
}

/** @internal One item. */
export interface Item {
  /** Its name in the data. */
  readonly id: string;
  /** File and line, as messages name them. */
  readonly place: string;
  /** What is scored; those of one context branch from it. */
  readonly requests: readonly [ItemRequest, ...ItemRequest[]];
  /** 0-based index of the right one. */
  readonly gold: number;
  /** What is looked for in the text that greedy decoding makes of the first context, where a task asks for that. */
  readonly sought?: Sought;
  /** The part of a whole that it belongs to, such as an MMLU subject. */
  readonly group?: string;
  /** Start of its contexts that other items have too: computed once for all of them. */
  readonly shared?: string;
  /** 0-based index that rules with chance draw by: the item's in its file, or one for all that share a start. */
  readonly stream: number;
}

/** @internal What every task of items says. */
export interface ItemTaskInfo {
  /** Its name: that of `--tasks`. */
  readonly name: string;
  /** One line of help. */
  readonly help: string;
  /** How its numbers come about, in words. */
  readonly protocol: string;
  /** What is said of an item, the main one first. */
  readonly metrics: readonly [ItemMetric, ...ItemMetric[]];
}

/** @internal Where a task's rows are on the Hugging Face hub. */
export interface HubRows {
  /** `org/name` of the data set. */
  readonly repository: string;
  /** Its commit: what is read never changes. */
  readonly revision: string;
  /** Parquet or JSONL files of it. */
  readonly files: readonly string[];
  /**
   * From a row there to the fields of one in the task's own file; without an `id` it gets one by its number.
   *
   * @param file The file that it is of.
   * @throws {RangeError} If a field is missing or out of range; the message names file and row.
   */
  row(row: ItemRow, file: string): { readonly [name: string]: unknown };
}

/** A task whose items are read from a file. */
export interface ItemTask extends ItemTaskInfo {
  /** Where the hub has its data. */
  readonly hub: HubRows;
  /** Name of its JSONL file in a folder of data. */
  readonly file: string;
  /**
   * Items from the rows of its file.
   *
   * @throws {RangeError} If a row lacks a field, or one is out of range; the message names file and line.
   */
  read(rows: readonly ItemRow[]): Item[];
}

/** What a task of one question and several answers must say. */
export type ChoiceTaskOptions = Pick<ItemTask, "name" | "help" | "metrics" | "hub"> & {
  /** The prompt, in words, for the protocol. */
  readonly says: string;
  /** From the row's `query` to the context. */
  readonly prompt: (query: string) => string;
};

/** A task whose rows are `query`, `choices`, `gold`; a choice follows the prompt after one space. */
export function defineChoiceTask(
  { name, help, metrics, hub, says, prompt }: ChoiceTaskOptions,
): ItemTask {
  return {
    name,
    help,
    metrics,
    hub,
    protocol: `${says}; each choice after one space; log-likelihoods in nats from float32 logits.`,
    file: `${name}.jsonl`,
    read: (rows) =>
      rows.map((row, stream) => {
        const context = prompt(row.text("query")), choices = row.texts("choices", 2);
        const requests = choices.map((choice) => requestOf(context, choice));
        const gold = row.index("gold", choices.length);
        return { id: row.text("id"), place: row.place, requests: expectSome(requests), gold, stream };
      }),
  };
}

/** A row whose choices have labels, of which `answerKey` names the right one. @param question The field of the question. */
export function fromLabels(row: ItemRow, question: string): { readonly [name: string]: unknown } {
  const choices = row.part("choices"), labels = choices.texts("label", 2);
  return {
    id: row.text("id"),
    query: row.text(question),
    choices: choices.texts("text", labels.length, labels.length),
    gold: labels.indexOf(row.oneOf("answerKey", labels)),
  };
}

/** A choice after its context and one space. */
export function requestOf(context: string, choice: string): ItemRequest {
  return { context, continuation: ` ${choice}`, characters: [...choice].length };
}

function expectSome<T>(list: readonly T[]): readonly [T, ...T[]] {
  return list as readonly T[] as readonly [T, ...T[]]; // rows refuse empty lists
}

/**
 * The first items; of a task with groups as many of each group as can be, the first ones of each.
 *
 * @param count At most so many; default: all.
 *
 * @example
 * ```ts
 * const items = ["a", "a", "a", "b"].map((group, i) => ({ id: String(i), group }));
 * console.assert(limitItems(items, 3).map(({ id }) => id).join() === "0,1,3");
 * ```
 */
export function limitItems<T extends Pick<Item, "id" | "group">>(
  items: readonly T[],
  count = Infinity,
): readonly T[] {
  const ranks = new Map<string, number>();
  const ranked = items.map((item, place) => {
    const rank = ranks.get(item.group ?? "") ?? 0;
    ranks.set(item.group ?? "", rank + 1);
    return { item, place, rank };
  });
  const first = ranked.toSorted((a, b) => a.rank - b.rank || a.place - b.place).slice(0, count);
  return first.sort((a, b) => a.place - b.place).map(({ item }) => item);
}
