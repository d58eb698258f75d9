import { assertEquals, assertStringIncludes } from "@std/assert";
import { mapBudgets } from "../../../lib/sweep/mod.ts";
import { describeMean, EVAL_COLUMNS, tabulateEval, warnOfIdentical } from "./table.ts";

Deno.test("the table of an evaluation says what was saved on its items, and how many stayed as the full model has them", () => {
  const mean = { value: 0.74, mean: 0.74, standardError: 0.06 };
  const row = { task: "piqa", metric: "acc", items: 50, dense: mean, filtered: mean };
  const difference = {
    ...{ estimate: -0.1, low: -0.2, high: 0, pValue: 0.5, adjustedPValue: 0.5 },
    ...{ smallestDetectable: 0.05, verdict: "no significant difference" as const },
  };
  const usage = { pairsDense: 100, pairsAvoided: 1, kvBytesHeld: 97, kvBytesAvoided: 3 } as never;
  const budgets = {
    piqa: { items: 50, identical: 46, usage },
    perplexity: { retained: mapBudgets(() => 0.62) },
  };
  const { rows, columns } = tabulateEval([{ ...row, difference }], budgets);
  const cell = (name: string) => rows[0]![columns.indexOf(name)];
  assertEquals(["dense", "change", "identical", "pairs", "KV cache"].map(cell), [
    ...["74.0% ±6.0", "-10.0 [-20.0, +0.0]", "92.0%", "99%", "97%"],
  ]);
  const text = { ...row, task: "perplexity", metric: "perplexity", difference };
  const ofText = tabulateEval([text], budgets).rows[0]!;
  assertEquals([ofText[columns.indexOf("identical")], ofText[columns.indexOf("pairs")]], ["-", "62%"]);
  assertEquals(columns, EVAL_COLUMNS);
  assertEquals(warnOfIdentical(budgets), [
    "piqa: the filter changed 4 of 50 items, the others are the full model's.",
  ]);
  assertEquals(warnOfIdentical({ piqa: { items: 50, identical: 25 } }), []);
  assertStringIncludes(EVAL_COLUMNS.join(), "KV cache");
  assertEquals(describeMean([{ ...row, difference }]), []);
  const other = { ...row, task: "arc_easy", filtered: { ...mean, mean: 0.64 } };
  assertEquals(describeMean([{ ...row, difference }, { ...other, difference }]), [
    "Mean of 2 tasks: dense 74.0% ±4.2, filtered 69.0% ±4.2, change -10.0 [-17.1, -2.9].",
  ]);
});
