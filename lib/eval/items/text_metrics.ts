/** Scores of a generated text against reference answers, defined as in lm-evaluation-harness and its LongBench tasks. */
import { PYTHON_SPACE, strip } from "./python_text.ts";

/** The characters of Python's `string.punctuation`. */
const PUNCTUATION = /[!-/:-@[-`{-~]/g;
const SPACES = new RegExp(`[${PYTHON_SPACE}]+`);

/** Words of a text, as `str.split()`. */
const wordsOf = (text: string) => strip(text).split(SPACES).filter((word) => word !== "");

/** What an exact match ignores. */
interface Ignored {
  /** Removed first, one after the other; each with the flag g. */
  readonly patterns?: readonly RegExp[];
  readonly case?: boolean;
  readonly punctuation?: boolean;
  readonly numbers?: boolean;
}

/**
 * Whether a text equals an answer, but for what is ignored.
 *
 * @example
 * ```ts
 * console.assert(matchesExactly("The Cat.", "the cat", { case: true, punctuation: true }));
 * ```
 */
export function matchesExactly(text: string, answer: string, ignored: Ignored = {}): boolean {
  const bare = (all: string) => {
    let rest = (ignored.patterns ?? []).reduce((left, pattern) => left.replace(pattern, ""), all);
    if (ignored.case) rest = rest.toLowerCase();
    if (ignored.punctuation) rest = rest.replace(PUNCTUATION, "");
    return ignored.numbers ? rest.replace(/[0-9]/g, "") : rest;
  };
  return bare(text) === bare(answer);
}

/**
 * F1 of the words of two texts, without case, punctuation and English articles; SQuAD's and LongBench's. In [0, 1].
 *
 * @example
 * ```ts
 * console.assert(wordF1("The red door.", "a red house") === 0.5);
 * ```
 */
export function wordF1(text: string, answer: string): number {
  const [made, right] = [text, answer].map((all) => {
    const bare = all.toLowerCase().replace(PUNCTUATION, "");
    return wordsOf(bare.replace(/(?<![\p{L}\p{N}_])(a|an|the)(?![\p{L}\p{N}_])/gu, " "));
  }) as [string[], string[]];
  const left = new Map<string, number>();
  for (const word of right) left.set(word, (left.get(word) ?? 0) + 1);
  let same = 0;
  for (const word of made) {
    const count = left.get(word) ?? 0;
    if (count > 0) (same++, left.set(word, count - 1));
  }
  if (same === 0) return 0;
  const precision = same / made.length, recall = same / right.length;
  return (2 * precision * recall) / (precision + recall);
}

/**
 * ROUGE-L of sentences as LongBench has it, from Python's package `rouge`: over the different words of the longest common
 * subsequences. In [0, 1]; 0 for an empty text.
 *
 * @example
 * ```ts
 * console.assert(Math.abs(rougeL("the cat sat", "the cat ran") - 2 / 3) < 1e-6);
 * ```
 */
export function rougeL(text: string, answer: string): number {
  const [made, right] = [text, answer].map((all) =>
    all.split(".").filter((sentence) => sentence !== "").map((sentence) => {
      const words = wordsOf(sentence);
      return words.length === 0 ? [""] : words;
    })
  ) as [string[][], string[][]];
  if (made.length === 0 || right.length === 0) return 0;
  const common = new Set(right.flatMap((one) => made.flatMap((other) => commonWords(one, other))));
  const precision = common.size / new Set(made.flat()).size,
    recall = common.size / new Set(right.flat()).size;
  return 2 * ((precision * recall) / (precision + recall + 1e-8));
}

/** A longest common subsequence of words. */
function commonWords(first: readonly string[], second: readonly string[]): string[] {
  const width = second.length + 1, lengths = new Uint32Array((first.length + 1) * width);
  for (let i = 1; i <= first.length; i++) {
    for (let j = 1; j < width; j++) {
      const at = i * width + j;
      lengths[at] = first[i - 1] === second[j - 1]
        ? lengths[at - width - 1]! + 1
        : Math.max(lengths[at - width]!, lengths[at - 1]!);
    }
  }
  const common: string[] = [];
  for (let i = first.length, j = second.length; i > 0 && j > 0;) {
    if (first[i - 1] === second[j - 1]) (common.unshift(first[i - 1]!), i--, j--);
    else if (lengths[(i - 1) * width + j]! > lengths[i * width + j - 1]!) i--;
    else j--;
  }
  return common;
}
