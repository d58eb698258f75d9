/** Tests the data of recipes, and plans of every model without its weights. */
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import type { Backend } from "../../../lib/backend.ts";
import { findTask } from "../../../lib/eval/mod.ts";
import { tabulateReproduction } from "../../../lib/plot/mod.ts";
import { mapBudgets } from "../../../lib/sweep/mod.ts";
import { Progress } from "../cli/output/progress.ts";
import { describeEstimate, estimateRecipe } from "./estimate.ts";
import { findModel, findProtocol, findPublished, readKnownModels, readRecipe, RECIPES } from "./recipe.ts";
import { readShape } from "./estimate.ts";
import { hasDigest } from "./data.ts";
import texts from "./data.json" with { type: "json" };

const { published } = await readRecipe("paper"), { protocols, sources, numbers } = published;

Deno.test("every published number has a source and a protocol, and every protocol is named once", () => {
  for (const { source, protocol, values } of numbers) {
    assert(sources[source] !== undefined, source);
    assert(protocols[protocol] !== undefined, protocol);
    for (
      const value of Object.values(values).flatMap((of) => typeof of === "number" ? of : Object.values(of))
    ) {
      assert(Number.isFinite(value) && value > 0, `${value} of ${source}`);
    }
  }
  const all = Object.values(protocols), labels = all.map(({ label }) => label);
  assertEquals(labels.filter((label, i) => labels.indexOf(label) !== i), []);
  assertEquals(all.filter(({ says }) => says === ""), []);
});

Deno.test("recipes have tasks and texts that are there", async () => {
  for (const name of RECIPES) {
    const { parts, published } = await readRecipe(name);
    for (const part of Object.keys(parts)) {
      const { task, data, context } = findProtocol(published, part)!, { items } = findTask(task);
      assertEquals(items === undefined, context !== undefined, part);
      assert(data === undefined || Object.hasOwn(texts, data), part);
    }
  }
});

Deno.test("texts with a digest are compared with it, and joined ones are made of those", () => {
  assertEquals(Object.keys(texts).filter((name) => !hasDigest(name)), ["wikitext2-train", "c4-validation"]);
});

Deno.test("no table of published numbers mixes protocols, for any model", async () => {
  const { parts } = await readRecipe("paper");
  for (const model of new Set(numbers.map((group) => group.model))) {
    const tabulateParts = (state: { isWhole: boolean; isUnchecked?: boolean }) =>
      tabulateReproduction({
        parts: Object.keys(parts).map((protocol) => {
          const { label, says, task } = findProtocol(published, protocol)!, own = findTask(task);
          const dense = { name: "dense", options: null, retained: mapBudgets(() => 1) };
          const row = { method: "dense", task: own.name, metric: own.headline.name, value: 0.5, mean: 0.5 };
          return {
            ...{ protocol, label, says, ...state, published: findPublished(published, model, protocol) },
            comparison: {
              methods: [dense],
              results: [{ ...row, standardError: null, against: {} }],
            } as never,
          };
        }),
      });
    const table = tabulateParts({ isWhole: true });
    for (const other of [{ isWhole: false }, { isWhole: true, isUnchecked: true }]) {
      assertEquals(tabulateParts(other).rows.map(([name]) => name), ["dense"], model);
    }
    let found = 0;
    for (const [name, , , ...cells] of table.rows.slice(1)) {
      Object.keys(parts).forEach((protocol, i) => {
        const own = findPublished(published, model, protocol).filter(({ row }) =>
          `${row} (published)` === name
        );
        const shown = own.map(({ value }) => value).join(" / ") || "-";
        assertEquals(cells[i], shown, `${model}, ${protocol}`);
        found += own.length;
      });
    }
    const expected = Object.keys(parts).flatMap((protocol) =>
      findPublished(published, model, protocol)
    ).length;
    assertEquals(found, expected, model);
  }
});

/** Parameters of each model, in billions, by its authors. */
const BILLIONS: { readonly [name: string]: number } = {
  "tiny": 0.00485,
  "LLaMA-2-7B": 6.738,
  "LLaMA-2-13B": 13.016,
  "LLaMA-3-8B": 8.03,
  "Mistral-7B": 7.242,
  "Phi-4": 14.66,
  "Qwen3-8B": 8.19,
  "SmolLM2-135M": 0.1345,
  "SmolLM2-360M": 0.3618,
  "SmolLM2-1.7B": 1.711,
  "Gemma-3-270M": 0.2681,
  "Gemma-3-1B": 0.9999,
};

Deno.test("a plan of each model says what it takes, without weights", async () => {
  const recipe = await readRecipe("paper"), { now } = performance;
  let ms = 0;
  performance.now = () => ms;
  // A product takes 100 ms.
  const backend = {
    description: "none",
    upload: (tensor: object) => tensor,
    read() {},
    linear: () => ms += 100,
  };
  try {
    assertEquals(Object.keys(await readKnownModels()), Object.keys(BILLIONS));
    for (const [name, billions] of Object.entries(BILLIONS)) {
      assertEquals(await findModel(await readShape(name)), name);
      const plan = await estimateRecipe(
        { ...recipe, parts: { "wikitext2-128": {}, "piqa": { "filter-from": "25%" } } },
        { values: new Map([["model", [name]]]), progress: new Progress(undefined) },
        () => Promise.resolve(backend as unknown as Backend),
      );
      assertAlmostEquals(plan.weightBytes / 2e9, billions, 0.003 * billions, name);
      assert(plan.parts.every(({ hours }) => hours > 0));
      assertEquals(plan.parts[0]!.runs, 77);
      assert(describeEstimate(plan).every((line) => line !== ""));
    }
    // Flags and methods of the other recipes are known too.
    for (const other of RECIPES) {
      const plan = await estimateRecipe(
        await readRecipe(other),
        { values: new Map([["model", ["tiny"]]]), progress: new Progress(undefined) },
        () => Promise.resolve(backend as unknown as Backend),
      );
      assert(plan.parts.every(({ runs, tokens }) => runs > 1 && tokens > 0), other);
    }
    // The speed that was measured: two operations per product of 256 tokens.
    const { flopsPerSecond, parts } = await estimateRecipe(
      recipe,
      { values: new Map([["model", ["LLaMA-2-7B"]]]), progress: new Progress(undefined) },
      () => Promise.resolve(backend as unknown as Backend),
    );
    assertEquals(parts.length, 20);
    assertAlmostEquals(flopsPerSecond, 2 * 256 * 2048 ** 2 / 0.1, 1);
  } finally {
    performance.now = now;
  }
});
