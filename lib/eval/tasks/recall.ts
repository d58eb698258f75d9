/** Associative recall: the value of a key, of a list of pairs. */
import { defineGeneratedTask, type GeneratedTask, WORDS } from "../items/generated_task.ts";
import { requestOf } from "../items/item.ts";

export const recall: GeneratedTask = defineGeneratedTask({
  name: "recall",
  help: "associative recall: the value of a key in a list of pairs",
  says: 'Pairs "key: value." of unlike keys, and at the end one of the keys again, whose value is the answer',
  least: 2,
  make({ pieces, draw }) {
    const share = draw(1000) / 1000;
    const pairs = Array.from({ length: pieces }, (_, i) => {
      const value = WORDS[draw(WORDS.length)]!;
      return [
        `${WORDS[(i * 37) % WORDS.length]}${i < WORDS.length ? "" : Math.floor(i / WORDS.length)}`,
        value,
      ] as const;
    });
    const [key, value] = pairs[Math.floor(share * pieces)]!;
    return requestOf(`${pairs.map(([key, value]) => `${key}: ${value}.`).join(" ")} ${key}:`, value);
  },
});
