/** Offline: heads and channels whose removal changes the loss least to first order (LLM-Pruner, arXiv 2305.11627). */
import type { CostShape } from "../cost.ts";
import type { LayerAlteration } from "./calibration.ts";
import type { OfflineMethod } from "./offline.ts";
import { countGone, keepHighest } from "./width.ts";

/** What the paper takes gradients of: ten samples of 64 tokens. */
const SAMPLES = 10, SAMPLE_TOKENS = 64;

/** Of 32 layers the paper spares the first four and the last two. */
const FIRST = 4 / 32, LAST = 2 / 32;

/**
 * Element-wise and summed: of a KV head and its query heads, the sum of |weight x gradient| over their rows of the projections
 * and their columns of the output's; of a channel over its rows and its column of the MLP. One share in all layers but the spared
 * ones, so much that of all layers `pruneRatio` goes. The paper's fine-tuning afterwards is left out.
 */
export const llmPruner: OfflineMethod<"llm-pruner"> = {
  name: "llm-pruner",
  help:
    "heads and MLP channels of least |weight x gradient| on a calibration text (LLM-Pruner, without fine-tuning)",
  offline: true,
  alter(model, { pruneRatio }) {
    const { config } = model, { numLayers, numKvHeads, intermediateSize } = config;
    const [first, end] = [Math.floor(FIRST * numLayers), numLayers - Math.floor(LAST * numLayers)];
    const share = pruneRatio * numLayers / (end - first), gone = countGone(config, share);
    if (share >= 1) {
      throw new RangeError(
        `Cannot prune ${pruneRatio} by "llm-pruner": it spares ${
          numLayers - end + first
        } of ${numLayers} layers, expected less`,
      );
    }
    const groups = scores(numLayers, numKvHeads), channels = scores(numLayers, intermediateSize);
    model.gradients({ count: SAMPLES, tokens: SAMPLE_TOKENS }, (layer, name, gradient) => {
      const { data } = model.matrix(layer, name), unitOf = unitsOf(config, name);
      const own = (name === "gate" || name === "up" || name === "down" ? channels : groups)[layer]!;
      for (let i = 0; i < data.length; i++) own[unitOf(i)]! += Math.abs(data[i]! * gradient[i]!);
    });
    return {
      layers: groups.map((own, layer): LayerAlteration => {
        if (layer < first || layer >= end) return {};
        return {
          groups: keepHighest(own, gone.groups),
          channels: keepHighest(channels[layer]!, gone.channels),
        };
      }),
    };
  },
};

const scores = (layers: number, units: number) =>
  Array.from({ length: layers }, () => new Float64Array(units));

/** The KV head or channel that a value of a matrix belongs to. */
function unitsOf(
  { hiddenSize, numHeads, numKvHeads, headDim, intermediateSize }: CostShape,
  name: string,
): (i: number) => number {
  const queries = numHeads / numKvHeads * headDim;
  const units: { readonly [name: string]: (i: number) => number } = {
    q: (i) => Math.floor(i / hiddenSize / queries),
    k: (i) => Math.floor(i / hiddenSize / headDim),
    v: (i) => Math.floor(i / hiddenSize / headDim),
    o: (i) => Math.floor(i % (numHeads * headDim) / queries),
    gate: (i) => Math.floor(i / hiddenSize),
    up: (i) => Math.floor(i / hiddenSize),
    down: (i) => i % intermediateSize,
  };
  return units[name]!;
}
