/** Tasks whose items are generated from a seed, of any length: which distant tokens must a filter keep for recall? */
import { mix64 } from "../../math/random.ts";
import { ACC_GREEDY, FOUND, GREEDY_DISTANCES, ITEM_PERPLEXITY } from "./item_metrics.ts";
import { type ItemRequest, requestOf, type Sought } from "./item.ts";
import type { ItemMaker, ItemSaid } from "./item_source.ts";
import { defineItemTask, type TaskOf } from "./item_task.ts";

/** Draws an integer in [0, below); every call another one. */
export type Draw = (below: number) => number;

/** @internal A task whose items are made. */
export type GeneratedTask = TaskOf<ItemMaker>;

interface Making {
  /** Pieces: words, pairs, sentences; the same draws for any number make the same item. */
  readonly pieces: number;
  readonly draw: Draw;
  /** Tokens of a context, as they were asked for. */
  readonly tokens: number;
}

type GeneratedTaskOptions = Pick<GeneratedTask, "name" | "help"> & {
  /** How an item is made, for the protocol. */
  readonly says: string;
  /** The least number of pieces that `make` can be asked for. */
  readonly least: number;
  /** An item of the given number of pieces. */
  readonly make: (making: Making) => ItemRequest;
};

/** A task of words to be guessed, by greedy decoding; contexts hold as many pieces as fit. */
export function defineGeneratedTask({ make, ...options }: GeneratedTaskOptions): GeneratedTask {
  return define({
    ...options,
    metrics: [ACC_GREEDY, ITEM_PERPLEXITY],
    acc: "acc: greedy decoding gives the answer",
    make: (making) => ({ request: make(making) }),
  });
}

/** The definition of a task whose answers are searched in a text that the model generates. */
type SoughtTaskOptions = Omit<GeneratedTaskOptions, "make"> & Pick<Sought, "maxTokens"> & {
  /** An item of the given number of pieces: its context, and the texts to be found. */
  readonly make: (making: Making) => { readonly context: string; readonly answers: readonly string[] };
};

/** A task as RULER has them: the model continues greedily, and the answers are searched in its continuation. */
export function defineSoughtTask({ make, maxTokens, ...options }: SoughtTaskOptions): GeneratedTask {
  return define({
    ...options,
    metrics: [FOUND, ITEM_PERPLEXITY],
    distances: GREEDY_DISTANCES,
    acc:
      `found: mean fraction of the answers in ${maxTokens} tokens of greedy decoding, in any order and case; ppl: of all ` +
      "answers one after the other",
    make(making) {
      const { context, answers } = make(making);
      return { request: requestOf(context, answers.join(" ")), sought: { answers, maxTokens } };
    },
  });
}

interface Definition extends Omit<GeneratedTaskOptions, "make">, ItemSaid {
  readonly acc: string;
  readonly make: (making: Making) => { readonly request: ItemRequest; readonly sought?: Sought };
}

function define({ name, help, says, least, acc, make: makeOne, ...measured }: Definition): GeneratedTask {
  return defineItemTask({
    name,
    help,
    ...measured,
    protocol:
      `${says}; contexts of as many tokens as asked for, at most; made from a seed; ${acc}; log-likelihoods in ` +
      "nats from float32 logits.",
    make({ count, tokens, seed, countTokens }) {
      return Array.from({ length: count }, (_, i) => {
        const at = (pieces: number) => makeOne({ pieces, tokens, draw: createDraw(seed, i) });
        const fits = (pieces: number) => countTokens(at(pieces).request.context) <= tokens;
        if (!fits(least)) {
          const smallest = countTokens(at(least).request.context);
          throw new RangeError(
            `Cannot make ${name} of ${tokens} tokens: its smallest context has ${smallest}`,
          );
        }
        let low = least, high = 2 * Math.max(least, 1);
        while (fits(high)) (low = high, high *= 2);
        while (high - low > 1) {
          const middle = Math.floor((low + high) / 2);
          if (fits(middle)) low = middle;
          else high = middle;
        }
        const { request, ...rest } = at(low);
        const id = `${name}-${seed}-${i}`, place = `item ${i} of ${name}`;
        return { id, place, requests: [request], gold: 0, stream: i, ...rest };
      });
    },
  });
}

function createDraw(seed: number, item: number): Draw {
  let drawn = 0n;
  const base = (BigInt(seed) << 44n) + (BigInt(item) << 24n);
  return (below) => Number(mix64(base + drawn++) % BigInt(below));
}

/** Short words that most vocabularies have as one token. */
export const WORDS: readonly string[] =
  "apple bank bear bell bird boat book bread bridge cat chair church city clock cloud coat corn cup dog door dress dust farm fire fish flag floor flower garden gate girl glass gold grass hand hat hill horse house ice iron island key king lamp land leaf letter light man market milk moon mountain night ocean paper park pen queen rain ring river road roof rose salt sand school sea ship shoe silver snow song star stone street sugar summer sun table tea train tree wall watch water wheel wind window winter wood"
    .split(" ");

/** A word of its own for each number: those of the list, then pairs of them. */
export function wordAt(number: number): string {
  const count = WORDS.length, second = WORDS[number % count]!;
  return number < count ? second : `${WORDS[(Math.floor(number / count) - 1) % count]}${second}`;
}

/** RULER's noise: sentences without information. */
export const NOISE =
  "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";

export function shuffle<T>(list: T[], draw: Draw): T[] {
  for (let i = list.length - 1; i > 0; i--) {
    const j = draw(i + 1);
    [list[i], list[j]] = [list[j]!, list[i]!];
  }
  return list;
}
