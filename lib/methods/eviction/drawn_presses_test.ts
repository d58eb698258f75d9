/** kvpress's presses on random tensors drawn by a seed: the same scores, and the same tokens dropped. */
import { type AdaCases, expectAdaKV } from "./adakv_testing.ts";
import { expectCache, expectScores, type Presses, pressesOf } from "./presses_testing.ts";
import { IN_SLOW_TIER, unless, withFolder } from "../../testing.ts";
import { lackOfPython } from "../../../experiments/tools/testing_python.ts";
import { drawCases, drawnSeed } from "../../../experiments/tools/verify/drawn_testing.ts";

const COUNT = 12;

Deno.test({
  ...unless(
    IN_SLOW_TIER || lackOfPython(["torch", "transformers", "kvpress"]),
    `methods that evict drop what kvpress's presses drop of tensors drawn by seed ${drawnSeed}`,
  ),
  fn: () =>
    withFolder(async (folder) => {
      const script = "../../../lib/filter/testdata/make_presses_golden.py";
      const drawn = await drawCases<Presses>(script, COUNT, folder);
      for (const method of pressesOf(drawn)) {
        expectScores(drawn, method);
        if (method.name === "expected-attention") continue; // its moments of queries are its own
        for (const own of drawn.cases.filter(({ numKvHeads }) => numKvHeads === 1)) {
          expectCache(drawn, method, own);
        }
      }
    }),
});

Deno.test({
  ...unless(
    IN_SLOW_TIER || lackOfPython(["torch", "transformers", "kvpress"]),
    `adakv drops of each KV head what AdaKVPress drops of tensors drawn by seed ${drawnSeed}`,
  ),
  fn: () =>
    withFolder(async (folder) => {
      expectAdaKV(
        await drawCases<AdaCases>("../../../lib/filter/testdata/make_adakv_golden.py", COUNT, folder),
      );
    }),
});
