/** Texts that go on: as a loop of single feeds would make them, with and without a pruner. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import type { Pruner } from "../../methods/mod.ts";
import { f32Data } from "../../tensor.ts";
import { generateTokens, type GenerationOptions } from "./generate.ts";
import { indexOfMax, Sampler } from "./sampler.ts";
import { filtering, ids, truth } from "../small_testing.ts";

const prompt = ids(40);

function generate(pruner: Pruner | undefined, options: Partial<GenerationOptions> = {}) {
  const sequence = truth.start(pruner);
  const steps = [...generateTokens(truth, sequence, prompt, {
    sampler: new Sampler(),
    maxTokens: 12,
    ...options,
  })];
  return {
    sequence,
    fed: steps.flatMap((step) => step.kind === "prompt" ? [step.fed] : []),
    tokens: steps.flatMap((step) => step.kind === "token" ? [step] : []),
  };
}

/** The likeliest tokens, by prefills of all that came before. */
function greedy(pruner: Pruner | undefined, count: number): number[] {
  const all = [...prompt];
  for (let i = 0; i < count; i++) {
    const hidden = truth.start(pruner).feed(Int32Array.from(all));
    const logits = f32Data(truth.backend.read(truth.logits(hidden))), { vocabSize } = truth.config;
    all.push(indexOfMax(logits.subarray((all.length - 1) * vocabSize)));
  }
  return all.slice(prompt.length);
}

for (
  const [name, pruner] of [["dense", undefined], ["filtered", filtering({ fusion: "variance" })]] as const
) {
  Deno.test(`generateTokens() makes the tokens that whole prefills do, ${name}`, () => {
    const { sequence, tokens, fed } = generate(pruner, { piece: 16 });
    assertEquals(tokens.map(({ id }) => id), greedy(pruner, 12));
    assertEquals([fed, sequence.length], [[16, 32, 40], 40 + 11]);
    assert(tokens.every(({ id, logits, isEnd }) => indexOfMax(logits) === id && !isEnd));
  });
}

Deno.test("generateTokens() ends with a token that ends the text, and penalises the prompt's", () => {
  const all = generate(undefined).tokens.map(({ id }) => id),
    { tokens } = generate(undefined, { endIds: new Set([all[4]!]) });
  const end = all.indexOf(all[4]!);
  assertEquals(tokens.map(({ id }) => id), all.slice(0, end + 1));
  assertEquals(tokens.map(({ isEnd }) => isEnd), tokens.map((_, i) => i === end));
  const fresh = generate(undefined, { sampler: new Sampler({ repetitionPenalty: 100 }), maxTokens: 3 });
  const made = fresh.tokens.map(({ id }) => id);
  assertEquals(new Set([...made, ...prompt]).size, new Set(prompt).size + 3, "none came before");
  const praised = generate(undefined, { sampler: new Sampler({ repetitionPenalty: 0.01 }), maxTokens: 1 });
  const seen = (id: number) => prompt.includes(id);
  assertEquals(
    [seen(praised.tokens[0]!.id), seen(all[0]!)],
    [true, false],
    "one of the prompt's, which else is not",
  );
  assertEquals(generate(undefined, { maxTokens: 0 }).tokens, []);
});

Deno.test("generateTokens() goes on with a sequence, and stops when nobody takes steps", () => {
  const sequence = truth.start(), options = { sampler: new Sampler(), maxTokens: 5 };
  const first = prompt.slice(0, 25), rest = prompt.slice(25);
  assertEquals([...generateTokens(truth, sequence, first, { ...options, maxTokens: 0 })].length, 1);
  const steps = generateTokens(truth, sequence, rest, options);
  steps.next();
  const { value } = steps.next();
  assertEquals([(value as { id: number }).id, sequence.length], [greedy(undefined, 1)[0], 40]);
  steps.return();
  assertEquals([steps.next().done, sequence.length], [true, 40]);
});

Deno.test("generateTokens() frees the last hidden states once where a step fails", () => {
  const freed: object[] = [], free = (tensor: object) => void freed.push(tensor);
  const backend = Object.assign(Object.create(truth.backend), { free });
  const model = {
    backend,
    config: truth.config,
    logits: truth.logits.bind(truth),
  } as unknown as typeof truth;
  const sequence = truth.start();
  const failing = {
    feed(ids: Int32Array<ArrayBuffer>) {
      if (ids.length === 1) throw new Error("no memory");
      return sequence.feed(ids);
    },
  } as typeof sequence;
  const steps = generateTokens(model, failing, prompt, { sampler: new Sampler(), maxTokens: 2 });
  assertThrows(() => [...steps], Error, "no memory");
  assertEquals([freed.length, new Set(freed).size], [3, 3], "the prompt's, their last row, its logits");
});

Deno.test("generateTokens() refuses an empty prompt and counts that are none", () => {
  const run = (given: Int32Array<ArrayBuffer>, options: Partial<GenerationOptions>) => () => [
    ...generateTokens(truth, truth.start(), given, { sampler: new Sampler(), maxTokens: 1, ...options }),
  ];
  assertThrows(run(new Int32Array(0), {}), RangeError, "an empty prompt");
  assertThrows(run(prompt, { maxTokens: -1 }), RangeError, '"maxTokens": found -1');
  assertThrows(run(prompt, { piece: 0 }), RangeError, '"piece": found 0');
});
