/** The sweep that runs when no option of the method is given. */
import type { Grid } from "./space.ts";

const pruneRatio = [0.15, 0.3, 0.5], kvRatio = pruneRatio;
const seed = [0, 1, 2];

/**
 * Three ratios of: the presets `paper` (the paper's rule as published), `keys` and `local`, each beside chance with the
 * same side, substitute, schedule and window over three seeds; the self-calibrating rule, the paper's with a recent
 * window, its inverse, single-sided and plain fusions, chance again, and the oracle as an upper bound.
 */
export const DEFAULT_GRID: readonly Grid[] = [
  { preset: "keys", kvRatio },
  { preset: "keys", fusion: "random", seed, kvRatio },
  { preset: "local", pruneRatio },
  { preset: "local", fusion: "random", seed, pruneRatio },
  { preset: "paper", pruneRatio },
  { preset: "paper", fusion: "random", seed, pruneRatio },
  { fusion: "oracle", pruneRatio },
  { fusion: "learned", pruneRatio },
  { fusion: "random", seed, pruneRatio },
  { fusion: "variance", pruneRatio },
  { fusion: "variance", invert: true, pruneRatio },
  { fusion: ["mean", "key", "value"], pruneRatio },
];
