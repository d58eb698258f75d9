/**
 * Offline: heads and channels by the norms of what enters them times their weights (Wanda, arXiv 2306.11695, structured as in
 * FLAP's code).
 */
import type { OfflineMethod } from "../method.ts";
import { countGone, keepHighest, meanOfGroups, Moments, sumColumns } from "./width.ts";

/**
 * Mean over a column's rows of |weight| times the root mean square of what enters it; layer by layer, each on what the pruned
 * ones before it leave; the same fraction of every layer; no bias. A head stands for its KV group, by the mean over query heads.
 */
export const wandaSp: OfflineMethod<"wanda-sp"> = {
  name: "wanda-sp",
  help:
    "heads and MLP channels of least weight times input norm on a calibration text, layer by layer (Wanda-sp)",
  offline: true,
  alter(model, { pruneRatio }) {
    const { config } = model, widths = { o: config.numHeads * config.headDim, down: config.intermediateSize };
    const gone = countGone(config, pruneRatio);
    return model.walk(["o", "down"], (layer) => {
      const seen = { o: new Moments(widths.o), down: new Moments(widths.down) };
      const score = (name: "o" | "down") => {
        const weights = sumColumns(model.matrix(layer, name).data, widths[name], Math.abs);
        return seen[name].meanSquares.map((square, j) => weights[j]! * Math.sqrt(square));
      };
      return {
        see: (name, rows, count) => seen[name as "o" | "down"].add(rows, count),
        close: () => ({
          groups: keepHighest(meanOfGroups(score("o"), config), gone.groups),
          channels: keepHighest(score("down"), gone.channels),
        }),
      };
    });
  },
};
