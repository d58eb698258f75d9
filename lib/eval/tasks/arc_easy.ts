/** ARC-easy: science questions of school exams, with 3 to 5 choices. */
import { ACC, ACC_NORM } from "../item_metrics.ts";
import { defineChoiceTask, type ItemTask } from "../item_task.ts";

/** ARC-easy. */
export const arcEasy: ItemTask = defineChoiceTask({
  name: "arc_easy",
  help: "ARC-easy: science questions of school exams",
  says: '"Question: {query}", a line "Answer:"',
  prompt: (query) => `Question: ${query}\nAnswer:`,
  metrics: [ACC, ACC_NORM],
});
