/** Tests the prompts of each task of items, letter for letter, and the input that it refuses. */
import { assertEquals, assertThrows } from "@std/assert";
import { readItemRows } from "../items/item_rows.ts";
import { type Item, limitItems } from "../items/item.ts";
import { findTask, TASKS } from "./mod.ts";

const ITEM_TASKS = TASKS.filter(({ items }) => items !== undefined);

const read = (name: string, ...rows: object[]): Item[] => {
  const { items } = findTask(name);
  if (items === undefined || !("file" in items)) throw new RangeError(`found no file of ${name}`);
  return items.read(readItemRows(items.file, rows.map((row) => JSON.stringify(row)).join("\n") + "\n"));
};
const asked = ({ requests }: Item) => requests.map(({ context, continuation }) => [context, continuation]);

Deno.test("tasks of one question: the harness's prompt, and each choice after one space", () => {
  const prompts: [string, string, string][] = [
    ["arc_easy", "Why?", "Question: Why?\nAnswer:"],
    ["arc_challenge", "Why?", "Question: Why?\nAnswer:"],
    ["piqa", "To dry hair", "Question: To dry hair\nAnswer:"],
    ["openbookqa", "Wind", "Wind"],
    ["hellaswag", "Youth: How to rest.", "Youth: How to rest."],
    ["boolq", "Passage: It rained.\nQuestion: did it rain?", "It rained.\nQuestion: did it rain?\nAnswer:"],
    ["boolq", "It rained.\nQuestion: did it rain?", "It rained.\nQuestion: did it rain?\nAnswer:"],
  ];
  for (const [name, query, context] of prompts) {
    const row = { query, choices: ["no", "yes ", "né😀"], gold: 2 };
    const [first, item] = read(name, { ...row, id: "a" }, { ...row, id: "b" });
    assertEquals(asked(item!), [[context, " no"], [context, " yes "], [context, " né😀"]]);
    assertEquals(item!.requests.map(({ characters }) => characters), [2, 4, 3]); // code points, no space in front
    assertEquals([item!.gold, item!.id, item!.place], [2, "b", `"${name}.jsonl", line 2`]);
    assertEquals([first!.stream, item!.stream, item!.group, item!.shared], [0, 1, undefined, undefined]);
  }
});

Deno.test("WinoGrande scores what follows after each name, LAMBADA the last word", () => {
  const [pair] = read("winogrande", {
    id: "w",
    query_prefixes: ["Ann said that Ann", "Ann said that Bob"],
    suffix: "was late. ",
    gold: 1,
  });
  assertEquals(asked(pair!), [["Ann said that Ann", " was late."], ["Ann said that Bob", " was late."]]);
  assertEquals(pair!.gold, 1);
  const [word] = read("lambada_openai", { id: "l", context: "He met the", target: "bear" });
  assertEquals([asked(word!), word!.gold], [[["He met the", " bear"]], 0]);
});

const mmluRow = (id: string, subject: string, split: string, answer: number) => ({
  ...{ id, subject, split, answer },
  question: ` ${id}? `,
  choices: ["w", "x", "y", "z"],
});
const shown = (id: string) => `${id}?\nA. w\nB. x\nC. y\nD. z\nAnswer:`;

Deno.test("MMLU: description, the first five dev rows, the question; items of a subject share their start", () => {
  const dev = ["d0", "d1", "d2", "d3", "d4", "d5"].map((id, i) =>
    mmluRow(id, "high_school_law", "dev", i % 4)
  );
  const tests = [mmluRow("t0", "high_school_law", "test", 3), mmluRow("t1", "high_school_law", "test", 0)];
  const about = "The following are multiple choice questions (with answers) about high school law.\n\n";
  const none = read("mmlu", ...dev, ...tests);
  assertEquals(none.map(({ id, gold, group, stream }) => [id, gold, group, stream]), [
    ["t0", 3, "high_school_law", 0],
    ["t1", 0, "high_school_law", 1],
  ]);
  assertEquals(asked(none[1]!), [" A", " B", " C", " D"].map((letter) => [about + shown("t1"), letter]));
  const five = read("mmlu_5shot", ...tests, ...dev);
  const examples = ["A", "B", "C", "D", "A"].map((letter, i) => `${shown(`d${i}`)} ${letter}\n\n`).join("");
  assertEquals(asked(five[1]!)[2], [about + examples + shown("t1"), " C"]);
  assertEquals(five.map(({ shared, stream }) => [shared, stream]), [[about + examples, 0], [
    about + examples,
    0,
  ]]);
  assertEquals(limitItems([...none, { ...none[0]!, id: "o", group: "other" }], 2).map(({ id }) => id), [
    "t0",
    "o",
  ]);
});

Deno.test("tasks refuse rows that they cannot use, by file and line", () => {
  const good = { id: "a", query: "Why?", choices: ["x", "y"], gold: 0 };
  const cases: [string, object[], string][] = [
    [
      "piqa",
      [good, { ...good, id: "b", gold: 2 }],
      '"piqa.jsonl", line 2: found 2 for "gold", expected the index',
    ],
    ["piqa", [{ ...good, gold: "1" }], 'line 1: found "1" for "gold"'],
    ["piqa", [{ ...good, choices: ["x"] }], 'found ["x"] for "choices", expected a list of 2 or more texts'],
    ["piqa", [{ ...good, choices: ["x", ""] }], 'found "" at 1 of "choices"'],
    ["piqa", [{ id: "a", choices: [] }], 'found no "query", expected it next to id, choices'],
    ["piqa", [good, good], 'line 2: found the id "a" of "piqa.jsonl", line 1, expected another'],
    ["piqa", [[]], "found [], expected an object"],
    ["winogrande", [{ id: "a", query_prefixes: ["a", "b", "c"], suffix: "d", gold: 0 }], "a list of 2 texts"],
    ["winogrande", [{ id: "a", query_prefixes: ["a", "b"], suffix: "d", gold: 2 }], 'found 2 for "gold"'],
    ["lambada_openai", [{ id: "a", context: "b", target: 3 }], 'found 3 for "target", expected a text'],
    [
      "mmlu",
      [mmluRow("a", "law", "tset", 0)],
      'found "tset" for "split", expected one of dev, test, the nearest',
    ],
    [
      "mmlu_5shot",
      [mmluRow("a", "law", "test", 0)],
      'found 0 rows of split "dev" for the subject "law", expected 5',
    ],
  ];
  for (const [name, rows, message] of cases) assertThrows(() => read(name, ...rows), RangeError, message);
  assertThrows(
    () => readItemRows("a.jsonl", '{"id": "a"}\n{"id"\n'),
    RangeError,
    'Cannot read "a.jsonl", line 2: it is not JSON',
  );
  assertThrows(() => readItemRows("a.jsonl", ""), RangeError, "found no line");
  assertThrows(() => findTask("piqqa"), RangeError, 'the nearest is "piqa"');
});

Deno.test("every task of items says what it does, and has a name of its own", () => {
  assertEquals(new Set(TASKS.map(({ name }) => name)).size, TASKS.length);
  for (const { items, protocol, help } of ITEM_TASKS) {
    assertEquals([items!.metrics.length > 0, protocol.length > 20, help.length > 20], [true, true, true]);
  }
});
