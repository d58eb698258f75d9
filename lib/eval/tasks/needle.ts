/** A needle in a haystack: a number that one sentence of a long text names. */
import { defineGeneratedTask, type GeneratedTask, NOISE, WORDS } from "../generated_task.ts";
import { requestOf } from "../item.ts";

/** A needle in RULER's noise; by log-likelihood, where RULER searches a generated text. */
export const needle: GeneratedTask = defineGeneratedTask({
  name: "needle",
  help: "a needle in a haystack: a number that one sentence of a long text names",
  says:
    "RULER's single needle in its repeated noise, at a depth that is drawn; the number's digits after the question's answer",
  least: 1,
  make({ pieces, draw }) {
    const share = draw(1000) / 1000,
      key = WORDS[draw(WORDS.length)]!,
      value = String(1_000_000 + draw(9_000_000));
    const hay = Array<string>(pieces).fill(NOISE);
    hay.splice(
      Math.floor(share * (pieces + 1)),
      0,
      `One of the special magic numbers for ${key} is: ${value}.`,
    );
    return requestOf(
      "A special magic number is hidden within the following text. Make sure to memorize it. I will quiz you about the " +
        `number afterwards.\n${
          hay.join("\n")
        }\nWhat is the special magic number for ${key} mentioned in the provided ` +
        `text? The special magic number for ${key} mentioned in the provided text is`,
      value,
    );
  },
});
