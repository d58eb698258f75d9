/** The filter in the whole model on native code: every rule decides as the reference does, and budgets hold. */
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { readBuiltinText, scoreSequence } from "../lib/eval/mod.ts";
import { createPruner, METHOD_NAMES, type Pruner, type TokenFilterOptions } from "../lib/methods/mod.ts";
import { loadModel, Model } from "../lib/model/mod.ts";
import { ReferenceBackend } from "../lib/reference/mod.ts";
import { RUNS_SLOW } from "../lib/testing.ts";
import { openTested } from "../kernels/testing/ways.ts";

const { model, tokenizer, config } = await loadModel("tiny", await openTested({ threads: 2 }));
const reference = (await loadModel("tiny", new ReferenceBackend())).model;
const text = tokenizer.encode(await readBuiltinText());
const filtering = (options: TokenFilterOptions) => createPruner("token-filtering", config, options);

Deno.test("native decisions and losses equal the reference's, rule by rule", () => {
  // Few layers and tokens: the reference takes most of the time, and every layer is alike.
  const shape = { ...config, numLayers: RUNS_SLOW ? 5 : 3 }, short = text.slice(0, RUNS_SLOW ? 100 : 70);
  const native = new Model(shape, model.weights, model.backend);
  const plain = new Model(shape, reference.weights, reference.backend);
  const filtering = (options: TokenFilterOptions) => createPruner("token-filtering", shape, options);
  const pruners: [string, Pruner][] = [
    ...METHOD_NAMES.map((name): [string, Pruner] => [name, createPruner(name, shape, { warmup: 16 })]),
    ["pre-rope", filtering({ keyState: "pre-rope" })],
    ["queries", filtering({ fusion: "learned", features: ["similarity", "norm", "projection", "query"] })],
    ["cached", filtering({ cacheSkipped: true })],
    ["topk", filtering({ threshold: "topk" })],
    ["keys", filtering({ side: "key", warmup: 16, recent: 8, block: 16 })],
    ["received", filtering({ kvFusion: "received", warmup: 16, recent: 8, block: 16, kvRatio: 0.7 })],
  ];
  for (const [rule, pruner] of pruners) {
    const got = scoreSequence(native, short, pruner), want = scoreSequence(plain, short, pruner);
    assertEquals([got.keep, got.kvKeep], [want.keep, want.kvKeep], rule);
    got.nll.forEach((loss, i) => assertAlmostEquals(loss, want.nll[i]!, 1e-4, rule));
    assert([got.keep, got.kvKeep].some((masks) => masks.some((mask) => mask.includes(0))), rule);
  }
});

Deno.test("budget holds the asked ratio on real keys, in every layer and at every token", () => {
  let worst = 0;
  for (const fusion of ["variance", "key", "value", "mean", "learned"] as const) {
    for (const pruneRatio of RUNS_SLOW ? [0.3, 0.5] : [0.3]) {
      const options = { fusion, pruneRatio };
      const rho = pruneRatio * config.numLayers / filtering(options).layers.length;
      for (
        const mask of scoreSequence(model, text.slice(0, RUNS_SLOW ? 2048 : 1024), filtering(options)).keep
      ) {
        let skipped = 0;
        mask.subarray(32).forEach((kept, i) => {
          skipped += 1 - kept;
          const decided = i + 1;
          worst = Math.max(worst, Math.abs(skipped - rho * decided) / Math.max(8, 0.01 * decided));
        });
      }
    }
  }
  assert(worst <= 1, `the surplus reached ${worst.toFixed(2)} of what is allowed`);
});
