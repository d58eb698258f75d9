/** Tests the data of recipes, and plans of every model without its weights. */
import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { openCpu } from "../../../ffi/mod.ts";
import type { Backend, Product } from "../../../lib/backend.ts";
import { windowPairs } from "../../../lib/cost.ts";
import { UsageError } from "../../../lib/errors.ts";
import { findTask, readBuiltinText } from "../../../lib/eval/mod.ts";
import { loadModel, readConfigText } from "../../../lib/model/mod.ts";
import { tabulateReproduction } from "../../../lib/plot/mod.ts";
import {
  comparedAtRatios,
  type ComparedChunk,
  compareStudy,
  mapBudgets,
  type Study,
} from "../../../lib/sweep/mod.ts";
import { countOf, type Tensor } from "../../../lib/tensor.ts";
import { Progress } from "../cli/output/progress.ts";
import { describeEstimate, estimateRecipe, readSizes, showHours } from "./estimate.ts";
import { measureSpeed, type Speed } from "./speed.ts";
import { countWork, flopsOf, layerFlops, type Sequences } from "./workload.ts";
import {
  findModel,
  findProtocol,
  findPublished,
  readKnownModels,
  readRecipe,
  type Recipe,
  RECIPES,
} from "./recipe.ts";
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

/** A layer takes a microsecond a token, logits ten. */
const SPEED: Speed = { layer: (tokens) => 1e-6 * tokens, logits: 1e-5 };

Deno.test("a plan of each model says what it takes, without weights", async () => {
  const recipe = await readRecipe("paper"), backend = { description: "none" } as Backend;
  const planOf = (recipe: Recipe, name: string) =>
    estimateRecipe(
      recipe,
      { values: new Map([["model", [name]]]), progress: new Progress(undefined) },
      () => Promise.resolve(backend),
      () => SPEED,
    );
  assertEquals(Object.keys(await readKnownModels()), Object.keys(BILLIONS));
  for (const [name, billions] of Object.entries(BILLIONS)) {
    assertEquals(await findModel((await readSizes(name)).config), name);
    const two = { "wikitext2-128": {}, "piqa": { "filter-from": "25%" } };
    const plan = await planOf({ ...recipe, parts: two }, name);
    // The file of "tiny" is here, in another type.
    const bytes = name === "tiny" ? 8.5 / 8 : 2;
    assertAlmostEquals(plan.weightBytes / bytes / 1e9, billions, 0.003 * billions, name);
    assert(plan.parts.every(({ hours: [least, most] }) => least > 0 && least === most));
    assertEquals(plan.parts[0]!.runs, 77);
    assert(describeEstimate(plan).every((line) => line !== ""));
  }
  // Flags and methods of the other recipes are known too.
  for (const other of RECIPES) {
    const plan = await planOf(await readRecipe(other), "tiny");
    assert(plan.parts.every(({ runs, tokens }) => runs > 1 && tokens > 0), other);
  }
  const { hours, parts } = await planOf(recipe, "LLaMA-2-7B");
  assertEquals(parts.length, 22);
  // Lengths are measured after the parts: twelve rows, four times, 32 layers; of 8 sequences up to the longest one.
  const all = recipe.lengths.reduce((a, b) => a + b) + 8 * (128 + 512);
  const lengths = 12 * 4 * 32 * all * 1e-6 / 3600;
  assertAlmostEquals(hours[1], lengths + parts.reduce((sum, { hours }) => sum + hours[1], 0), 1e-9);
  assertAlmostEquals(parts.reduce((sum, { share }) => sum + share, 0), 1, 1e-9);
});

Deno.test("a plan is a range of timings, or of a card that is not there, and names its dearest parts", async () => {
  const recipe = await readRecipe("paper"), parts = { "wikitext2-128": {}, "piqa": { "filter-from": "25%" } };
  let timings = 0;
  const planOf = (...flags: [string, string][]) =>
    estimateRecipe(
      { ...recipe, parts, lengths: [] },
      { values: new Map([["model", ["LLaMA-2-7B"]], ...flags.map(([k, v]) => [k, [v]] as const)]), progress },
      () => Promise.resolve({ description: "none" } as Backend),
      () => {
        const slowness = ++timings;
        return { layer: (tokens) => 1e-6 * tokens * slowness, logits: 0 };
      },
    );
  const progress = new Progress(undefined), timed = await planOf();
  assert(timed.hours[0] < timed.hours[1] && timed.flopsPerSecond[0] < timed.flopsPerSecond[1]);
  assertStringIncludes(describeEstimate(timed)[0]!, "by 3 timings of one layer of these sizes (none)");
  timings = 0;
  const h100 = await planOf(["gflops", "h100"]), a100 = await planOf(["gflops", "A100"]);
  assertEquals(timings, 0);
  assertAlmostEquals(h100.hours[1] / h100.hours[0], 8, 1e-9);
  assertAlmostEquals(a100.hours[0] / h100.hours[0], 989 / 312, 1e-9);
  const [first, dearest] = describeEstimate(h100);
  assertMatch(
    first!,
    /: about [\d.]+ to [\d.]+ (hours|days) at 49,000 to 400,000 GFLOP\/s, by 5 to 40% of the peak of/,
  );
  const most = h100.parts.toSorted((a, b) => b.share - a.share)[0]!;
  assertStringIncludes(dearest!, `Most of the time: ${most.label} (`);
  const asked = await planOf(["gflops", "1000"]);
  assertEquals(asked.hours[0], asked.hours[1]);
  assertAlmostEquals(asked.hours[0], h100.hours[0] * 0.4 * 989, 1e-6 * asked.hours[0]);
  await assertRejects(() => planOf(["gflops", "toaster"]), UsageError, "or one of l4, a10");
  assertEquals(
    [[0, 1 / 3600], [0.4, 0.5], [30, 47.4], [100, 200], [17000, 70000]].map((hours) =>
      showHours(hours as never)
    ),
    ["0 to 1 seconds", "24 to 30 minutes", "30 to 47 hours", "4.2 to 8.3 days", "1.9 to 8 years"],
  );
});

Deno.test("the speed of a model's sizes is measured for each type of weights, and scaled to longer sequences", async () => {
  const cpu = await openCpu({ build: true, threads: 1 }), known = await readKnownModels();
  const sizes = { hidden_size: 1280, intermediate_size: 512, num_hidden_layers: 12 };
  for (const [name, dtype] of [["Gemma-3-270M", "bf16"], ["Phi-4", "q4_k"]] as const) {
    const config = readConfigText(name, JSON.stringify({ ...known[name]!.config, ...sizes }));
    const { layer, logits } = measureSpeed(cpu, config, dtype, "f32", 0);
    assert(layer(32) > 0 && logits > 0, name);
    assertAlmostEquals(layer(4096) / layer(256), layerFlops(config, 4096) / layerFlops(config, 256), 1e-9);
  }
});

Deno.test("the products that a plan counts are those of the runs, to a fifth", async () => {
  let products = 0;
  const cpu: Backend = await openCpu({ build: true, threads: 1 });
  const count = (x: Tensor, weight: Tensor) => products += 2 * x.shape[0]! * countOf(weight.shape);
  const backend = new Proxy(cpu, {
    get(target, key: keyof Backend) {
      const own = target[key];
      if (typeof own !== "function") return own;
      return (...args: never[]) => {
        if (key === "linear") count(args[0]!, args[1]!);
        if (key === "gatedLinear") {
          (args.slice(1, 3) as Product[]).forEach(({ weight }) => count(args[0]!, weight));
        }
        if (key === "linears") (args[1]! as Product[]).forEach(({ weight }) => count(args[0]!, weight));
        return (own as (...args: never[]) => unknown).apply(target, args);
      };
    },
  });
  const model = await loadModel("tiny", backend),
    { config } = model,
    text = (await readBuiltinText()).slice(0, 4000);
  const methods = comparedAtRatios(["paper", "key", "random"], { warmup: 8, recent: 0 }, 2, [
    0.2,
    0.5,
  ]);
  const cases: [Sequences, Partial<Study>][] = [
    [{ count: 4, length: 64, scored: 63, isText: true }, { context: 64, tokens: 256 }],
  ];
  for (const [sequences, own] of cases) {
    const study = { model, text, ...own },
      log = {
        finished: [] as ComparedChunk[],
        append: (...all: ComparedChunk[]) => void log.finished.push(...all),
      };
    products = 0;
    await compareStudy(study, [], { log });
    for (const group of Map.groupBy(methods, ({ asked }) => asked).values()) {
      await compareStudy(study, group, { log });
    }
    const work = countWork(config, methods, sequences), pairs = windowPairs(sequences.length);
    const planned = flopsOf(config, work) - work.layers * 4 * config.numHeads * config.headDim * pairs;
    assertAlmostEquals(products / planned, 1, 0.2);
  }
});
