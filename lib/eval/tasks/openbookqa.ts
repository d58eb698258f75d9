/** OpenBookQA: elementary science, where a fact and common knowledge are to be joined. */
import { ACC, ACC_NORM } from "../items/item_metrics.ts";
import { defineChoiceTask, fromLabels, type ItemTask } from "../items/item_task.ts";

export const openbookqa: ItemTask = defineChoiceTask({
  name: "openbookqa",
  help: "OpenBookQA: elementary science, a fact and common knowledge",
  says: "The question stem alone",
  prompt: (query) => query,
  metrics: [ACC, ACC_NORM],
  hub: {
    repository: "allenai/openbookqa",
    revision: "388097ea7776314e93a529163e0fea805b8a6454",
    files: ["main/test-00000-of-00001.parquet"],
    row: (row) => fromLabels(row, "question_stem"),
  },
});
