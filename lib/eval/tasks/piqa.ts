/** PIQA: which of two ways reaches an everyday goal. */
import { ACC, ACC_NORM } from "../items/item_metrics.ts";
import { defineChoiceTask, type ItemTask } from "../items/item_task.ts";

export const piqa: ItemTask = defineChoiceTask({
  name: "piqa",
  help: "PIQA: which of two ways reaches an everyday goal",
  says: '"Question: {query}", a line "Answer:"',
  prompt: (query) => `Question: ${query}\nAnswer:`,
  metrics: [ACC, ACC_NORM],
  hub: {
    repository: "baber/piqa",
    revision: "142f6d7367fd9877f0fb3b5734ea6a545f54cdd1",
    files: ["piqa_validation.parquet"],
    row: (row) => ({
      query: row.text("goal"),
      choices: [row.text("sol1"), row.text("sol2")],
      gold: row.index("label", 2),
    }),
  },
});
