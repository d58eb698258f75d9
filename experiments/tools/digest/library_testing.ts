/** A program that uses the public names of the package as users do: a JSON document on stdout. A run of the digest. */
import {
  createCustomRule,
  createPruner,
  f32Data,
  loadModel,
  type Pruner,
  readBuiltinText,
  ReferenceBackend,
  TokenFilter,
} from "../../../mod.ts";
import { createDense } from "../../../lib/methods/mod.ts";
import { openCpu } from "../../../ffi/mod.ts";

/** The filter on keys and values of one's own, token by token. */
function stepFilter() {
  const shape = { numLayers: 2, numHeads: 2, numKvHeads: 2, headDim: 4, hiddenSize: 8 };
  const filter = new TokenFilter(shape, { preset: "paper", tail: 1, pruneRatio: 0.5, warmup: 4 });
  const sequence = filter.start();
  return Array.from({ length: 24 }, (_, t) => {
    const key = Float32Array.from({ length: 8 }, (_, i) => Math.fround((7 * t * (i + 1)) % 11 - 5));
    const value = key.map((x, i) => x * (i % 3) - t % 4);
    const { keep, redundancy, threshold } = sequence.step(t % 2, key, value);
    return { keep: [...keep], redundancy: [...redundancy], threshold: [...threshold] };
  });
}

/** A model with a method in it. */
async function feedModel(backend: Parameters<typeof loadModel>[1]) {
  const { model, tokenizer, config } = await loadModel("tiny", backend);
  const ids = tokenizer.encode((await readBuiltinText()).slice(0, 160), { bos: true });
  const methods: Record<string, Pruner> = {
    dense: createDense(),
    learned: createPruner("token-filtering", config, { fusion: "learned", warmup: 8, block: 8 }, { backend }),
    oracle: createPruner("oracle", config, { warmup: 8 }, { backend }),
    scored: createCustomRule(config, ({ value }) => -Math.hypot(...value), { warmup: 8 }, { backend }),
  };
  const results = Object.entries(methods).map(([name, pruner]) => {
    const sequence = model.start(pruner);
    const hidden = sequence.feed(ids);
    return [name, {
      hidden: [...f32Data(backend.read(hidden))],
      keep: [...sequence.keep.values()].map((mask) => [...mask]),
    }];
  });
  return { ids: [...ids], text: tokenizer.decode(ids), config, ...Object.fromEntries(results) };
}

console.log(JSON.stringify({
  filter: stepFilter(),
  reference: await feedModel(new ReferenceBackend()),
  cpu: await feedModel(await openCpu({ threads: 1 })),
}));
