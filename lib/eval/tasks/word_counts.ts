/** Counting words: the most common ones of a list, and the most frequent ones of a text of coded words. */
import {
  defineSoughtTask,
  type Draw,
  type GeneratedTask,
  shuffle,
  wordAt,
  WORDS,
} from "../items/generated_task.ts";

/** Common words of a list. */
const COMMON = 10;
/** From this number of tokens on RULER repeats words more often. */
const LONG = 4096;
/** With fewer tokens there is no room for an example. */
const SHORT = 1024;

const numbered = (words: readonly string[]) => words.map((word, i) => `${i + 1}. ${word}`).join(" ");

/** A list up to its answer, and its common words. */
function list(numbers: readonly number[], often: number, seldom: number, draw: Draw) {
  const words = numbers.map(wordAt), common = words.slice(0, COMMON);
  const all = words.flatMap((word, i) => Array<string>(i < COMMON ? often : seldom).fill(word));
  const text =
    "Below is a numbered list of words. In these words, some appear more often than others. Memorize the ones that appear " +
    `most often.\n${numbered(shuffle(all, draw))}\n` +
    "Question: What are the 10 most common words in the above list? Answer: The top 10 words that appear most often in the list are:";
  return { text, common };
}

/** RULER's common words, after its example. */
export const commonWords: GeneratedTask = defineSoughtTask({
  name: "common_words",
  help: "the ten words of a long list that appear most often",
  says:
    "RULER's common words extraction: ten words 30 times and all others 3 times (below 4,096 tokens 6 and 1), after its example " +
    "(not below 1,024 tokens); words are nouns, then pairs of nouns, where RULER draws from a dictionary",
  least: 0,
  maxTokens: 120,
  make({ pieces, draw, tokens }) {
    const isLong = tokens >= LONG;
    const example = list(drawNumbers(isLong ? 40 : 20, draw), isLong ? 10 : 3, isLong ? 3 : 1, draw);
    const before = tokens < SHORT ? "" : `${example.text} ${numbered(example.common)}\n`;
    const { text, common } = list(drawNumbers(COMMON + pieces, draw), isLong ? 30 : 6, isLong ? 3 : 1, draw);
    return { context: `${before}${text}`, answers: common };
  },
});

/** Numbers of words, each another: the first ones of as many as a single noun has, from one that is drawn. */
function drawNumbers(count: number, draw: Draw): number[] {
  const step = 37, from = draw(WORDS.length); // has no divisor in common with the list's length
  return Array.from(
    { length: count },
    (_, i) => Math.floor(i / WORDS.length) * WORDS.length + (from + i * step) % WORDS.length,
  );
}

/** Letters of a coded word. */
const LETTERS = 6;
/** zeta(2): words appear as often as 1 / rank^2 of it. */
const ZETA = Math.PI ** 2 / 6;

const drawCoded = (draw: Draw) =>
  Array.from({ length: LETTERS }, () => String.fromCharCode(97 + draw(26))).join("");

export const frequentWords: GeneratedTask = defineSoughtTask({
  name: "frequent_words",
  help: "the three coded words of a long text that appear most often",
  says:
    "RULER's frequent words extraction: coded words of six letters by Zipf's law (alpha 2), the most frequent one dots, a " +
    "vocabulary of a fiftieth of the tokens",
  least: 16 * 2, // the fourth word appears at least once
  maxTokens: 50,
  make({ pieces, draw, tokens }) {
    const vocabulary = new Set(["..."]);
    while (vocabulary.size < Math.max(4, Math.floor(tokens / 50))) vocabulary.add(drawCoded(draw));
    const words = [...vocabulary].flatMap((word, i) =>
      Array<string>(Math.floor(pieces / ((i + 1) ** 2 * ZETA))).fill(word)
    );
    return {
      context:
        "Read the following coded text and track the frequency of each coded word. Find the three most frequently appeared " +
        `coded words. ${shuffle(words, draw).join(" ")}\n` +
        "Question: Do not provide any explanation. Please ignore the dots '....'. What are the three most frequently appeared words in the above coded text? Answer: According to the coded " +
        "text above, the three most frequently appeared words are:",
      answers: [...vocabulary].slice(1, 4),
    };
  },
});
