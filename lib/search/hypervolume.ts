/** Several objectives at once, all to be low: ranks by dominance, hypervolumes, and the points that span most of one. */

export type Costs = readonly number[];

const dominates = (a: Costs, b: Costs) => a.every((x, i) => x <= b[i]!) && a.some((x, i) => x < b[i]!);

/**
 * Ranks by dominance. Rank 0: no other point is at least as low in all objectives and lower in one. Rank 1: none is
 * when those of rank 0 are removed; and so on.
 *
 * @param enough Points after which ranking may stop; those that are left then share the next rank.
 */
export function dominanceRanks(costs: readonly Costs[], enough = Infinity): number[] {
  const ranks = new Array<number>(costs.length).fill(-1);
  let left = costs.map((_, i) => i);
  for (let rank = 0; left.length > 0; rank++) {
    const front = costs.length - left.length >= enough
      ? left
      : left.filter((i) => !left.some((j) => dominates(costs[j]!, costs[i]!)));
    for (const i of front) ranks[i] = rank;
    left = left.filter((i) => ranks[i] === -1);
  }
  return ranks;
}

/**
 * The volume between points and a reference: exact, by slices along the last objective.
 *
 * @param reference Upper limit of every point; a point at the limit adds no volume.
 * @throws {RangeError} If a point lies above the reference.
 */
export function hypervolume(costs: readonly (readonly number[])[], reference: readonly number[]): number {
  for (const point of costs) {
    if (point.length === reference.length && point.every((x, i) => x <= reference[i]!)) continue;
    throw new RangeError(
      `Cannot measure the hypervolume of [${point}]: expected a point at most at [${reference}]`,
    );
  }
  return slice(costs, reference, reference.length);
}

function slice(costs: readonly Costs[], reference: Costs, dimensions: number): number {
  if (costs.length === 0) return 0;
  const last = dimensions - 1, sorted = costs.toSorted((a, b) => a[last]! - b[last]!);
  if (dimensions === 1) return reference[0]! - sorted[0]![0]!;
  let volume = 0, best = Infinity;
  for (const [i, point] of sorted.entries()) {
    best = Math.min(best, point[0]!);
    const height = (sorted[i + 1]?.[last] ?? reference[last]!) - point[last]!;
    if (height === 0) continue;
    const area = dimensions === 2
      ? reference[0]! - best
      : slice(sorted.slice(0, i + 1), reference, dimensions - 1);
    volume += height * area;
  }
  return volume;
}

/**
 * Some of the points that span much hypervolume together: one after the other, that which adds most.
 *
 * @param count At most as many as there are points.
 * @returns Their places.
 */
export function spanningSubset(costs: readonly Costs[], count: number): number[] {
  if (count >= costs.length) return costs.map((_, i) => i);
  // Compared only with each other: a tenth beyond the worst of each objective.
  const reference = costs[0]!.map((_, i) => {
    const worst = Math.max(...costs.map((point) => point[i]!));
    return Math.max(1.1 * worst, 0.9 * worst) || 1e-12;
  });
  // In the order of their values, each once: equal points add nothing to each other.
  const order = costs.map((_, i) => i).sort((a, b) => {
    const differing = costs[a]!.findIndex((x, i) => x !== costs[b]![i]);
    return differing < 0 ? a - b : costs[a]![differing]! - costs[b]![differing]!;
  });
  const isFirst = (i: number, at: number) => at === 0 || String(costs[order[at - 1]!]) !== String(costs[i]);
  const unique = order.filter(isFirst);
  if (unique.length < count) {
    const rest = costs.map((_, i) => i).filter((i) => !unique.includes(i));
    return [...unique, ...rest.slice(0, count - unique.length)].sort((a, b) => a - b);
  }
  const chosen: number[] = [];
  const adds = (i: number) => {
    const own = costs[i]!, box = own.reduce((volume, x, d) => volume * (reference[d]! - x), 1);
    const shared = chosen.map((j) => own.map((x, d) => Math.max(x, costs[j]![d]!)));
    return box - slice(shared, reference, own.length);
  };
  while (chosen.length < count) {
    let best = -1, most = -Infinity;
    for (const i of unique) {
      if (chosen.includes(i)) continue;
      const added = adds(i);
      if (added > most) [best, most] = [i, added];
    }
    chosen.push(best);
  }
  return chosen;
}
