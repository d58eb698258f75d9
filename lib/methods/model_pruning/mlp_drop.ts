/** Offline: the MLPs that turn the residual stream least ("What Matters in Transformers", arXiv 2406.15786). */
import type { OfflineMethod } from "../protocol/method.ts";
import { dropParts } from "./choose_parts.ts";

export const mlpDrop: OfflineMethod<"mlp-drop"> = {
  name: "mlp-drop",
  help: "whole MLPs, those that turn the residual stream of a calibration text least",
  offline: true,
  alter: dropParts("mlp"),
};
