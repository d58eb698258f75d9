/** Offline: heads and channels by input norms times weights (Wanda, arXiv 2306.11695, structured as FLAP's code). */
import type { OfflineMethod } from "../protocol/method.ts";
import { Moments } from "../protocol/moments.ts";
import { countGone, keepHighest, meanOfGroups, sumColumns } from "./width.ts";

/**
 * Mean over a column's rows of |weight| times the root mean square of the column's input. Layers are pruned one after
 * the other, each on the output of the pruned ones before it. Every layer loses the same fraction; there is no bias. A
 * head stands for its KV group, by the mean over query heads.
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
