/** The choice of tokens against Hugging Face transformers, and its random numbers. */
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { kthLargest, Sampler, type SamplingOptions } from "./sampler.ts";
import golden from "../testdata/sampler_golden.json" with { type: "json" };

const SIZE = 127;

/** Distinct logits, as make_sampler_golden.py has them. */
const logitsOf = (seed: number) =>
  Float32Array.from({ length: SIZE }, (_, i) => 16 * (((i * 7 + seed * 31) % SIZE) / SIZE) ** 2 - 6);

for (const { seed, options, ids, probabilities } of golden.cases) {
  Deno.test(`Sampler.candidates() are those of transformers: ${JSON.stringify(options)}`, () => {
    const sampler = new Sampler({ temperature: 1, ...options as SamplingOptions });
    sampler.accept(golden.prompt);
    const found = sampler.candidates(logitsOf(seed));
    const sorted = [...found.ids].map((id, i) => [id, found.probabilities[i]!] as const).sort(([a], [b]) =>
      a - b
    );
    assertEquals(sorted.map(([id]) => id), ids);
    sorted.forEach(([, probability], i) => assertAlmostEquals(probability, probabilities[i]!, 1e-6));
  });
}

Deno.test("Sampler.next() draws each candidate as often as it is likely, and the same one at the same step", () => {
  const options = { temperature: 0.9, topK: 6, topP: 0.9, samplingSeed: 5 }, logits = logitsOf(3);
  const sampler = new Sampler(options), draws = 20_000;
  const drawn = Array.from({ length: draws }, (_, step) => sampler.next(logits, step));
  const { ids, probabilities } = sampler.candidates(logits);
  assertEquals(new Set(drawn), new Set(ids));
  ids.forEach((id, i) => {
    const p = probabilities[i]!, count = drawn.filter((other) => other === id).length;
    assertAlmostEquals(count / draws, p, 4 * Math.sqrt(p * (1 - p) / draws));
  });
  const again = new Sampler(options), other = new Sampler({ ...options, samplingSeed: 6 });
  assertEquals([100, 3, 7].map((step) => again.next(logits, step)), [100, 3, 7].map((step) => drawn[step]!));
  assert(drawn.some((id, step) => step < 50 && other.next(logits, step) !== id));
});

Deno.test("Sampler.next() takes the likeliest token, the first of equals, without a temperature", () => {
  const logits = Float32Array.of(1, 3, 3, 2);
  assertEquals(new Sampler().next(logits, 0), 1);
  assertEquals([...new Sampler({ topK: 3 }).candidates(logits).ids], [1]);
  const penal = new Sampler({ repetitionPenalty: 2 });
  penal.accept([1]);
  assertEquals(penal.next(logits, 0), 2);
  assertEquals([...logits], [1, 3, 3, 2]);
  penal.accept([2]);
  assertEquals(penal.next(Float32Array.of(-3, 2, -1, -1.5), 0), 1);
  assertEquals(penal.next(Float32Array.of(-3, -1, -1, -1.5), 0), 3);
});

Deno.test("Sampler.candidates() of equally likely tokens are as many as their probability allows", () => {
  const { ids, probabilities } = new Sampler({ temperature: 1, topP: 0.4 }).candidates(new Float32Array(10));
  assertEquals([[...ids], probabilities[3]], [[0, 1, 2, 3], 0.25]);
});

Deno.test("Sampler refuses options out of range by name", () => {
  const cases: [SamplingOptions, string][] = [
    [{ temperature: -1 }, '"temperature": found -1, expected a number in [0, 100]'],
    [{ topK: 1.5 }, '"topK": found 1.5, expected an integer'],
    [{ topP: 0 }, '"topP": found 0, expected a number in (0, 1]'],
    [{ minP: 2 }, '"minP": found 2'],
    [{ repetitionPenalty: 0 }, '"repetitionPenalty": found 0'],
    [{ samplingSeed: -1 }, '"samplingSeed": found -1, expected an integer in [0, 2^64)'],
  ];
  for (const [options, message] of cases) assertThrows(() => new Sampler(options), RangeError, message);
});

Deno.test("kthLargest() is that of the sorted values", () => {
  const values = Float32Array.from({ length: 997 }, (_, i) => (i * 577 % 997) ^ 3);
  for (const k of [1, 2, 9, 500, 996, 997]) {
    assertEquals(kthLargest(values, k), values.toSorted().at(-k));
    assertEquals(kthLargest(values.map((x) => x % 5), k), values.map((x) => x % 5).sort().at(-k));
  }
});

Deno.test("Sampler.next() among some tokens draws what it draws where all others cannot come", () => {
  const logits = Float32Array.from({ length: 400 }, (_, i) => 3 * Math.sin(i * i));
  const among = Int32Array.from({ length: 90 }, (_, i) => 4 * i + (i % 3)), some = new Set(among);
  const masked = logits.map((logit, id) => some.has(id) ? logit : -Infinity);
  for (const options of [{}, { temperature: 1.2 }, { temperature: 0.7, topK: 20, repetitionPenalty: 1.3 }]) {
    const sampler = new Sampler({ samplingSeed: 3n, ...options });
    sampler.accept([0, 5, 8]);
    for (let step = 0; step < 200; step++) {
      const id = sampler.next(logits, step, among);
      assertEquals(id, sampler.next(masked, step));
      assert(some.has(id));
    }
  }
});
