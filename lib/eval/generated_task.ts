/** Tasks whose items are made, of any length and from a seed: what a filter must keep to recall what stood far back. */
import { mix64 } from "../random.ts";
import { ACC_GREEDY, ITEM_PERPLEXITY } from "./item_metrics.ts";
import type { Item, ItemRequest, ItemTaskInfo } from "./item_task.ts";

/** What is to be made. */
export interface GeneratedItems {
  /** Items. */
  readonly count: number;
  /** Tokens of a context: as many as fit, where one piece of it more would be too much. */
  readonly tokens: number;
  /** Items of the same seed are the same. */
  readonly seed: number;
  /** Tokens of a text, as the model reads it. */
  readonly countTokens: (text: string) => number;
}

/** Draws an integer in [0, below); every call another one. */
export type Draw = (below: number) => number;

/** A task whose items are made. */
export interface GeneratedTask extends ItemTaskInfo {
  /** Makes items. @throws {RangeError} If not even the smallest context fits the tokens. */
  generate(options: GeneratedItems): Item[];
}

/** What a generated task must say. */
export type GeneratedTaskOptions = Pick<ItemTaskInfo, "name" | "help"> & {
  /** How an item is made, for the protocol. */
  readonly says: string;
  /** The least that `make` can be asked for. */
  readonly least: number;
  /** An item of so many pieces (words, pairs, sentences); the same draws for any number would make the same item. */
  readonly make: (pieces: number, draw: Draw) => ItemRequest;
};

/** A task of words to be guessed, by greedy decoding; contexts hold as many pieces as fit. */
export function defineGeneratedTask({ name, help, says, least, make }: GeneratedTaskOptions): GeneratedTask {
  return {
    name,
    help,
    metrics: [ACC_GREEDY, ITEM_PERPLEXITY],
    protocol:
      `${says}; contexts of as many tokens as asked for, at most; made from a seed; acc: greedy decoding gives ` +
      "the answer; log-likelihoods in nats from float32 logits.",
    generate({ count, tokens, seed, countTokens }) {
      return Array.from({ length: count }, (_, i) => {
        const at = (pieces: number) => make(pieces, createDraw(seed, i));
        const fits = (pieces: number) => countTokens(at(pieces).context) <= tokens;
        if (!fits(least)) {
          throw new RangeError(
            `Cannot make ${name} of ${tokens} tokens: its smallest context has ${
              countTokens(at(least).context)
            }`,
          );
        }
        let low = least, high = 2 * least;
        while (fits(high)) (low = high, high *= 2);
        while (high - low > 1) {
          const middle = Math.floor((low + high) / 2);
          if (fits(middle)) low = middle;
          else high = middle;
        }
        return {
          id: `${name}-${seed}-${i}`,
          place: `item ${i} of ${name}`,
          requests: [at(low)],
          gold: 0,
          stream: i,
        };
      });
    },
  };
}

/** Draws of one item. */
function createDraw(seed: number, item: number): Draw {
  let drawn = 0n;
  const base = (BigInt(seed) << 44n) + (BigInt(item) << 24n);
  return (below) => Number(mix64(base + drawn++) % BigInt(below));
}

/** Short words that most vocabularies have as one token. */
export const WORDS: readonly string[] =
  "apple bank bear bell bird boat book bread bridge cat chair church city clock cloud coat corn cup dog door dress dust farm fire fish flag floor flower garden gate girl glass gold grass hand hat hill horse house ice iron island key king lamp land leaf letter light man market milk moon mountain night ocean paper park pen queen rain ring river road roof rose salt sand school sea ship shoe silver snow song star stone street sugar summer sun table tea train tree wall watch water wheel wind window winter wood"
    .split(" ");
