/** BoolQ: yes or no, by a passage. */
import { ACC } from "../items/item_metrics.ts";
import { defineChoiceTask, type ItemTask } from "../items/item_task.ts";

/** BoolQ. A "Passage: " that the data puts in front is taken away: the harness has none. */
export const boolq: ItemTask = defineChoiceTask({
  name: "boolq",
  help: "BoolQ: yes/no questions about a passage",
  says: 'The passage, lines "Question: …?" and "Answer:"',
  prompt: (query) => `${query.replace(/^Passage: /, "")}\nAnswer:`,
  metrics: [ACC],
  hub: {
    repository: "aps/super_glue",
    revision: "3de24cf8022e94f4ee4b9d55a6f539891524d646",
    files: ["boolq/validation-00000-of-00001.parquet"],
    row: (row) => ({
      query: `Passage: ${row.text("passage")}\nQuestion: ${row.text("question")}?`,
      choices: ["no", "yes"],
      gold: row.index("label", 2),
    }),
  },
});
