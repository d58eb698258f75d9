/** WinoGrande: which of two names a pronoun stands for, by partial scoring. */
import { ACC } from "../items/item_metrics.ts";
import { requestOf } from "../items/item.ts";
import { defineItemTask, type ItemTask } from "../items/item_task.ts";
import { strip } from "../items/python_text.ts";

/** WinoGrande: the sentence's rest after each name; the name that makes it likelier wins. */
export const winogrande: ItemTask = defineItemTask({
  name: "winogrande",
  help: "WinoGrande: which of two names the rest of the sentence refers to",
  protocol:
    "Partial scoring: the rest of the sentence, trimmed, after one space and each of the two starts; " +
    "no length normalisation; log-likelihoods in nats from float32 logits.",
  file: "winogrande.jsonl",
  metrics: [ACC],
  hub: {
    repository: "allenai/winogrande",
    revision: "01e74176c63542e6b0bcb004dcdea22d94fb67b5",
    files: ["winogrande_xl/validation-00000-of-00001.parquet"],
    row(row) {
      const sentence = row.text("sentence"), at = sentence.indexOf("_");
      if (at < 0) throw row.error(`found no "_" in "sentence", expected one for the name`);
      return {
        query_prefixes: [1, 2].map((i) => sentence.slice(0, at) + row.text(`option${i}`)),
        suffix: strip(sentence.slice(at + 1)),
        gold: Number(row.oneOf("answer", ["1", "2"])) - 1,
      };
    },
  },
  read: (rows) =>
    rows.map((row, stream) => {
      const [first, second] = row.texts("query_prefixes", 2, 2) as [string, string];
      const suffix = strip(row.text("suffix"));
      return {
        id: row.text("id"),
        place: row.place,
        requests: [requestOf(first, suffix), requestOf(second, suffix)],
        gold: row.index("gold", 2),
        stream,
      };
    }),
});
