import type { Comparison } from "../../../lib/sweep/mod.ts";
import { assert, assertEquals } from "@std/assert";
import { attentionFlops, type CostShape, windowPairs } from "../../../lib/cost.ts";
import { type OptionsRecord, readRecord, resolveOptions } from "../../../lib/methods/mod.ts";
import { expectCost, rowBytes, weightBytes } from "./expected.ts";

const tiny: CostShape = {
  ...{ numLayers: 10, numHeads: 6, numKvHeads: 3, headDim: 32 },
  ...{ hiddenSize: 192, intermediateSize: 512, vocabSize: 4096 },
};

Deno.test("expectCost() of a model that drops nothing is the full model's", () => {
  const cost = expectCost(tiny, resolveOptions({ pruneRatio: 0 }), 100);
  assertEquals([cost.queries, cost.rows, cost.pairs], [1, 1000, 10 * windowPairs(100)]);
  const counts = { tokens: 100, queried: 100, kept: 100, pairs: windowPairs(100) };
  assertEquals(cost.attentionFlops, 10 * attentionFlops(tiny, counts));
  assertEquals(cost.rowsRead, 1010);
});

Deno.test("expectCost() of the presets is what runs have counted, within a point of each budget", async () => {
  const results: Comparison[] = await Promise.all(
    ["tiny", "tiny_local"].map(async (name) =>
      JSON.parse(await Deno.readTextFile(new URL(`../cheap_skips/results/${name}.json`, import.meta.url)))
    ),
  );
  const methods = results.flatMap(({ methods }) => methods), { environment } = results[0]!;
  const dense = expectCost(tiny, resolveOptions({ pruneRatio: 0 }), environment.context);
  const runs = methods.filter(({ options }) => options !== null);
  assertEquals(runs.length, 8);
  for (const { name, options, retained } of runs) {
    const cost = expectCost(tiny, readRecord(options as OptionsRecord), environment.context);
    const expected = {
      queries: cost.queries,
      pairs: cost.pairs / dense.pairs,
      attentionFlops: cost.attentionFlops / dense.attentionFlops,
      cache: cost.rows / dense.rows,
    };
    for (const budget of ["queries", "pairs", "attentionFlops", "cache"] as const) {
      const off = Math.abs(expected[budget] - retained[budget]);
      assert(off < 0.01, `${name}, ${budget}: expected ${expected[budget]}, counted ${retained[budget]}`);
    }
  }
});

Deno.test("weightBytes() and rowBytes() are those of LLaMA-2-7B in 16 bits", () => {
  const llama: CostShape = {
    ...{ numLayers: 32, numHeads: 32, numKvHeads: 32, headDim: 128 },
    ...{ hiddenSize: 4096, intermediateSize: 11008, vocabSize: 32000 },
  };
  // 6,738,415,616 parameters, less 32,000 x 4,096 of the embedding and (2 * 32 + 1) * 4,096 of the norms.
  assertEquals(weightBytes(llama, 2), 2 * (6_738_415_616 - 32_000 * 4096 - 65 * 4096));
  assertEquals(rowBytes(llama, 2) * 32, 524_288);
});
