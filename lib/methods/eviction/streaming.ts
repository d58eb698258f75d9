/** Key side: the first tokens and a window of the last ones stay (StreamingLLM, arXiv 2309.17453). */
import type { EvictionMethod } from "../protocol/method.ts";

/**
 * The position: the oldest tokens beyond the warm-up, which are the sinks, are evicted first. The window grows with the
 * text, so that the requested ratio is met; the original's is a constant. Positions are the tokens' own, as in kvpress
 * without its re-rotation.
 */
export const streaming: EvictionMethod<"streaming"> = {
  name: "streaming",
  help:
    "evicts the oldest tokens beyond the warm-up: sinks and a window (adapted from StreamingLLM, whose window is constant)",
  evicts: true,
  reads: () => [],
  score: ({ tokens }) => [Float64Array.from(tokens.map(({ position }) => position))],
};
