/**
 * Choice of attention blocks, MLPs or layers to leave out: those that turn the residual stream least, or whose absence
 * costs least.
 */
import { expectInteger } from "../../errors.ts";
import type { CalibratedModel, DroppedParts, PartImportance } from "../protocol/calibration.ts";
import type { OfflineMethod } from "../protocol/method.ts";

/** Leaves the parts of least importance out, a fraction of the layers. */
export function dropParts(kind: PartKind): OfflineMethod["alter"] {
  return (model, { pruneRatio }) => ({
    drops: chooseParts(model.importance, kind, Math.round(pruneRatio * model.config.numLayers)),
  });
}

/** Kinds of parts that may be left out: attention, MLPs, or whole layers. */
type PartKind = keyof PartImportance;

/** The `count` parts of least importance; of equals the earlier layer's. @throws {RangeError} If there are fewer. */
export function chooseParts(importance: PartImportance, kind: PartKind, count: number): DroppedParts {
  const values = importance[kind];
  expectInteger("count", count, 0, values.length);
  const order = values.map((_, layer) => layer).sort((a, b) => values[a]! - values[b]! || a - b);
  const chosen = order.slice(0, count).sort((a, b) => a - b);
  return { attention: kind === "mlp" ? [] : chosen, mlp: kind === "attention" ? [] : chosen };
}

/**
 * SLEB: leaves out `count` layers, one after the other. Each time it is the layer whose removal, after those before it,
 * costs least on the calibration text.
 *
 * @param barrier Layers at either end that stay.
 * @returns The layers left out, in the order of their removal, and the mean loss after each, nats per token.
 * @throws {RangeError} If there are fewer layers between the barriers, or all losses are infinite or no numbers.
 */
export function chooseLayersByLoss(
  model: Pick<CalibratedModel, "config" | "lossesWithout">,
  count: number,
  barrier = 1,
): { readonly layers: readonly number[]; readonly losses: readonly number[] } {
  const { numLayers } = model.config, layers: number[] = [], losses: number[] = [];
  if (count > Math.max(0, numLayers - 2 * barrier)) {
    throw new RangeError(
      `Cannot leave ${count} layers out: expected at most ${Math.max(0, numLayers - 2 * barrier)}`,
    );
  }
  while (layers.length < count) {
    let best = -1, least = Infinity;
    const left = Array.from({ length: numLayers - 2 * barrier }, (_, i) => barrier + i)
      .filter((layer) => !layers.includes(layer));
    model.lossesWithout(layers, left).forEach((loss, i) => {
      if (loss < least) [best, least] = [left[i]!, loss];
    });
    if (best < 0) {
      throw new RangeError(
        "Cannot choose layers by loss: found only losses that are NaN or infinite, expected a finite one",
      );
    }
    layers.push(best);
    losses.push(least);
  }
  return { layers, losses };
}
