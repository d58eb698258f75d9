/** MMLU: exam questions of many subjects, answered by a letter. */
import { ACC } from "../items/item_metrics.ts";
import type { ItemRow } from "../items/item_rows.ts";
import { defineItemTask, type ItemTask, requestsOf } from "../items/item_task.ts";
import { strip } from "../items/python_text.ts";

const LETTERS = ["A", "B", "C", "D"] as const;

/** A row as the prompt shows it, without the answer. */
function ask(row: ItemRow): string {
  const lines = row.texts("choices", 4, 4).map((choice, i) => `${LETTERS[i]}. ${choice}`);
  return `${strip(row.text("question"))}\n${lines.join("\n")}\nAnswer:`;
}

const goldOf = (row: ItemRow) => row.index("answer", 4);
const subjectOf = (row: ItemRow) => row.text("subject");

/** MMLU with the first `shots` rows of the subject's dev split, in order, before each question. */
function defineMmlu(shots: number, name: string): ItemTask {
  return defineItemTask({
    name,
    help: `MMLU: exam questions of many subjects, ${shots} shots`,
    protocol:
      `The subject's description, ${shots} rows of its dev split, the question, lines "A. …" to "D. …", ` +
      '"Answer:"; " A" to " D"; mean over items, so over subjects by size; log-likelihoods in nats from float32 logits.',
    file: "mmlu.jsonl",
    metrics: [ACC],
    hub: {
      repository: "cais/mmlu",
      revision: "c30699e8356da336a370243923dbaf21066bb9fe",
      files: ["all/dev-00000-of-00001.parquet", "all/test-00000-of-00001.parquet"],
      row: (row, file) => ({
        ...{ subject: subjectOf(row), question: row.text("question"), choices: row.texts("choices", 4, 4) },
        ...{ answer: goldOf(row), split: file.includes("dev") ? "dev" : "test" },
      }),
    },
    read(rows) {
      const split = (name: "dev" | "test") =>
        rows.filter((row) => row.oneOf("split", ["dev", "test"]) === name);
      const examples = Map.groupBy(split("dev"), subjectOf), tests = split("test");
      const streams = new Map(tests.map((row, i) => [subjectOf(row), i] as const).reverse());
      return tests.map((row, i) => {
        const subject = subjectOf(row), shown = (examples.get(subject) ?? []).slice(0, shots);
        if (shown.length < shots) {
          throw row.error(
            `found ${shown.length} rows of split "dev" for the subject "${subject}", expected ${shots}`,
          );
        }
        const about = subject.replaceAll("_", " ");
        const shared = [
          `The following are multiple choice questions (with answers) about ${about}.`,
          ...shown.map((example) => `${ask(example)} ${LETTERS[goldOf(example)]}`),
          "",
        ].join("\n\n");
        return {
          id: row.text("id"),
          place: row.place,
          requests: requestsOf(shared + ask(row), LETTERS),
          gold: goldOf(row),
          group: subject,
          ...(shots > 0 && { shared }),
          stream: shots > 0 ? streams.get(subject)! : i,
        };
      });
    },
  });
}

export const mmlu: ItemTask = defineMmlu(0, "mmlu");
/** MMLU with five examples, as papers report it. */
export const mmlu5: ItemTask = defineMmlu(5, "mmlu_5shot");
