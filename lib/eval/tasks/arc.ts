/** ARC: science questions of school exams, with 3 to 5 choices. */
import { ACC, ACC_NORM } from "../items/item_metrics.ts";
import { defineChoiceTask, fromLabels, type ItemTask } from "../items/item_task.ts";

/** A part of ARC. @param file Where the hub has it. */
const defineArc = (name: string, help: string, file: string): ItemTask =>
  defineChoiceTask({
    name,
    help,
    says: '"Question: {query}", a line "Answer:"',
    prompt: (query) => `Question: ${query}\nAnswer:`,
    metrics: [ACC, ACC_NORM],
    hub: {
      repository: "allenai/ai2_arc",
      revision: "210d026faf9955653af8916fad021475a3f00453",
      files: [file],
      row: (row) => fromLabels(row, "question"),
    },
  });

export const arcEasy: ItemTask = defineArc(
  "arc_easy",
  "ARC-easy: science questions of school exams",
  "ARC-Easy/test-00000-of-00001.parquet",
);

export const arcChallenge: ItemTask = defineArc(
  "arc_challenge",
  "ARC-challenge: science questions that retrieval gets wrong",
  "ARC-Challenge/test-00000-of-00001.parquet",
);
