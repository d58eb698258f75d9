/** The source of a task's items, and the metrics of each item. */
import type { Item } from "./item.ts";
import type { GreedyDistance, ItemMetric } from "./item_metrics.ts";
import type { ItemRow } from "./item_rows.ts";

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

export interface GeneratedItems {
  readonly count: number;
  /** Tokens of a context: as many as fit, where one piece of it more would be too much. */
  readonly tokens: number;
  /** Items of the same seed are the same. */
  readonly seed: number;
  /** Tokens of a text, as the model reads it. */
  readonly countTokens: (text: string) => number;
}

/** @internal Items that are made, of any length and from a seed. */
export interface ItemMaker {
  /** Makes items. @throws {RangeError} If not even the smallest context fits the tokens. */
  make(options: GeneratedItems): Item[];
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
