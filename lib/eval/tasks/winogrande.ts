/** WinoGrande: which of two names a pronoun stands for, by partial scoring. */
import { ACC } from "../item_metrics.ts";
import { type ItemTask, requestOf } from "../item_task.ts";

/** WinoGrande: the sentence's rest after each name; the name that makes it likelier wins. */
export const winogrande: ItemTask = {
  name: "winogrande",
  help: "WinoGrande: which of two names is meant, by what follows",
  protocol:
    "Partial scoring: the rest of the sentence, trimmed, after one space and each of the two starts; " +
    "no length normalisation; log-likelihoods in nats from float32 logits.",
  file: "winogrande.jsonl",
  metrics: [ACC],
  read: (rows) =>
    rows.map((row, stream) => {
      const [first, second] = row.texts("query_prefixes", 2, 2) as [string, string];
      const suffix = row.text("suffix").trim();
      return {
        id: row.text("id"),
        place: row.place,
        requests: [requestOf(first, suffix), requestOf(second, suffix)],
        gold: row.index("gold", 2),
        stream,
      };
    }),
};
