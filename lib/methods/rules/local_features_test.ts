import { assertAlmostEquals, assertEquals } from "@std/assert";
import { makeSpec } from "../../filter/testing.ts";
import { countLocalFeatures, localSize, nameLocalFeatures, takeLocal } from "./local_features.ts";

Deno.test("takeLocal() writes the scores over local keys, the sinks' part, and an estimate of the far keys", () => {
  const spec = makeSpec({ numHeads: 1, numKvHeads: 1, headDim: 1, sinks: 1, recent: 1 });
  const memory = new Float64Array(localSize(spec)), out = new Float64Array(countLocalFeatures(1));
  assertEquals(nameLocalFeatures(1), ["ln local 0", "ln sinks 0", "ln far 0", "ln far keys"]);
  const found = [1, 2, 3, 4, 5].map((key, position) => {
    takeLocal(spec, { position, key: Float32Array.of(key), queries: Float32Array.of(1) }, memory, out);
    return [...out];
  });
  const logSum = (...scores: number[]) => Math.log(scores.reduce((sum, x) => sum + Math.exp(x), 0));
  // At 3 the key 2 is far, at 4 the keys 2 and 3: their mean is 2.5, their variance 0.25.
  const [three, four] = [logSum(1, 3, 4), logSum(1, 4, 5)];
  const expected: [at: number, features: number[]][] = [
    [3, [three, 1 - three, 2 - three, 0]],
    [4, [four, 1 - four, 2.5 + 0.25 / 2 + Math.LN2 - four, Math.LN2]],
  ];
  for (const [at, features] of expected) {
    features.forEach((feature, i) => assertAlmostEquals(found[at]![i]!, feature, 1e-12, `${i} at ${at}`));
  }
});
