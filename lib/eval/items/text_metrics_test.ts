/** Tests scores of texts against lm-evaluation-harness 0.4.13: `metrics.py` of its LongBench tasks, with `rouge` 1.0.1. */
import { assertAlmostEquals, assertEquals } from "@std/assert";
import { strip } from "./python_text.ts";
import { matchesExactly, rougeL, wordF1 } from "./text_metrics.ts";

/** Text, answer, `qa_f1_score`, `rouge_score`. */
const SCORED: readonly (readonly [string, string, number, number])[] = [
  ["The red door. A small house, the end.", "a red house. the END", 0.75, 0.3076923029585799],
  ["the cat sat on the mat the cat", "on the mat sat a cat. The cat", 1, 0.6666666618055556],
  ["It's 5,000 (five)!", "its 5000 five", 1, 0],
  ["", "word", 0, 0],
  ["a b c d", "d c b a", 1, 0.24999999500000009],
  [" new\tlines\nhere . and there", "here and new there.", 0.888888888888889, 0.6666666617283951],
  ["Über the éclair", "über eclair", 0.5, 0],
  ["an", "a", 0, 0],
];

Deno.test("wordF1() and rougeL() score texts as LongBench does", () => {
  for (const [text, answer, f1, rouge] of SCORED) {
    assertAlmostEquals(wordF1(strip(text), answer), f1, 1e-12, text);
    assertAlmostEquals(rougeL(strip(text), answer), rouge, 1e-12, text);
  }
});

Deno.test("matchesExactly() ignores patterns first, then case, punctuation and numbers", () => {
  const patterns = [/,/g, /\$/g, /.*#### /gs, /\.$/g];
  assertEquals(matchesExactly("The $1,000.", "so\n#### The 1000", { patterns }), true);
  assertEquals(matchesExactly("The $1,000.", "so\n#### the 1000", { patterns }), false);
  assertEquals(matchesExactly("The 1,000.", "the 1000", { punctuation: true }), false);
  assertEquals(matchesExactly("A-1!", "a", { case: true, punctuation: true, numbers: true }), true);
  assertEquals(matchesExactly("a", "a "), false);
});
