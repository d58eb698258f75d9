import { assertEquals } from "@std/assert";
import { retainedOf, showFraction } from "./budgets.ts";

Deno.test("retainedOf() gives the retained fraction of each of the full model's budgets", () => {
  const counted = {
    ...{ queriesDense: 100, queriesSkipped: 25, pairsDense: 1000, pairsAvoided: 900 },
    ...{ kvBytesHeld: 30, kvBytesAvoided: 10, attentionFlopsDense: 8, attentionFlopsAvoided: 3 },
    ...{ projectionFlopsDense: 4, projectionFlopsAvoided: 1, parametersDense: 10, parametersAvoided: 4 },
  };
  assertEquals(retainedOf(counted), {
    ...{
      queries: 0.75,
      pairs: 1 - 0.9,
      attentionFlops: 0.625,
      cache: 0.75,
      projectionFlops: 0.75,
      parameters: 0.6,
    },
  });
  // A record of an older version does not have all of them.
  const { parametersDense: _, ...older } = counted;
  assertEquals(showFraction(retainedOf(older as typeof counted).parameters), "-");
  assertEquals(showFraction(0.6), "60%");
});
