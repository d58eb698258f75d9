/** Leaves parts of a model out: the result of offline pruning by calibration text, once it has chosen them. */
import { expectInteger } from "../../errors.ts";
import type { FilterShape } from "../../filter/sequence.ts";
import { createDense, type Pruner } from "./pruner.ts";
import type { DroppedParts } from "./calibration.ts";

/**
 * From a token on, a model without some of its attention blocks and MLPs, norms included, as if their output projections were 0.
 *
 * @throws {RangeError} If a layer is not the model's, or is named twice, or the token is no whole number.
 */
export function createDropped(
  { numLayers }: Pick<FilterShape, "numLayers">,
  { attention = [], mlp = [], from = 0 }: Partial<DroppedParts>,
): Pruner {
  expectInteger("from", from, 0);
  for (const [part, layers] of Object.entries({ attention, mlp })) {
    layers.forEach((layer, i) => {
      const isKnown = Number.isInteger(layer) && layer >= 0 && layer < numLayers;
      if (isKnown && layers.indexOf(layer) === i) return;
      throw new RangeError(
        `Cannot drop the ${part} of layer ${layer}: expected layers from 0 to ${numLayers - 1}, each once`,
      );
    });
  }
  return { ...createDense(), name: "dropped", prepare: { kind: "drop", attention, mlp, from } };
}
