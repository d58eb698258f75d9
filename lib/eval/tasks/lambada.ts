/** LAMBADA: the last word of a passage. */
import { ACC_GREEDY, ITEM_PERPLEXITY } from "../items/item_metrics.ts";
import { defineItemTask, type ItemTask, readQuestions } from "../items/item_task.ts";

/** LAMBADA, as OpenAI processed it. */
export const lambada: ItemTask = defineItemTask({
  name: "lambada_openai",
  help: "LAMBADA: the last word of a passage",
  protocol:
    "The passage's last word after one space; acc: it is what greedy decoding gives; perplexity of words; " +
    "log-likelihoods in nats from float32 logits.",
  file: "lambada_openai.jsonl",
  metrics: [ACC_GREEDY, ITEM_PERPLEXITY],
  hub: {
    repository: "EleutherAI/lambada_openai",
    revision: "900124bf3b8235c6daf21033af9948b3f07346c4",
    files: ["data/lambada_test.jsonl"],
    row(row) {
      const words = row.text("text").split(" ");
      return { context: words.slice(0, -1).join(" "), target: words.at(-1)! };
    },
  },
  read: (rows) =>
    readQuestions(rows, (row) => ({ context: row.text("context"), choices: [row.text("target")], gold: 0 })),
});
