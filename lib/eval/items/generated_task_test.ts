import { assert, assertEquals, assertThrows } from "@std/assert";
import { TASKS } from "../tasks/mod.ts";

const GENERATED_TASKS = TASKS.flatMap(({ name, items }) =>
  items !== undefined && "make" in items ? [{ name, generate: items.make }] : []
);

const countTokens = (text: string) => text.split(/\s+/).length;

Deno.test("generated items fill the tokens asked for, and are the same for a seed, whatever their number", () => {
  for (const task of GENERATED_TASKS) {
    const make = (count: number, tokens: number, seed = 0) =>
      task.generate({ count, tokens, seed, countTokens });
    for (const tokens of [300, 1000]) {
      for (const { requests: [{ context }] } of make(5, tokens)) {
        const found = countTokens(context);
        assert(found <= tokens && found > tokens - 20, `${task.name}: ${found} of ${tokens}`);
      }
    }
    assertEquals(make(5, 300).slice(0, 3), make(3, 300));
    const contexts = [...make(9, 300), ...make(9, 300, 1)].map(({ requests: [own] }) =>
      own.context + own.continuation
    );
    assertEquals(new Set(contexts).size, 18, task.name);
    assertThrows(
      () => make(1, 1),
      RangeError,
      `Cannot make ${task.name} of 1 tokens: its smallest context has `,
    );
  }
});

Deno.test("the answer of a generated item is what its context says", () => {
  const items = (name: string) =>
    GENERATED_TASKS.find((task) => task.name === name)!.generate({
      count: 30,
      tokens: 300,
      seed: 3,
      countTokens,
    })
      .map(({ requests: [{ context, continuation, characters }] }) => {
        assertEquals([continuation[0], characters], [" ", continuation.length - 1]);
        return { context, answer: continuation.slice(1) };
      });
  const depths: number[] = [];
  for (const { context, answer } of items("copy")) {
    const [list, again] = context.split(". ").map((part) => part.split(" "));
    assertEquals([again, answer], [list!.slice(0, again!.length), list![again!.length]!]);
    assert(again!.length >= list!.length / 2 - 1);
  }
  for (const { context, answer } of items("recall")) {
    const pairs = new Map(
      context.split(". ").slice(0, -1).map((pair) => pair.split(": ") as [string, string]),
    );
    assertEquals(pairs.get(context.match(/(\S+):$/)![1]!), answer);
    assertEquals(pairs.size, context.split(". ").length - 1); // keys of their own
  }
  for (const { context, answer } of items("needle")) {
    const [sentence, key, value] = context.match(/One of the special magic numbers for (\w+) is: (\d{7})\./)!;
    assertEquals(value, answer);
    assert(context.endsWith(`The special magic number for ${key} mentioned in the provided text is`));
    depths.push(context.indexOf(sentence) / context.length);
  }
  assert(Math.min(...depths) < 0.25 && Math.max(...depths) > 0.6, `${depths}`);
});

Deno.test("what is sought of a generated item is what its context says", () => {
  const items = (name: string, tokens = 700) =>
    GENERATED_TASKS.find((task) => task.name === name)!.generate({ count: 10, tokens, seed: 3, countTokens })
      .map(({ requests: [{ context, continuation }], sought }) => {
        assertEquals(continuation, ` ${sought!.answers.join(" ")}`);
        return { context, answers: sought!.answers };
      });
  const needles = (context: string) =>
    Array.from(
      context.matchAll(/magic numbers for (\w+) is: (\d{7})\./g),
      ([, key, value]) => [key!, value!],
    );
  const depths: number[] = [];
  for (const { context, answers } of items("needle_multikey")) {
    const pairs = new Map(needles(context) as [string, string][]);
    assertEquals([pairs.size, answers], [4, [pairs.get(context.match(/number for (\w+) mentioned/)![1]!)!]]);
  }
  for (const { context, answers } of items("needle_multivalue")) {
    const found = needles(context);
    assertEquals(
      new Set(found.map(([key]) => key)),
      new Set([context.match(/numbers for (\w+) mentioned/)![1]]),
    );
    assertEquals(found.map(([, value]) => value).sort(), answers.toSorted());
    depths.push(...answers.map((value) => context.indexOf(value) / context.length));
  }
  assert(Math.min(...depths) < 0.25 && Math.max(...depths) > 0.7, `${depths}`);
  for (const { context, answers } of items("variable_tracking", 1200)) {
    const [, text] = context.split("\n\nMemorize and track");
    const lines = Array.from(
      text!.matchAll(/^VAR (\w+) = (?:VAR )?(\w+)$/gm),
      ([, name, from]) => [name!, from!],
    );
    // Each variable refers to the one before it, in the order of the text.
    assertEquals(lines.map(([name]) => name), answers);
    assertEquals(lines.map(([, from]) => from).slice(1), answers.slice(0, -1));
    assert(context.endsWith(`5 variables are assgined the value ${lines[0]![1]}, they are:`));
    assert(context.match(/they are: (\w{3} ){4}\w{3}\n/), "an example comes first");
  }
  for (const [tokens, often] of [[1200, 6], [5000, 30]] as const) {
    for (const { context, answers } of items("common_words", tokens)) {
      const [example, text] = context.split("\nBelow is a numbered list");
      const counts = Map.groupBy(text!.matchAll(/\d+\. (\w+)/g), ([, word]) => word!);
      assertEquals(answers.map((word) => counts.get(word)!.length), Array(10).fill(often));
      assert(
        counts.size > 10 &&
          counts.entries().every(([word, all]) => answers.includes(word) || all.length < often),
      );
      assert(/in the list are: 1\. \w+ .*10\. \w+$/.test(example!), "an example comes first");
    }
  }
  for (const { context, answers } of items("frequent_words")) {
    const words = context.match(/coded words\. (.*)\nQuestion/)![1]!.split(" ");
    const counts = [...Map.groupBy(words, (word) => word)].map(([word, all]) => [word, all.length] as const);
    const sorted = counts.toSorted((a, b) => b[1] - a[1]).map(([word]) => word);
    assertEquals(sorted.slice(0, 4), ["...", ...answers]);
    assert(answers.every((word) => /^[a-z]{6}$/.test(word)));
  }
});
