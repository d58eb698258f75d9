/** Pareto-optimal trials. */

/**
 * Marks the Pareto front: entries for which no other has at least as high a gain and at most as high a cost, with one
 * of the two strictly better. An entry that is not finite in both is never on it.
 *
 * @param gains To be high, such as achieved skip ratios.
 * @param costs To be low, such as perplexities; as many as `gains`.
 * @returns One boolean an entry.
 */
export function paretoFront(gains: readonly number[], costs: readonly number[]): boolean[] {
  const front = gains.map(() => false), at = (list: readonly number[]) => (i: number) => list[i]!;
  const gain = at(gains), cost = at(costs);
  const finite = [...gains.keys()].filter((i) => Number.isFinite(gain(i)) && Number.isFinite(cost(i)));
  // From the highest gain down, and of equal gains from the lowest cost up: an entry that costs less than all before is
  // on it.
  let least = Infinity, last = NaN;
  for (const i of finite.sort((a, b) => gain(b) - gain(a) || cost(a) - cost(b))) {
    front[i] = cost(i) < least || cost(i) === least && gain(i) === last;
    if (!front[i]) continue;
    least = cost(i);
    last = gain(i);
  }
  return front;
}
