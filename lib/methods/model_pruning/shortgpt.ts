/** Offline: the layers of least block influence (ShortGPT, arXiv 2403.03853). */
import type { OfflineMethod } from "../method.ts";
import { dropParts } from "./offline.ts";

/** Whole layers, by 1 less the mean cosine of what enters and leaves them; all at once. */
export const shortgpt: OfflineMethod<"shortgpt"> = {
  name: "shortgpt",
  help: "whole layers of least block influence on a calibration text (ShortGPT)",
  offline: true,
  alter: dropParts("block"),
};
