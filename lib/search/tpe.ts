/** The tree-structured Parzen estimator, as in Optuna 5. */
import {
  fromNumber,
  isActive,
  type Observation,
  type Point,
  randomPoint,
  type SearchSpace,
  toNumber,
} from "./axis.ts";
import { dominanceRanks, spanningSubset } from "./hypervolume.ts";
import { Mixture } from "./parzen.ts";
import type { RandomStream } from "./random_stream.ts";

/** Random trials before the estimator is asked. */
const STARTUP = 10;
/** Points that are drawn of the good trials' density; the one best by the ratio of densities is tried. */
const CANDIDATES = 24;
/** A tenth of the trials is good; with one objective, at most this number. */
const MOST_GOOD = 25;
/** The last trials, which count in full; the ones before them count the less the older they are. */
const RECENT = 25;

/**
 * The places of the good trials among all, ascending. First come finished trials that break no constraint, by their
 * value. With several objectives they are ordered by rank of dominance and, in the last rank, by the hypervolume that
 * they span. If these do not suffice, stopped trials follow, the latest and best first, and then those that break a
 * constraint, the smallest violation first.
 */
export function chooseGood(trials: readonly Observation[], count: number): number[] {
  const places = trials.map((_, i) => i).filter((i) => trials[i]!.state !== "running");
  const kind = (i: number) => trials[i]!.violation > 0 ? "broken" : trials[i]!.state;
  const take = (state: string, choose: (own: number[], count: number) => number[]) => {
    const own = places.filter((i) => kind(i) === state);
    const taken = choose(own, Math.min(own.length, count));
    count -= taken.length;
    return taken;
  };
  const by = (...keys: ((i: number) => number)[]) => (own: number[], count: number) =>
    own.sort((a, b) => keys.reduce((order, key) => order || key(a) - key(b), 0)).slice(0, count);
  const value = (i: number) => trials[i]!.values[0]!;
  const finished = take("finished", (own, count) => {
    return (trials[own[0]!]?.values.length ?? 1) === 1
      ? by(value)(own, count)
      : chooseFront(own.map((i) => trials[i]!.values), count).map((i) => own[i]!);
  });
  const stopped = take("stopped", by((i) => -(trials[i]!.step ?? 0), value));
  const broken = take("broken", by((i) => trials[i]!.violation));
  return [...finished, ...stopped, ...broken].sort((a, b) => a - b);
}

function chooseFront(costs: readonly (readonly number[])[], count: number): number[] {
  const ranks = dominanceRanks(costs, count), chosen: number[] = [];
  for (let rank = 0; chosen.length < count; rank++) {
    const front = costs.map((_, i) => i).filter((i) => ranks[i] === rank);
    const room = count - chosen.length;
    chosen.push(
      ...front.length <= room
        ? front
        : spanningSubset(front.map((i) => costs[i]!), room).map((i) => front[i]!),
    );
  }
  return chosen;
}

export function ageWeights(count: number): number[] {
  const ramp = count - RECENT;
  return Array.from(
    { length: count },
    (_, i) => i >= ramp ? 1 : ramp === 1 ? 1 / count : 1 / count + (1 - 1 / count) * i / (ramp - 1),
  );
}

/**
 * Proposes the next point. It is drawn several times from the density of good trials; the draw with the highest ratio
 * of that density to the density of all others is taken. The densities are multivariate, and running trials count among
 * the others (the constant liar).
 *
 * @param trials All so far, in their order.
 */
export function proposeTpe(space: SearchSpace, trials: readonly Observation[], random: RandomStream): Point {
  const ended = trials.filter(({ state }) => state !== "running");
  if (ended.length < STARTUP) return randomPoint(space, random);
  const objectives = Math.max(...ended.map(({ values }) => values.length));
  const share = Math.ceil(0.1 * ended.length);
  const good = new Set(chooseGood(trials, objectives > 1 ? share : Math.min(MOST_GOOD, share)));
  const point: { [axis: string]: unknown } = {};
  // Axes that are there together have a mixture of their own, as of Optuna's `group`.
  for (const axes of Map.groupBy(space, ({ when }) => JSON.stringify(when ?? {})).values()) {
    if (!isActive(axes[0]!, point)) continue;
    const has = ({ point }: Observation) => axes.every(({ name }) => Object.hasOwn(point, name));
    const mixture = (isGood: boolean) => {
      const own = trials.filter((trial, i) => good.has(i) === isGood && has(trial));
      const rows = own.map(({ point }) => axes.map((axis) => toNumber(axis, point[axis.name])));
      const weights = isGood && objectives > 1 ? own.map(() => 1) : ageWeights(own.length);
      return Mixture.around(axes, rows, weights);
    };
    const below = mixture(true), above = mixture(false);
    let best: number[] = [], most = -Infinity;
    for (let i = 0; i < CANDIDATES; i++) {
      const drawn = below.sample(random), gain = below.logPdf(drawn) - above.logPdf(drawn);
      if (gain > most) [best, most] = [drawn, gain];
    }
    axes.forEach((axis, i) => point[axis.name] = fromNumber(axis, best[i]!));
  }
  return point;
}
