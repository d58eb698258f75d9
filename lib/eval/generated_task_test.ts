import { assert, assertEquals, assertThrows } from "@std/assert";
import { GENERATED_TASKS } from "./tasks/mod.ts";

const countTokens = (text: string) => text.split(/\s+/).length;

Deno.test("generated items fill the tokens asked for, and are the same for a seed, whatever their number", () => {
  for (const task of GENERATED_TASKS) {
    const make = (count: number, tokens: number, seed = 0) =>
      task.generate({ count, tokens, seed, countTokens });
    for (const tokens of [100, 1000]) {
      for (const { requests: [{ context }] } of make(5, tokens)) {
        const found = countTokens(context);
        assert(found <= tokens && found > tokens - 20, `${task.name}: ${found} of ${tokens}`);
      }
    }
    assertEquals(make(5, 200).slice(0, 3), make(3, 200));
    const contexts = [...make(9, 200), ...make(9, 200, 1)].map(({ requests: [own] }) =>
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
