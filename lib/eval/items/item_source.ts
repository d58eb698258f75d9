/** The source of a task's items, the metrics of each item, and the items of a text: rows of JSONL, or settings in JSON. */
import type { Tokenizer } from "../../model/tokenizer/tokenizer.ts";
import { type EncodedItem, encodeItem } from "./encoded_item.ts";
import { type Item, limitItems } from "./item.ts";
import type { GreedyDistance, ItemMetric } from "./item_metrics.ts";
import { type ItemRow, readItemRows } from "./item_rows.ts";

/** @internal Where a task's rows are on the Hugging Face hub. */
export interface HubRows {
  /** `org/name` of the data set. */
  readonly repository: string;
  /** Its commit, so that the rows never change. */
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

/** @internal Items that are read from the rows of a file. */
export interface ItemRows {
  /** Name of its JSONL file in a folder of data. */
  readonly file: string;
  /** Where that file is, of a task that brings it along. */
  readonly path?: string;
  /** Where the hub has its data; a user's own task may have none there. */
  readonly hub?: HubRows;
  /**
   * Items from the rows of its file.
   *
   * @throws {RangeError} If a row lacks a field, or one is out of range; the message names file and line.
   */
  read(rows: readonly ItemRow[]): Item[];
}

/** Settings from which items are made, as a task has them in JSON. */
export interface MadeOf {
  readonly count: number;
  /** Tokens of a context: as many as fit, where one piece of it more would be too much. */
  readonly tokens: number;
  /** Items of the same seed are the same. */
  readonly seed: number;
}

/** @internal Items that are made, of any length and from a seed. */
export interface ItemMaker {
  /**
   * Makes items.
   *
   * @param options `countTokens`: tokens of a text, as the model reads it.
   * @throws {RangeError} If not even the smallest context fits the tokens.
   */
  make(options: MadeOf & { readonly countTokens: (text: string) => number }): Item[];
}

/** @internal The metrics of each item. */
export interface ItemSaid {
  /** Each a mean over items, or a function of it; the first one is the headline. */
  readonly metrics: readonly [ItemMetric, ...ItemMetric[]];
  /** Distances of a filtered model's continuation from the full model's, where items ask for a text. */
  readonly distances?: readonly GreedyDistance[];
}

/** @internal The source of items, and the metrics of each. */
export type ItemSource = (ItemRows | ItemMaker) & ItemSaid;

/** @internal The data of a task. */
export interface ItemData {
  readonly name: string;
  readonly text: string;
  /** Items that are used, at most; default: all. */
  readonly count?: number;
}

/** @internal A model's tokenizer, and the tokens that it reads at most. */
export interface ItemReader {
  readonly tokenizer: Tokenizer;
  readonly config: { readonly contextLength: number };
}

/**
 * The items of a text; those that are made are measured by the tokenizer, and none is longer than the model reads.
 *
 * @returns Those that are used, and how many there are.
 * @throws {RangeError} If a row is broken, there is no item, or one cannot be made.
 */
export function readItems(
  name: string,
  source: ItemSource,
  { name: file, text, count }: ItemData,
  { tokenizer, config: { contextLength } }: ItemReader,
): { readonly items: readonly Item[]; readonly of: number } {
  if ("read" in source) {
    const all = source.read(readItemRows(file, text));
    if (all.length === 0) throw new RangeError(`Cannot use "${file}": found no item to score`);
    return { items: limitItems(all, count), of: all.length };
  }
  const made: MadeOf = JSON.parse(text);
  if (made.tokens > contextLength) {
    throw new RangeError(
      `Cannot make ${name} of ${made.tokens} tokens: the model was trained on ${contextLength} ` +
        "(take a smaller --length, or another --model)",
    );
  }
  const items = source.make({ ...made, countTokens: (part) => tokenizer.encode(part).length });
  return { items, of: items.length };
}

/** Items in a model's tokens. @throws {RangeError} If one cannot be scored; the message names file and line. */
export function encodeItems(items: readonly Item[], { tokenizer, config }: ItemReader): EncodedItem[] {
  return items.map((item) => encodeItem(tokenizer, item, config.contextLength));
}
