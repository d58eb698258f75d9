/** ARC-easy: science questions of school exams, with 3 to 5 choices. */
import { ACC, ACC_NORM } from "../item_metrics.ts";
import { defineChoiceTask, fromLabels, type ItemTask } from "../item_task.ts";

/** ARC-easy. */
export const arcEasy: ItemTask = defineChoiceTask({
  name: "arc_easy",
  help: "ARC-easy: science questions of school exams",
  says: '"Question: {query}", a line "Answer:"',
  prompt: (query) => `Question: ${query}\nAnswer:`,
  metrics: [ACC, ACC_NORM],
  hub: {
    repository: "allenai/ai2_arc",
    revision: "210d026faf9955653af8916fad021475a3f00453",
    files: ["ARC-Easy/test-00000-of-00001.parquet"],
    row: (row) => fromLabels(row, "question"),
  },
});
