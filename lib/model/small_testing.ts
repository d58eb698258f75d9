/** A small model of random weights, for tests that need no trained model. */
import { assertEquals } from "@std/assert";
import type { Backend } from "../backend.ts";
import { toF16 } from "../math/half.ts";
import { createPruner, type MethodOptions, type Pruner, type PrunerContext } from "../methods/mod.ts";
import { ReferenceBackend } from "../reference/mod.ts";
import { countOf, f32Data, type HostTensor, hostTensor } from "../tensor.ts";
import type { ModelConfig } from "./config/config.ts";
import { Model } from "./model.ts";
import { createWeights } from "./load_weights.ts";
import type { ModelWeights } from "./weights.ts";

/** Its sizes. */
export const CONFIG: ModelConfig = {
  architecture: "llama",
  numLayers: 3,
  numHeads: 4,
  numKvHeads: 2,
  headDim: 32,
  hiddenSize: 64,
  intermediateSize: 96,
  vocabSize: 131,
  rope: { theta: 10000 },
  rmsNormEps: 1e-5,
  contextLength: 256,
  tieWordEmbeddings: false,
};

/** Weights of variance 1 / inputs, from a seed; norms near 1; the MLP's matrices in f16. */
export function randomWeights(config: ModelConfig): ModelWeights<HostTensor> {
  let state = 7;
  const next = () => {
    let sum = -6;
    for (let i = 0; i < 12; i++) sum += (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
    return sum;
  };
  return createWeights(config, ({ gguf, shape, dtype }) => {
    const scale = Math.sqrt(shape.at(-1)!), norm = dtype === "f32";
    const draw = () => norm ? 1 + next() / 10 : next() / scale;
    const values = Float32Array.from({ length: countOf(shape) }, draw);
    if (!/\.ffn_(gate|up|down)\./.test(gguf)) return hostTensor("f32", shape, values);
    return hostTensor("f16", shape, Uint16Array.from(values, (x) => toF16(x)));
  });
}

/** Its weights. */
export const weights: ModelWeights<HostTensor> = randomWeights(CONFIG);
/** The reference. A product with `sameX` fails unless `x` is unchanged since the last one. */
export class CheckedReference extends ReferenceBackend {
  /** Products so far that were called with `sameX` and had the `x` of the last one. */
  same = 0;
  #last: { readonly x: Float32Array; readonly was: Float32Array } | undefined;
  readonly #linear = new ReferenceBackend().linear;
  override readonly linear: Backend["linear"] = (x, weight, out, only, sameX) => {
    const data = f32Data(x), last = this.#last;
    const isSame = last?.x.buffer === data.buffer && last.x.byteOffset === data.byteOffset &&
      last.x.length === data.length;
    if (sameX && isSame) {
      assertEquals(data, last.was);
      this.same++;
    }
    this.#last = { x: data, was: data.slice() };
    this.#linear(x, weight, out, only);
  };
}
/** The model on the reference. */
export const truth = new Model(CONFIG, weights, new CheckedReference());
/** Token ids that depend on the seed. */
export const ids = (count: number, seed = 0) =>
  Int32Array.from({ length: count }, (_, i) => (i * i * 7 + i * 31 + seed * 17) % CONFIG.vocabSize);
/** `leave-one-out`, with some heads that keep everything. */
export const WHOLE_HEADS: MethodOptions = {
  ...{ side: "key", kvFusion: "leave-one-out", recent: 3, block: 5, kvRatio: 0.4 },
  ...{ whole: "heads", wholeFraction: 0.3 },
};

/** The same by rules that a device decides by itself. */
export const WHOLE_HEADS_ON_DEVICE: readonly MethodOptions[] = [
  { ...WHOLE_HEADS, kvFusion: "key" },
  { ...WHOLE_HEADS, kvFusion: "variance", block: 4, keyState: "pre-rope" },
];

/** Token Filtering for the model: all layers, a warm-up of 8. */
export const filtering = (options: MethodOptions, backend?: PrunerContext["backend"]): Pruner =>
  createPruner("token-filtering", CONFIG, { warmup: 8, tail: 1, ...options }, {
    retrieval: () => [0.1, 0.9, 0.2, 0.3, 0.5, 0.8], // of KV heads
    ...(backend && { backend }),
  });
