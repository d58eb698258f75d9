/** On the fly: MLP channels of least weight on the sequence's own warm-up (Probe Pruning, arXiv 2502.15618). */
import type { PromptMethod } from "../protocol/method.ts";
import { keepHighest, sumColumns } from "./width.ts";

/**
 * The authors' metric PPsp: for each column of the MLP's last matrix the mean square of its input, times the root of
 * the sum of its weights to the fourth. Adapted: the probe is the sequence's warm-up, not some rows of the batch, and
 * there is no calibrated history next to it. Heads stay, because the cache of a running sequence has them.
 */
export const probePruning: PromptMethod<"probe-pruning"> = {
  name: "probe-pruning",
  help:
    "MLP channels of least PPsp on the sequence's own warm-up, left out behind it (Probe Pruning; no history, no heads)",
  offline: "prompt",
  labels: { phase: "decode" },
  names: ["down"],
  alter: ({ moments, matrix, config: { numLayers, intermediateSize } }, { pruneRatio }) =>
    Array.from({ length: numLayers }, (_, layer) => {
      const weights = sumColumns(matrix(layer, "down").data, intermediateSize, (x) => x ** 4);
      const scores = moments(layer, "down").meanSquares.map((square, j) => square * Math.sqrt(weights[j]!));
      return { channels: keepHighest(scores, Math.floor(pruneRatio * intermediateSize)) };
    }),
};
