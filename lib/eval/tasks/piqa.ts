/** PIQA: which of two ways reaches an everyday goal. */
import { ACC, ACC_NORM } from "../item_metrics.ts";
import { defineChoiceTask, type ItemTask } from "../item_task.ts";

/** PIQA. */
export const piqa: ItemTask = defineChoiceTask({
  name: "piqa",
  help: "PIQA: which of two ways reaches an everyday goal",
  says: '"Question: {query}", a line "Answer:"',
  prompt: (query) => `Question: ${query}\nAnswer:`,
  metrics: [ACC, ACC_NORM],
});
