/** BoolQ: yes or no, by a passage. */
import { ACC } from "../item_metrics.ts";
import { defineChoiceTask, type ItemTask } from "../item_task.ts";

/** BoolQ. A "Passage: " that the data puts in front is taken away: the harness has none. */
export const boolq: ItemTask = defineChoiceTask({
  name: "boolq",
  help: "BoolQ: yes or no, by a passage",
  says: 'The passage, lines "Question: …?" and "Answer:"',
  prompt: (query) => `${query.replace(/^Passage: /, "")}\nAnswer:`,
  metrics: [ACC],
});
