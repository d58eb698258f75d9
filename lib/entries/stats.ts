/**
 * Statistics of series whose neighbours depend on each other, such as a text's losses.
 *
 * ```ts
 * import { blockBootstrap } from "@tokenfilter/tokenfilter/stats";
 * const dense = Float64Array.of(1, 2, 3, 4), filtered = dense.map((loss) => loss + 0.5);
 * const interval = blockBootstrap([[dense], [filtered]], ([a, b]) => b! - a!, { blockSize: 2 });
 * console.assert(interval.estimate === 0.5 && interval.low === 0.5);
 * ```
 *
 * Block bootstrap, paired intervals and tests, and rankings.
 * @module
 */
export {
  auroc,
  benjaminiHochberg,
  blockBootstrap,
  type Interval,
  mcnemarTest,
  pairedInterval,
  smallestDetectable,
  spearman,
} from "../stats/mod.ts";
