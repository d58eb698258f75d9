/** Needles in a haystack: a single one, one of several keys, or all values of one key. */
import {
  defineGeneratedTask,
  defineSoughtTask,
  type Draw,
  type GeneratedTask,
  NOISE,
  shuffle,
  WORDS,
} from "../items/generated_task.ts";
import { requestOf } from "../items/item.ts";

/** Needles among pieces of noise, at places that are drawn. */
function hide(pieces: number, needles: readonly string[], draw: Draw): string {
  const hay = Array<string>(pieces).fill(NOISE);
  // Places as fractions: drawn alike for any number of pieces.
  const places = needles.map(() => draw(1000) / 1000);
  needles.forEach((needle, i) => hay.splice(Math.floor(places[i]! * (hay.length + 1)), 0, needle));
  return hay.join("\n");
}

const sentence = (key: string, value: string) => `One of the special magic numbers for ${key} is: ${value}.`;
const drawValue = (draw: Draw) => String(1_000_000 + draw(9_000_000));

/** The prompt that asks for the number of one key, after the text that hides it. */
const askFor = (key: string, hay: string) =>
  "A special magic number is hidden within the following text. Make sure to memorize it. I will quiz you about the " +
  `number afterwards.\n${hay}\nWhat is the special magic number for ${key} mentioned in the provided text? The ` +
  `special magic number for ${key} mentioned in the provided text is`;

/** A needle in RULER's noise; by log-likelihood, where RULER searches a generated text. */
export const needle: GeneratedTask = defineGeneratedTask({
  name: "needle",
  help: "needle in a haystack: a number that one sentence of a long text contains",
  says:
    "RULER's single needle in its repeated noise, at a depth that is drawn; the number's digits after the question's answer",
  least: 1,
  make({ pieces, draw }) {
    const share = draw(1000) / 1000, key = WORDS[draw(WORDS.length)]!, value = drawValue(draw);
    const hay = Array<string>(pieces).fill(NOISE);
    hay.splice(Math.floor(share * (pieces + 1)), 0, sentence(key, value));
    return requestOf(askFor(key, hay.join("\n")), value);
  },
});

/** RULER's niah_multikey_1, in repeated noise instead of essays. */
export const needleMultikey: GeneratedTask = defineSoughtTask({
  name: "needle_multikey",
  help: "four needles with one key each: the number of one key",
  says:
    "RULER's niah_multikey_1: four needles of one number each, one key asked for; keys are single nouns, the haystack is " +
    "repeated noise where RULER has essays",
  least: 1,
  maxTokens: 128,
  make({ pieces, draw }) {
    const keys = shuffle([...WORDS], draw).slice(0, 4), values = keys.map(() => drawValue(draw));
    const asked = draw(4), key = keys[asked]!;
    const hay = hide(pieces, keys.map((key, i) => sentence(key, values[i]!)), draw);
    return { context: askFor(key, hay), answers: [values[asked]!] };
  },
});

/** RULER's niah_multivalue, in repeated noise instead of essays. */
export const needleMultivalue: GeneratedTask = defineSoughtTask({
  name: "needle_multivalue",
  help: "four needles with the same key: all their numbers",
  says:
    "RULER's niah_multivalue: four needles of one key, all numbers asked for; the key is a single noun, the haystack is " +
    "repeated noise where RULER has essays",
  least: 1,
  maxTokens: 128,
  make({ pieces, draw }) {
    const key = WORDS[draw(WORDS.length)]!, answers = Array.from({ length: 4 }, () => drawValue(draw));
    const hay = hide(pieces, answers.map((value) => sentence(key, value)), draw);
    return {
      context:
        "Some special magic numbers are hidden within the following text. Make sure to memorize it. I will quiz you about " +
        `the numbers afterwards.\n${hay}\nWhat are all the special magic numbers for ${key} mentioned in the provided ` +
        `text? The special magic numbers for ${key} mentioned in the provided text are`,
      answers,
    };
  },
});
