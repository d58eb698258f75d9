/**
 * Finds retrieval layers. On a text and its repetition, one layer at a time attends only to the warm-up and the window;
 * the divergence from the full model is its score. A few layers have nearly all of it.
 */
import type { Backend } from "../../../lib/backend.ts";
import { type EvaluatedModel, PerplexityEvaluation } from "../../../lib/eval/mod.ts";
import { createPruner } from "../../../lib/methods/mod.ts";
import type { ModelConfig } from "../../../lib/model/mod.ts";

/** The model that is measured. */
export interface Measured {
  readonly model: EvaluatedModel;
  readonly config: ModelConfig;
  readonly backend: Backend;
}

/** Mean divergences in nats per token, by layer, if only this layer drops all keys outside of its window. */
export async function measureLayers(
  { model, config, backend }: Measured,
  ids: Int32Array<ArrayBuffer>,
  options: { readonly recent: number; readonly warmup: number },
): Promise<number[]> {
  const evaluation = new PerplexityEvaluation(model, ids, { context: ids.length }), found: number[] = [];
  for (let layer = 0; layer < config.numLayers; layer++) {
    const skipRatios = Array.from({ length: config.numLayers }, (_, i) => Number(i === layer));
    const pruner = createPruner(
      "token-filtering",
      config,
      { side: "key", kvFusion: "key", skipRatios, ...options },
      { backend },
    );
    found.push((await evaluation.run(pruner)).kl);
  }
  return found;
}
