/** OpenBookQA: elementary science, where a fact and common knowledge are to be joined. */
import { ACC, ACC_NORM } from "../item_metrics.ts";
import { defineChoiceTask, type ItemTask } from "../item_task.ts";

/** OpenBookQA. */
export const openbookqa: ItemTask = defineChoiceTask({
  name: "openbookqa",
  help: "OpenBookQA: elementary science, a fact and common knowledge",
  says: "The question stem alone",
  prompt: (query) => query,
  metrics: [ACC, ACC_NORM],
});
