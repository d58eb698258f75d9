/** Offline: the attention blocks that turn the residual stream least ("What Matters in Transformers", arXiv 2406.15786). */
import type { OfflineMethod } from "../protocol/method.ts";
import { dropParts } from "./choose_parts.ts";

export const attentionDrop: OfflineMethod<"attention-drop"> = {
  name: "attention-drop",
  help: "whole attention blocks, those that turn the residual stream of a calibration text least",
  offline: true,
  alter: dropParts("attention"),
};
