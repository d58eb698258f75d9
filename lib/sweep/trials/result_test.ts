import { assertEquals, assertStringIncludes } from "@std/assert";
import { perplexity, PerplexityEvaluation } from "../../eval/tasks/perplexity.ts";
import { fakeModel, fakePruner } from "../../eval/testing.ts";
import { recordOptions } from "../../methods/bind/options.ts";
import { digestConditions, digestTrialOptions } from "./digest.ts";
import { findWrongResult } from "./result.ts";
import { runTrial } from "./runner.ts";
import { expandGrids } from "../space.ts";
import type { RunConditions } from "../trial.ts";

const conditions: RunConditions = {
  ...{ version: "0.0.0", model: "fake", modelSha256: "aa", text: "numbers", textSha256: "bb", context: 100 },
  ...{ textTokens: 300, bos: false, cacheDType: "f32", backend: "reference" },
};

Deno.test("findWrongResult() takes what a worker answers, and names each field that is another", async () => {
  const [method] = expandGrids([{ fusion: ["key"], pruneRatio: [0.25], warmup: 10 }]),
    { model } = fakeModel();
  const ids = Int32Array.from({ length: 320 }, (_, i) => (i * i + i) % 5);
  const runDigest = await digestConditions(conditions), digest = digestTrialOptions(method!);
  const options = recordOptions(method!), asked = { digest, options, conditions, runDigest };
  const args = {
    evaluation: new PerplexityEvaluation(model, ids, { context: 100 }),
    createPruner: () => fakePruner([0, 1, 2, 3], (t) => t >= 10 && t % 4 === 0, { warmup: 10 }),
    conditions,
    runDigest,
  };
  const record = JSON.parse(JSON.stringify(await runTrial(args, { digest, method: method! })));
  const find = (found: unknown) => findWrongResult(found, perplexity, asked);
  assertEquals(find(record), undefined);
  for (const name of Object.keys(record)) {
    const wrong = { ...record, [name]: { not: "this" } }, { [name]: _, ...less } = record;
    for (const found of [wrong, less]) assertStringIncludes(find(found) ?? "nothing", `field "${name}"`);
  }
  const cases: [unknown, string][] = [
    [null, "found null, expected a record"],
    ["a text", 'found "a text", expected a record'],
    [7, "found 7, expected a record"],
    [[], "found [], expected a record"],
    [{ ...record, perplexity: 1.0001 }, 'field "perplexity": found 1.0001, expected what its losses come to'],
    [{ ...record, ruleSha256: "aa" }, 'field "ruleSha256": found "aa", expected nothing'],
    [{ ...record, lossBlocks: { sums: [1], sizes: [] } }, 'field "lossBlocks"'],
    [{ ...record, model: "x".repeat(1000) }, `found "${"x".repeat(79)}…, expected "fake"`],
    [
      { ...record, wholeLayers: "auto" },
      'field "wholeLayers": found "auto", expected a list of numbers, or nothing',
    ],
    [{ ...record, wholeHeads: [1] }, 'field "wholeHeads": found [1], expected a list of texts, or nothing'],
    [{ ...record, stopped: "behind" }, 'field "chunkLosses": found nothing'],
    [{ ...record, junk: "x".repeat(1000) }, `field "junk": found "${"x".repeat(79)}…, expected none`],
    [{ ...record, deno: "x".repeat(2 ** 21) }, "characters, expected at most 1048576"],
  ];
  for (const [found, part] of cases) assertStringIncludes(find(found) ?? "nothing", part);
});

Deno.test("findWrongResult() takes a trial that a race stopped", () => {
  const [method] = expandGrids([{ fusion: ["key"], pruneRatio: [0.25], warmup: 10 }]);
  const digest = digestTrialOptions(method!), options = recordOptions(method!);
  const asked = { digest, options, conditions, runDigest: "d" };
  const stopped = {
    ...{
      trial: digest,
      ...options,
      ...conditions,
      runDigest: "d",
      nonCausal: false,
      deno: "2",
      stoppedAt: "now",
    },
    ...{ stopped: "behind", chunkLosses: [1, 2], chunks: 3, partialDelta: 0.1 },
  };
  assertEquals(findWrongResult(JSON.parse(JSON.stringify(stopped)), perplexity, asked), undefined);
});
