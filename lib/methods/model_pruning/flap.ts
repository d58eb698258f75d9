/** Offline: heads and channels whose inputs fluctuate least, their mean output as a bias (FLAP, arXiv 2312.11983). */
import type { OptionTable } from "../../filter/option.ts";
import { hostTensor } from "../../tensor.ts";
import type { CalibratedModel, LayerAlteration } from "../protocol/calibration.ts";
import type { OfflineMethod } from "../protocol/method.ts";
import { Moments } from "../protocol/moments.ts";
import { keepHighest, meanOfGroups, sumColumns } from "./width.ts";

const options = {
  compensation: { type: "flag", default: true, help: "add the mean output of the removed units as a bias" },
} as const satisfies OptionTable;

/**
 * The authors' default, WIFV and AL-AM: the variance of a column's input in the output projection (or the MLP's last
 * matrix) times the column's sum of squares. The scores of attention are squared. Scores are standardised in each
 * layer, and all are in one pool. A head stands for its whole KV group, by the mean over its query heads, because the
 * authors' code has no groups. At least one of each stays in every layer.
 */
export const flap: OfflineMethod<"flap", typeof options> = {
  name: "flap",
  help:
    "heads and MLP channels whose inputs fluctuate least on a calibration text, in one pool, with a bias (FLAP)",
  offline: true,
  options,
  alter(model, { pruneRatio, compensation }) {
    const { numLayers, numKvHeads, numHeads, headDim, intermediateSize } = model.config;
    const widths = { o: numHeads * headDim, down: intermediateSize };
    const seen = Array.from({ length: numLayers }, () => ({
      o: new Moments(widths.o),
      down: new Moments(widths.down),
    }));
    model.run(
      ["o", "down"],
      (layer, name, rows, count) => seen[layer]![name as "o" | "down"].add(rows, count),
    );
    const score = (layer: number, name: "o" | "down") => {
      const weights = sumColumns(model.matrix(layer, name).data, widths[name], (x) => x * x);
      return seen[layer]![name].variances.map((variance, j) => variance * weights[j]!);
    };
    const ofHeads = seen.map((_, layer) =>
      meanOfGroups(standardize(score(layer, "o").map((x) => x * x)), model.config)
    );
    const ofChannels = seen.map((_, layer) => standardize(score(layer, "down")));
    // A group's parameters, in channels of the MLP.
    const price = (2 * numHeads / numKvHeads + 2) * headDim / 3;
    const threshold = poolThreshold(
      [...ofHeads.flatMap((row) => [...row]), ...ofChannels.flatMap((row) => [...row])],
      (i) => i < numLayers * numKvHeads ? price : 1,
      1 - pruneRatio,
    );
    return {
      layers: seen.map((own, layer): LayerAlteration => {
        const [groups, channels] = [ofHeads, ofChannels].map((all) => {
          const low = all[layer]!.reduce((count, x) => count + Number(x <= threshold), 0);
          return keepHighest(all[layer]!, low);
        }) as [number[], number[]];
        if (!compensation) return { groups, channels };
        const columns = new Set(groups.flatMap((group) => {
          const width = widths.o / numKvHeads;
          return Array.from({ length: width }, (_, i) => group * width + i);
        }));
        const tensors = {
          oBias: removedMean(model, layer, "o", own.o.means, columns),
          downBias: removedMean(model, layer, "down", own.down.means, new Set(channels)),
        };
        return { groups, channels, tensors };
      }),
    };
  },
};

/**
 * Scores less their mean, over their standard deviation (of a sample). A unit that is the only one in its layer stays:
 * its score is above all others.
 */
function standardize(scores: Float64Array): Float64Array {
  if (scores.length === 1) return Float64Array.of(Infinity);
  const mean = scores.reduce((a, b) => a + b, 0) / scores.length;
  const deviation = Math.sqrt(scores.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (scores.length - 1));
  return scores.map((x) => deviation === 0 ? 0 : (x - mean) / deviation);
}

/** The score above which things stay, so that the prices of those come nearest to a fraction of all. */
function poolThreshold(scores: readonly number[], price: (i: number) => number, share: number): number {
  const order = scores.map((score, i) => ({ score, price: price(i) })).sort((a, b) => b.score - a.score);
  const wanted = share * order.reduce((sum, { price }) => sum + price, 0);
  let sum = 0, nearest = Infinity, threshold = -Infinity;
  for (const { score, price } of order) {
    sum += price;
    if (Math.abs(sum - wanted) >= nearest) continue;
    nearest = Math.abs(sum - wanted);
    threshold = score;
  }
  return threshold;
}

/** Mean output of the removed columns, added to the bias that is there. */
function removedMean(
  model: CalibratedModel,
  layer: number,
  name: "o" | "down",
  means: Float64Array,
  stay: ReadonlySet<number>,
) {
  const { data, shape: [rows, columns] } = model.matrix(layer, name);
  const had = model.bias(layer, name);
  const bias = Float32Array.from({ length: rows! }, (_, row) => {
    let sum = had?.[row] ?? 0;
    for (let j = 0; j < columns!; j++) if (!stay.has(j)) sum += data[row * columns! + j]! * means[j]!;
    return sum;
  });
  return hostTensor("f32", [rows!], bias);
}
