/** Offline: the layers of least block influence (ShortGPT, arXiv 2403.03853). */
import type { OfflineMethod } from "../protocol/method.ts";
import { dropParts } from "./choose_parts.ts";

export const shortgpt: OfflineMethod<"shortgpt"> = {
  name: "shortgpt",
  help: "whole layers of least block influence on a calibration text (ShortGPT)",
  offline: true,
  alter: dropParts("block"),
};
