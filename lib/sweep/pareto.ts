/** The trials that no other beats in both things one wants. */

/**
 * Marks the Pareto front: entries for which no other has at least as high a gain and at most as high a cost, with
 * one of the two strictly better. Entries that are not finite in both are never on it.
 *
 * @param gains To be high, such as achieved skip ratios.
 * @param costs To be low, such as perplexities; as many as `gains`.
 * @returns One boolean an entry.
 *
 * @example
 * ```ts
 * import { paretoFront } from "@tokenfilter/tokenfilter/sweep";
 * console.assert(paretoFront([0.1, 0.5, 0.4], [40, 60, 70]).join() === "true,true,false");
 * ```
 */
export function paretoFront(gains: readonly number[], costs: readonly number[]): boolean[] {
  return gains.map((gain, i) => {
    const cost = costs[i]!;
    if (!Number.isFinite(gain) || !Number.isFinite(cost)) return false;
    return !gains.some((other, j) =>
      other >= gain && costs[j]! <= cost && (other > gain || costs[j]! < cost)
    );
  });
}
