/** The sweeps that run when no option of the method is given. */
import type { Grid } from "./space.ts";

/**
 * Each ratio has the presets `paper` (our re-implementation of the paper's rule), `keys`, `retrieval` and `local`. Each
 * preset has a random baseline of the same side, substitute, schedule, layers and window over some seeds. There are
 * also `retrieval` without whole layers, the oracle as an upper bound, the rule that learns online, the random baseline
 * of the query side, and the paper's rule with a recent window. `retrieval` runs at ratios of its own.
 */
function gridOf(
  pruneRatio: readonly number[],
  seed: readonly number[],
  retrievalRatio: readonly number[] = pruneRatio,
): Grid[] {
  const kvRatio = pruneRatio, retrieval = { preset: "retrieval", kvRatio: retrievalRatio };
  return [
    { preset: "keys", kvRatio },
    { preset: "keys", fusion: "random", seed, kvRatio },
    retrieval,
    { ...retrieval, whole: "none" },
    { ...retrieval, fusion: "random", seed },
    { preset: "local", pruneRatio },
    { preset: "local", fusion: "random", seed, pruneRatio },
    { preset: "paper", pruneRatio },
    { preset: "paper", fusion: "random", seed, pruneRatio },
    { fusion: "oracle", pruneRatio },
    { fusion: "learned", pruneRatio },
    { fusion: "random", seed, pruneRatio },
    { fusion: "variance", pruneRatio },
  ];
}

/** A first sweep with both sides of the filter: two ratios, and the random baseline over two seeds. */
export const DEFAULT_GRID: readonly Grid[] = gridOf([0.3, 0.5], [0, 1], [0.5]);

const FULL_RATIOS = [0.15, 0.3, 0.5];
/** Three ratios, the random baseline over three seeds; the inverse of the paper's rule, plain and single-sided fusions too. */
export const FULL_GRID: readonly Grid[] = [
  ...gridOf(FULL_RATIOS, [0, 1, 2]),
  { fusion: "variance", invert: true, pruneRatio: FULL_RATIOS },
  { fusion: ["mean", "key", "value"], pruneRatio: FULL_RATIOS },
];
