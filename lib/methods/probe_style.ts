/** On the fly: MLP channels that the prompt finds of least weight (after Probe Pruning, arXiv 2502.15618). */
import type { PromptMethod } from "./offline.ts";
import { keepHighest, sumColumns } from "./width.ts";

/**
 * PPsp: of each column of the MLP's last matrix, mean square of what enters it times the root of the sum of its weights to the
 * fourth. The prompt is the warm-up. Style: the paper's probe is a few rows of the batch at hand beside a calibrated history, and
 * it prunes heads too, which here would change the cache of a sequence at work.
 */
export const probeStyle: PromptMethod<"probe-style"> = {
  name: "probe-style",
  help:
    "MLP channels that weigh least on the sequence's own warm-up, left out behind it (after Probe Pruning)",
  offline: "prompt",
  labels: { phase: "decode" },
  names: ["down"],
  alter: ({ moments, matrix, config: { numLayers, intermediateSize } }, { pruneRatio }) => ({
    layers: Array.from({ length: numLayers }, (_, layer) => {
      const weights = sumColumns(matrix(layer, "down").data, intermediateSize, (x) => x ** 4);
      const scores = moments(layer, "down").meanSquares.map((square, j) => square * Math.sqrt(weights[j]!));
      return { channels: keepHighest(scores, Math.floor(pruneRatio * intermediateSize)) };
    }),
  }),
};
