import { assertAlmostEquals, assertEquals } from "@std/assert";
import type { TaskData } from "../task.ts";
import { fakeLogits, fakeModel, fakePruner } from "../testing.ts";
import { countWords, detokenize, perplexityWord, rollWindows, splitPages } from "./perplexity_word.ts";
import golden from "../testdata/word_golden.json" with { type: "json" };

Deno.test("a page's text, words and windows are lm-evaluation-harness's", () => {
  assertEquals([detokenize(golden.page), countWords(golden.page)], [golden.detokenized, golden.words]);
  assertAlmostEquals(Math.exp(-golden.logLikelihood / countWords(golden.page)), golden.perplexity, 1e-9);
  for (const { length, most, pairs } of golden.windows) {
    const windows = rollWindows(Int32Array.from({ length }, (_, i) => i + 1), 0, most);
    const split = windows.map((
      { ids, scored },
    ) => [[...ids.subarray(0, -scored)], [...ids.subarray(-scored)]]);
    assertEquals(split, pairs, `${length} tokens, ${most} at once`);
  }
});

Deno.test("splitPages() begins a page at each heading of the first level", () => {
  const other = " = Rain = \n\n It fell . \n = = Snow = = \n It fell too . \n";
  assertEquals(splitPages(`${golden.page}${other}`), [golden.page, other]);
  assertEquals(splitPages("no heading"), ["no heading"]);
});

/** Log-likelihood of a page by the fake model, window by window. */
function sumOf(page: string, encode: (text: string) => Int32Array, most: number): number {
  let sum = 0;
  for (const { ids, scored } of rollWindows(encode(detokenize(page)), 4, most)) {
    for (let t = ids.length - scored; t < ids.length; t++) {
      const logits = fakeLogits(ids[t - 1]!, 0);
      sum += logits[ids[t]!]! - Math.log(logits.reduce((all, x) => all + Math.exp(x), 0));
    }
  }
  return sum;
}

Deno.test("word perplexity reads the last page too, where pages by themselves are more tokens than the text", async () => {
  const encode = (text: string, { bos = false } = {}) =>
    Int32Array.of(...bos ? [4] : [], ...(text.match(/\S+/g) ?? []).map((word) => word.codePointAt(0)! % 5));
  const pages = [" = Rain = \n\n It fell\n", " = Snow = \n\n It fell too\n"], text = pages.join("");
  const tokenizer = { encode, addsBos: true, bosId: 4, endIds: new Set<number>() } as unknown;
  const scored = async (ids: Int32Array) => {
    const data = { ids, text, context: 50, tokenizer } as TaskData;
    return (await perplexityWord.open(fakeModel().model, data).dense() as { scoredTokens: number })
      .scoredTokens;
  };
  const whole = encode(text, { bos: true });
  const [first, both] = [pages.slice(0, 1), pages].map((some) =>
    some.reduce((sum, page) => sum + 1 + encode(detokenize(page)).length, 0)
  );
  assertEquals([await scored(whole), await scored(whole.slice(0, -1))], [both, first]);
});

Deno.test("word perplexity is exp of all losses by the words of whole pages, the last window of each included", async () => {
  const encode = (text: string) => Int32Array.from(text, (c) => c.codePointAt(0)! % 5),
    { model } = fakeModel();
  const pages = [golden.page, " = Rain = \n\n It fell . \n"],
    text = `${pages.join("")} = Left out = \n\n It is . \n`;
  const covered = pages.reduce((n, page) => n + encode(detokenize(page)).length, 0);
  const tokenizer = { encode, addsBos: false, bosId: 4, endIds: new Set<number>() } as unknown;
  const data = { ids: new Int32Array(covered + 3), text, context: 50, tokenizer } as TaskData;
  const evaluation = perplexityWord.open(model, data);
  const dense = await evaluation.dense() as unknown as { perplexity: number; scoredTokens: number };
  const sum = pages.reduce((sum, page) => sum + sumOf(page, encode, 50), 0);
  const words = pages.reduce((n, page) => n + countWords(page), 0);
  assertAlmostEquals(dense.perplexity / Math.exp(-sum / words), 1, 1e-6);
  assertEquals(dense.scoredTokens, covered);
  const filtered = await evaluation.run(fakePruner([1], (t) => t % 3 === 1)) as unknown as {
    perplexity: number;
    densePerplexity: number;
    nllDelta: number;
  };
  assertEquals(filtered.densePerplexity, dense.perplexity);
  assertAlmostEquals(Math.log(filtered.perplexity / dense.perplexity), filtered.nllDelta, 1e-9);
});
