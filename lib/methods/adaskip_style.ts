/** On the fly: the attention blocks and MLPs that turned the prompt's stream least (after AdaSkip, arXiv 2501.02336). */
import { chooseParts } from "./parts.ts";
import type { PromptMethod } from "./offline.ts";

/**
 * The prompt is the warm-up. Style: the paper also skips in the prefill by what earlier ones showed, and scales what stands for a
 * part left out.
 */
export const adaskipStyle: PromptMethod<"adaskip-style"> = {
  name: "adaskip-style",
  help:
    "attention blocks and MLPs that turned the stream of the sequence's own warm-up least, left out behind it (after AdaSkip)",
  offline: "prompt",
  labels: { phase: "decode" },
  names: [],
  alter: ({ importance, config }, { pruneRatio }) => ({
    drops: chooseParts(importance, "joint", Math.round(pruneRatio * 2 * config.numLayers)),
  }),
};
