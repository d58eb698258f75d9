/**
 * Which attention blocks, MLPs or whole layers a model can do without, as offline pruning chooses them from calibration
 * text: by how little a part turns the residual stream, or by what its absence costs.
 */
import type { CalibratedModel, DroppedParts, PartImportance } from "./calibration.ts";

/** What may be left out: attention alone, MLPs alone, either (from one pool), or whole layers. */
export type PartKind = "attention" | "mlp" | "joint" | "block";

/**
 * The `count` parts of least importance, all at once; of equals the earlier layer's, and its attention first.
 *
 * @throws {RangeError} If there are not so many.
 */
export function chooseParts(importance: PartImportance, kind: PartKind, count: number): DroppedParts {
  const kinds = kind === "joint" ? ["attention", "mlp"] as const : [kind];
  const pool = kinds.flatMap((part) => importance[part].map((value, layer) => ({ part, value, layer })));
  if (!(Number.isInteger(count) && count >= 0 && count <= pool.length)) {
    throw new RangeError(`Cannot leave ${count} parts out: expected an integer from 0 to ${pool.length}`);
  }
  const chosen = pool.toSorted((a, b) => a.value - b.value || a.layer - b.layer).slice(0, count);
  const of = (name: "attention" | "mlp") =>
    chosen.filter(({ part }) => part === name || part === "block").map(({ layer }) => layer).sort((a, b) =>
      a - b
    );
  return { attention: of("attention"), mlp: of("mlp") };
}

/**
 * SLEB: leaves out, `count` times, the layer whose absence beside those gone before costs least on the calibration text.
 *
 * @param barrier Layers at either end that stay.
 * @returns The layers left out, in the order in which they went, and the mean loss after each, nats a token.
 * @throws {RangeError} If there are not so many layers between the barriers, or all losses are infinite or no numbers.
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
    if (best < 0) throw new RangeError("Cannot choose layers by loss: found no finite one, expected some");
    layers.push(best);
    losses.push(least);
  }
  return { layers, losses };
}
