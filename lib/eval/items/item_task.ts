/**
 * Tasks of items: questions with continuations of which a model finds one likelier than the others, scored as
 * lm-evaluation-harness scores them. Adding one is a file in `tasks/` and a line in `tasks/mod.ts`.
 */
import { type Item, requestOf, type Sought } from "./item.ts";
import { ItemEvaluation } from "./item_evaluation.ts";
import type { ItemRow } from "./item_rows.ts";
import type { HubRows, ItemMaker, ItemRows, ItemSaid } from "./item_source.ts";
import type { BranchingModel } from "../language_model.ts";
import type { TaskMeasures } from "../metrics.ts";
import type { Task } from "../task.ts";

/** A task of items that come from a file, or are made. */
export type TaskOf<Source extends ItemRows | ItemMaker> = Omit<Task, "items"> & {
  readonly items: Source & ItemSaid;
};

/** A task whose items are read from a file. */
export type ItemTask = TaskOf<ItemRows>;

type ItemTaskOptions<Source> = Pick<Task, "name" | "help" | "protocol"> & ItemSaid & Source;

/** A task of items. Its headline is a function of its mean loss: wrong answers, or nats. */
export function defineItemTask<Source extends ItemRows | ItemMaker>(
  { name, help, protocol, ...rest }: ItemTaskOptions<Source>,
): TaskOf<Source> {
  const items = rest as unknown as Source & ItemSaid, { metrics: [main, ...metrics], distances = [] } = items;
  const { of: _, chanceOf: __, fromMean = (mean) => mean, ...shown } = main;
  const isShare = main.better === "higher";
  const measures: TaskMeasures = {
    loss: isShare
      ? { name: "error", label: "error", unit: "errors", of: "item", block: 1 }
      : { name: "nll", label: "loss", unit: "nats", of: "item", block: 1 },
    headline: isShare
      ? { ...shown, fromLoss: (loss) => 1 - loss, formula: "1 - the mean loss" }
      : { ...shown, fromLoss: fromMean, formula: "exp of the mean loss" },
    metrics: [...metrics, ...distances.map((metric) => ({ ...metric, isDistance: true }))],
  };
  return {
    ...measures,
    name,
    help,
    protocol,
    label: () => `${name}, by items`,
    items,
    open(model: BranchingModel, data) {
      return new ItemEvaluation(measures, items, model, data.items ?? []);
    },
  };
}

/** The definition of a task with one question and several answers. */
type ChoiceTaskOptions = Pick<ItemTaskOptions<unknown>, "name" | "help" | "metrics"> & {
  readonly hub: HubRows;
  /** The prompt, in words, for the protocol. */
  readonly says: string;
  /** From the row's `query` to the context. */
  readonly prompt: (query: string) => string;
};

/** A task whose rows are `query`, `choices`, `gold`; a choice follows the prompt after one space. */
export function defineChoiceTask({ says, prompt, ...options }: ChoiceTaskOptions): ItemTask {
  return defineItemTask({
    ...options,
    protocol: `${says}; each choice after one space; log-likelihoods in nats from float32 logits.`,
    file: `${options.name}.jsonl`,
    read: (rows) =>
      readQuestions(rows, (row) => {
        const context = prompt(row.text("query")), choices = row.texts("choices", 2);
        return { context, choices, gold: row.index("gold", choices.length) };
      }),
  });
}

export interface Question {
  /** Text before a choice. */
  readonly context: string;
  /** At least one; each follows only the context. */
  readonly choices: readonly string[];
  /** 0-based index of the right one. */
  readonly gold: number;
  /** Separator of a choice and its context; default: one space. */
  readonly delimiter?: string;
  /** The answers to search in a text that is generated for the context. */
  readonly sought?: Sought;
}

export function readQuestions(rows: readonly ItemRow[], ask: (row: ItemRow) => Question): Item[] {
  return rows.map((row, stream) => {
    const { context, choices, gold, delimiter, sought } = ask(row);
    const requests = requestsOf(context, choices, delimiter);
    return { id: row.text("id"), place: row.place, requests, gold, stream, ...(sought && { sought }) };
  });
}

/** Each choice after one context; there is at least one. */
export function requestsOf(
  context: string,
  choices: readonly string[],
  delimiter?: string,
): Item["requests"] {
  const [first, ...rest] = choices.map((choice) => requestOf(context, choice, delimiter));
  return [first!, ...rest];
}

/** A row whose choices have labels, of which `answerKey` names the right one. @param question The field of the question. */
export function fromLabels(row: ItemRow, question: string): { readonly [name: string]: unknown } {
  const choices = row.part("choices"), labels = choices.texts("label", 2);
  return {
    id: row.text("id"),
    query: row.text(question),
    choices: choices.texts("text", labels.length, labels.length),
    gold: labels.indexOf(row.oneOf("answerKey", labels)),
  };
}
