/** LAMBADA: the last word of a passage. */
import { ACC_GREEDY, ITEM_PERPLEXITY } from "../item_metrics.ts";
import { type ItemTask, requestOf } from "../item_task.ts";

/** LAMBADA, as OpenAI processed it. */
export const lambada: ItemTask = {
  name: "lambada_openai",
  help: "LAMBADA: the last word of a passage",
  protocol:
    "The passage's last word after one space; acc: it is what greedy decoding gives; perplexity of words; " +
    "log-likelihoods in nats from float32 logits.",
  file: "lambada_openai.jsonl",
  metrics: [ACC_GREEDY, ITEM_PERPLEXITY],
  read: (rows) =>
    rows.map((row, stream) => ({
      id: row.text("id"),
      place: row.place,
      requests: [requestOf(row.text("context"), row.text("target"))],
      gold: 0,
      stream,
    })),
};
