/** Offline: one layer after the other, each time the one whose absence costs least (SLEB, arXiv 2402.09025). */
import type { OptionTable } from "../../filter/option.ts";
import type { OfflineMethod } from "../protocol/method.ts";
import { chooseLayersByLoss } from "./choose_parts.ts";

const options = {
  barrier: { type: "integer", default: 1, range: "[0, 64]", help: "layers at either end that stay" },
} as const satisfies OptionTable;

/** It passes over the calibration text once per remaining layer for each layer that it removes: short texts suffice. */
export const sleb: OfflineMethod<"sleb", typeof options> = {
  name: "sleb",
  help: "whole layers, one after the other, whose absence costs least on a calibration text (SLEB)",
  offline: true,
  options,
  alter(model, { pruneRatio, barrier }) {
    const count = Math.round(pruneRatio * model.config.numLayers);
    const { layers } = chooseLayersByLoss(model, count, barrier);
    return { drops: { attention: layers, mlp: layers } };
  },
};
