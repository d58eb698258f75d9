/** HellaSwag: how a described scene goes on. */
import { ACC, ACC_NORM } from "../item_metrics.ts";
import { defineChoiceTask, type ItemTask } from "../item_task.ts";

/** HellaSwag. Texts are taken as the data has them: marks such as "[title]" are gone from it already. */
export const hellaswag: ItemTask = defineChoiceTask({
  name: "hellaswag",
  help: "HellaSwag: how a described scene goes on",
  says: "The query (activity and context) as it is, marks in brackets taken out before",
  prompt: (query) => query,
  metrics: [ACC, ACC_NORM],
});
