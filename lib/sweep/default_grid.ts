/** The sweep that runs when no option of the method is given. */
import type { Grid } from "./space.ts";

const pruneRatio = [0.15, 0.3, 0.5];

/**
 * Three ratios of: the self-calibrating rule, the paper's rule as published (no recent window) and with the recent
 * window, its inverse, single-sided and plain fusions, the random control over three seeds with either window, and
 * the oracle as an upper bound.
 */
export const DEFAULT_GRID: readonly Grid[] = [
  { fusion: "oracle", pruneRatio },
  { fusion: "learned", pruneRatio },
  { fusion: "random", seed: [0, 1, 2], pruneRatio },
  { fusion: "variance", recent: [16, 0], pruneRatio },
  { fusion: "random", recent: 0, seed: [0, 1, 2], pruneRatio },
  { fusion: "variance", invert: true, pruneRatio },
  { fusion: ["mean", "key", "value"], pruneRatio },
];
