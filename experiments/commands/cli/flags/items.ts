/** Flags of tasks that consist of items. */
import { TASKS } from "../../../../lib/eval/tasks/mod.ts";
import { choice, type Flags, integer, rarely, text, under } from "./flag.ts";

export const ITEMS = under("What runs", {
  task: choice(TASKS, `task to evaluate (${TASKS[0].name})`, "NAME"),
  "task-file": text(
    "FILE.ts|FILE.yaml,…",
    "tasks of your own: a module, or lm-evaluation-harness's YAML; a module's code runs with this command's rights",
  ),
  data: text("DIR|hub", "folder of JSONL files, one per task; hub: the hub's data sets"),
  tasks: choice(TASKS, "some of these tasks (those with a file in DIR)", "A,B,…"),
  items: integer(
    "use only the first N items of a task (MMLU: as evenly over subjects as possible); make N (50)",
  ),
  "filter-from": text(
    "N|P%",
    "filter from token N of each item, or from P% of its context on, instead of --warmup",
  ),
  ...rarely({
    length: integer("tokens of the context of a task whose items are made (256)"),
    "data-seed": integer("seed of such items (0)"),
  }),
}) satisfies Flags;
