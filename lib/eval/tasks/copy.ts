/** Copying: a list of words twice, the second time up to a word that is to be guessed. */
import { defineGeneratedTask, type GeneratedTask, WORDS } from "../items/generated_task.ts";
import { requestOf } from "../items/item.ts";

export const copy: GeneratedTask = defineGeneratedTask({
  name: "copy",
  help: "copying: the next word of a list that is repeated",
  says:
    "Words drawn from a list, a full stop, and the same words up to one in their second half, which is the answer",
  least: 4,
  make({ pieces, draw }) {
    // Drawn first: it holds for any number of pieces.
    const share = draw(1000) / 1000;
    const words = Array.from({ length: pieces }, () => WORDS[draw(WORDS.length)]!);
    const next = Math.min(Math.floor((0.5 + share / 2) * pieces), pieces - 1);
    return requestOf(`${words.join(" ")}. ${words.slice(0, next).join(" ")}`, words[next]!);
  },
});
