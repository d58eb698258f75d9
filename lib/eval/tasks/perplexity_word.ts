/**
 * Perplexity of words as in lm-evaluation-harness's task wikitext: pages, detokenised, in windows that begin with one
 * token of context. A page's words are those of the original text.
 */
import type { Task } from "../task.ts";
import { PYTHON_SPACE, strip } from "../items/python_text.ts";
import { perplexity, type PerplexityTypes, scoreBehind, scoreChunks } from "./perplexity.ts";

/** Ids to feed, and how many of its last tokens are scored. */
export interface Window {
  /** Ids; all but the first `ids.length - scored` are scored. */
  readonly ids: Int32Array<ArrayBuffer>;
  readonly scored: number;
}

/**
 * A page's windows: each token is scored once, the last window has as much context as there is room for.
 *
 * @param prefix Stands before the first token.
 * @param most Tokens that the model attends to at once.
 * @param ids The page's tokens, [tokens] i32.
 * @returns Windows of [at most `most` + 1] i32.
 */
export function rollWindows(ids: Int32Array, prefix: number, most: number): Window[] {
  const all = Int32Array.of(prefix, ...ids), windows: Window[] = [];
  for (let done = 0; done < ids.length;) {
    const scored = Math.min(most, ids.length - done), end = done + scored + 1;
    windows.push({ ids: all.slice(Math.max(0, end - most - 1), end), scored });
    done += scored;
  }
  return windows;
}

/** The pages of a text in WikiText's form: each begins with a heading of the first level. */
export function splitPages(text: string): string[] {
  return text.split(/^(?= = [^=\n].* = $)/m).filter((page) => strip(page) !== "");
}

const SPACES = new RegExp(`[${PYTHON_SPACE}]+`);

/** Words of a page, as the harness counts them: an empty one at either end is one too. */
export const countWords = (page: string): number => page.split(SPACES).length;

/** Takes white space inside a pair of signs away. */
function between(open: string, close: string): readonly [RegExp, string] {
  const space = `[${PYTHON_SPACE}]*`;
  return [new RegExp(`\\${open}${space}([^\\${close}]*?)${space}\\${close}`, "g"), `${open}$1${close}`];
}

const PAIRS: readonly (readonly [string | RegExp, string])[] = [
  ["s '", "s'"],
  ...[" @-@ ", " @,@ ", " @.@ "].map((mark) => [mark, mark[2]!] as const),
  ...[":", ";", ".", "!", "?", ","].map((mark) => [` ${mark} `, `${mark} `] as const),
  ...["()", "[]", "{}", '""', "''"].map(([open, close]) => between(open!, close!)),
  ...["= = = =", "= = =", "= ="].map((mark) => [mark, mark.replaceAll(" ", "")] as const),
  [" \u00b0 ", "\u00b0"],
  [" \n", "\n"],
  ["\n ", "\n"],
  [" N ", " 1 "],
  [" 's", "'s"],
];

/** WikiText's tokens put together again, as the harness does it. */
export function detokenize(page: string): string {
  return PAIRS.reduce((text, [from, to]) => text.replaceAll(from, to), page);
}

export const perplexityWord: Task<PerplexityTypes> = {
  ...perplexity,
  name: "perplexity_word",
  help: "perplexity per word as in lm-evaluation-harness's wikitext: pages, detokenised, rolling windows",
  protocol:
    "The text's pages (headings of the first level; whole pages, as many as --tokens covers, at least one), WikiText's tokens put " +
    "together; each a stream that begins with BOS, or the end token where there is none, and with another where the tokenizer " +
    "adds one; windows of the context length, each a sequence of its own, of which the last has full context; perplexity = exp " +
    "of the sum of all losses by the number of words between white space of the pages as they were; losses are nats a word: " +
    "each token's times tokens by words; KL and top-1 on the same positions.",
  label: (context) => `lm-eval word perplexity at ${context}`,
  loss: { ...perplexity.loss, of: "word" },
  open(model, { ids, text, context, tokenizer, cacheBytes }) {
    const prefix = tokenizer.bosId ?? [...tokenizer.endIds][0];
    if (prefix === undefined) {
      throw new RangeError("Cannot begin a page: the tokenizer has no BOS and no end token");
    }
    // Pages by themselves may come to a few more tokens than the text does.
    const isWhole = tokenizer.encode(text, { bos: tokenizer.addsBos }).length <= ids.length;
    const windows: Window[] = [];
    let tokens = 0, words = 0;
    for (const page of splitPages(text)) {
      const own = tokenizer.encode(detokenize(page), { bos: tokenizer.addsBos, special: true });
      if (!isWhole && tokens > 0 && tokens + own.length > ids.length) break;
      windows.push(...rollWindows(own, prefix, context));
      tokens += own.length;
      words += countWords(page);
    }
    const chunks = windows.map(({ ids }) => ids);
    const scorer = scoreBehind((ids, chunk) => ids.length - 1 - windows[chunk]!.scored, tokens / words);
    return scoreChunks(model, chunks, { ...scorer, isPooled: true }, cacheBytes, perplexityWord);
  },
};
