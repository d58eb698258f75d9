/** HellaSwag: how a described scene continues. */
import { ACC, ACC_NORM } from "../items/item_metrics.ts";
import { defineChoiceTask, type ItemTask } from "../items/item_task.ts";
import { strip } from "../items/python_text.ts";

/** HellaSwag. Texts are taken as the data has them: marks such as "[title]" are already removed. */
export const hellaswag: ItemTask = defineChoiceTask({
  name: "hellaswag",
  help: "HellaSwag: how a described scene goes on",
  says: "The query (activity and context) as it is, marks in brackets taken out before",
  prompt: (query) => query,
  metrics: [ACC, ACC_NORM],
  hub: {
    repository: "Rowan/hellaswag",
    revision: "218ec52e09a7e7462a5400043bb9a69a41d06b76",
    files: ["data/validation-00000-of-00001.parquet"],
    row(row) {
      const [first = "", ...rest] = row.anyText("ctx_b"), context = row.anyText("ctx_a");
      const scene = `${first.toUpperCase()}${rest.join("").toLowerCase()}`;
      const choices = row.texts("endings", 2).map(clean);
      const labels = choices.map((_, i) => String(i));
      return {
        query: clean(`${row.text("activity_label")}: ${context} ${scene}`),
        ...{ choices, gold: Number(row.oneOf("label", labels)) },
      };
    },
  },
});

/** A text without marks in brackets, as the harness cleans it: double spaces are looked for once. */
function clean(text: string): string {
  return strip(text).replaceAll(" [title]", ". ").replaceAll(/\[.*?\]/g, "").replaceAll("  ", " ");
}
