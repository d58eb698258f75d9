/** The reference's models of every architecture against Hugging Face transformers in float64. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { ReferenceBackend } from "../reference/mod.ts";
import {
  assertCheckpoint,
  distanceOf,
  goldenIds,
  LOGIT_BAR,
  logitsOf,
  openSource,
} from "./checkpoint_golden_testing.ts";
import { ARCHITECTURES } from "./architectures/mod.ts";
import type { LayerConfig, ModelConfig } from "./config/config.ts";
import type { ModelSource } from "./config/config_reader.ts";
import { readModelConfig } from "./config/read_config.ts";
import { CHECKPOINTS, GGUF_NAMES, ggufFile, hfFolder, NAMES } from "./testdata/checkpoints.ts";

const backend = new ReferenceBackend();

Deno.test("every architecture has a golden case, in each format that it has", () => {
  const seen = (sources: readonly ModelSource[]) =>
    new Set(sources.map((source) => readModelConfig(source).architecture));
  const folders = seen(NAMES.map((name) => hfFolder(name))),
    files = seen(GGUF_NAMES.map((name) => ggufFile(name)));
  for (const { name, gguf } of ARCHITECTURES) {
    assert(folders.has(name), `found no case of "${name}", expected one (make_checkpoint_golden.py)`);
    assertEquals(files.has(name), gguf !== undefined, `cases of "${name}" as GGUF`);
  }
});

for (const name of NAMES) {
  Deno.test(`${name}: the reference has transformers' logits, in one piece and token by token`, () => {
    const model = openSource(hfFolder(name), backend, CHECKPOINTS[name].options);
    assertCheckpoint(name, model);
    assertCheckpoint(name, model, 1);
  });
}

for (const name of GGUF_NAMES) {
  Deno.test(`${name}: the reference has them from a GGUF file too`, () => {
    assertCheckpoint(name, openSource(ggufFile(name), backend, CHECKPOINTS[name].options));
  });
}

/** A change, where there is one to make. */
type Change<T> = Partial<T> | undefined | null | 0 | false;

/** Constants, each a little wrong; undefined where a config has it not. */
const FAULTS: { readonly [what: string]: (config: ModelConfig) => Change<ModelConfig> } = {
  "rotary base": ({ rope }) => ({ rope: { ...rope, theta: 1.02 * rope.theta } }),
  "rotary factors": ({ rope }) =>
    rope.factors &&
    { rope: { ...rope, factors: rope.factors.map((factor, i) => i === 1 ? 1.1 * factor : factor) } },
  "rotary magnitude": ({ rope }) => rope.magnitude && { rope: { ...rope, magnitude: 1.01 * rope.magnitude } },
  "norm's epsilon": ({ rmsNormEps }) => ({ rmsNormEps: 1.5 * rmsNormEps }),
  // Norms of heads have the size of one.
  "head count": ({ architecture, rope, numHeads, numKvHeads, headDim }) =>
    !["qwen3", "gemma3"].includes(architecture) && !rope.factors &&
    { numHeads: 2 * numHeads, numKvHeads: 2 * numKvHeads, headDim: headDim / 2 },
  "attention's factor": ({ attentionScale: scale }) => scale && { attentionScale: 1.01 * scale },
  "longer window": (config) => changeLayers(config, ({ window }) => window && { window: window + 1 }),
  "shorter window": (config) => changeLayers(config, ({ window }) => window && { window: window - 1 }),
  "local rotary base": (config) =>
    changeLayers(config, ({ rope }) => rope && { rope: { ...rope, theta: 1.02 * rope.theta } }),
  "layer without rope": (config) =>
    changeLayers(config, ({ rope }) => rope === null && { rope: config.rope }),
};

function changeLayers(
  { layers }: ModelConfig,
  change: (layer: LayerConfig) => Change<LayerConfig>,
): Change<ModelConfig> {
  const changed = layers?.map((layer) => ({ ...layer, ...change(layer) }));
  return layers?.some((layer) => change(layer)) ? { layers: changed! } : undefined;
}

Deno.test("a wrong constant of any architecture is far off", () => {
  const seen: Record<string, number> = {};
  for (const name of NAMES) {
    for (const [what, fault] of Object.entries(FAULTS)) {
      let applies = false;
      const model = openSource(hfFolder(name), backend, CHECKPOINTS[name].options, (config) => {
        const changes = fault(config);
        applies = Boolean(changes);
        return changes || {};
      });
      if (!applies) continue;
      const distance = distanceOf(name, logitsOf(model));
      assert(distance > 5 * LOGIT_BAR, `${name}, ${what}: found logits ${distance} off`);
      seen[what] = (seen[what] ?? 0) + 1;
    }
  }
  assertEquals(seen, {
    "rotary base": 15,
    "rotary factors": 7,
    "rotary magnitude": 3,
    "norm's epsilon": 15,
    "head count": 6,
    "attention's factor": 2,
    "longer window": 5,
    "shorter window": 5,
    "local rotary base": 2,
    "layer without rope": 1,
  });
});

Deno.test("a rotary embedding that depends on the length refuses positions past it", () => {
  const cases = [["llama-dynamic", 16], ["phi3-long", 16], ["phi3-short", 48]] as const;
  for (const [name, length] of cases) {
    const model = openSource(hfFolder(name), backend), fed = new Int32Array(length);
    assertEquals([model.config.contextLength, model.config.maxPositions], [length, length]);
    const sequence = model.start();
    sequence.feed(fed);
    assertThrows(() => sequence.feed(goldenIds.slice(0, 1)), RangeError, `of ${length + 1} tokens`);
    assertThrows(
      () => model.startBatch(undefined, { batch: 1, capacity: length + 1 }),
      RangeError,
      "contextLength",
    );
    model.startBatch(undefined, { batch: 1, capacity: length })[Symbol.dispose]();
  }
});
