/** The data of a task of items as a text: rows of a JSONL file, or settings from which items are made. */
import type { Tokenizer } from "../model/tokenizer/tokenizer.ts";
import { type EncodedItem, encodeItem } from "./encoded_item.ts";
import { type Item, limitItems } from "./item.ts";
import { readItemRows } from "./item_rows.ts";
import type { GeneratedItems, ItemSource } from "./item_source.ts";

/** Settings from which items are made, as a task has them in JSON. */
export type MadeOf = Omit<GeneratedItems, "countTokens">;

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
