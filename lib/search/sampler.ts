/** Sources of proposals: the grid, random draws, Sobol points, TPE. */
import {
  type Axis,
  buildPoint,
  countValues,
  isActive,
  listValues,
  type Observation,
  type Point,
  randomPoint,
  type SearchSpace,
  valueAt,
} from "./axis.ts";
import { RandomStream } from "./random_stream.ts";
import { SobolPoints } from "./sobol.ts";
import { proposeTpe } from "./tpe.ts";

/**
 * Gives the next point; undefined where all points have been proposed. It depends only on the seed and the trials so
 * far: a search that was interrupted continues as it would have.
 *
 * @param trials All so far, in their order, those at work too; their number is that of the next trial.
 */
export type Sampler = (trials: readonly Observation[]) => Point | undefined;

interface SamplerKind {
  readonly help: string;
  /** Whether its points follow from those before them: others can be listed in advance. */
  readonly adapts: boolean;
  /**
   * Binds it to a space.
   *
   * @throws {RangeError} If it cannot search such a space.
   */
  create(space: SearchSpace, seed: number): Sampler;
}

/** Streams of random numbers of a seed that are not trials'. */
const TRIAL_STREAMS = 2 ** 20;

export type SamplerName = "grid" | "random" | "sobol" | "tpe";

export const SAMPLERS: { readonly [name in SamplerName]: SamplerKind } = {
  grid: { help: "every combination, the last axis fastest", adapts: false, create: createGrid },
  random: {
    help: "independent uniform draws",
    adapts: false,
    create: (space, seed) => ({ length }) =>
      randomPoint(space, new RandomStream(seed, TRIAL_STREAMS + length)),
  },
  sobol: {
    help: "scrambled Sobol points, which fill the space evenly",
    adapts: false,
    create(space, seed) {
      const points = new SobolPoints(space.length, seed);
      return ({ length }) => {
        const shares = points.at(length);
        return buildPoint(space, (axis, place) => valueAt(axis, shares[place]!));
      };
    },
  },
  tpe: {
    help: "the tree-structured Parzen estimator: where good trials are dense and others are not",
    adapts: true,
    create: (space, seed) => (trials) =>
      proposeTpe(space, trials, new RandomStream(seed, TRIAL_STREAMS + trials.length)),
  },
};

const MAX_POINTS = 10_000;

function createGrid(space: SearchSpace): Sampler {
  for (const axis of space) {
    if (countValues(axis) < Infinity) continue;
    throw new RangeError(
      `Cannot make a grid of "${axis.name}": found a range of any numbers, expected a "step", a list, or another sampler`,
    );
  }
  const points: Point[] = [];
  const expand = (place: number, point: Point) => {
    if (points.length > MAX_POINTS) return;
    const axis: Axis | undefined = space[place];
    if (axis === undefined) points.push(point);
    else if (!isActive(axis, point)) expand(place + 1, point);
    else for (const value of listValues(axis)) expand(place + 1, { ...point, [axis.name]: value });
  };
  expand(0, {});
  if (points.length > MAX_POINTS) {
    throw new RangeError(
      `Cannot make a grid: found more than ${MAX_POINTS} points, expected fewer, or another sampler`,
    );
  }
  return ({ length }) => points[length];
}
