/** From the columns of one layer to what the report says of it. */
import { FUSION } from "../filter/fusion.ts";
import type { MovingBlocks } from "../stats/bootstrap.ts";
import { DistributionBuilder } from "../stats/distribution.ts";
import {
  type BandedDistribution,
  HEAD_RULES,
  type MainLayer,
  type PositionBand,
  type ViewLayer,
} from "../stats/head_report.ts";
import type { LayerColumns, ViewKey } from "./heads_columns.ts";
import {
  boundRules,
  compareRules,
  poseRanking,
  type RatedRules,
  rateRules,
  resampleRules,
  scoreRules,
} from "./heads_quality.ts";

/** How the tokens of all layers lie, and how intervals are made. */
export interface HeadLayout {
  /** Tokens in all, N. */
  readonly tokens: number;
  /** Tokens a sequence. */
  readonly context: number;
  readonly bands: readonly PositionBand[];
  /** Tokens past the warm-up. */
  readonly decided: Int32Array<ArrayBuffer>;
  /** Resamples of them. */
  readonly blocks: MovingBlocks;
  readonly confidence: number;
}

/** Bands of position: the warm-up, then each twice as far as the one before. */
export function cutBands(warmup: number, context: number): PositionBand[] {
  const edges = [0];
  for (let edge = Math.max(warmup, 1); edge < context; edge *= 2) edges.push(edge);
  return edges.map((from, i) => ({ from, to: edges[i + 1] ?? context }));
}

/** Describes a column over all tokens and by position. */
function describeByPosition(column: ArrayLike<number>, { context, bands }: HeadLayout): BandedDistribution {
  const builders = bands.map(() => new DistributionBuilder());
  for (let first = 0; first < column.length; first += context) {
    bands.forEach(({ from, to }, band) => {
      for (let at = first + from; at < first + to; at++) builders[band]!.add(column[at]!);
    });
  }
  const all = new DistributionBuilder();
  builders.forEach((builder) => all.merge(builder));
  return { all: all.describe(), bands: builders.map((builder) => builder.describe()) };
}

const placeIn = (context: number) => (token: number) => ({
  position: token % context,
  chunk: Math.floor(token / context),
});

/** One layer in one view. */
export function describeViewLayer(columns: LayerColumns, view: ViewKey, layout: HeadLayout): ViewLayer {
  const { method } = columns.plan, keys = columns.keys(view), values = columns.values(view);
  const scores = scoreRules(columns, view, placeIn(layout.context));
  const weights = Float64Array.from(
    keys.mu,
    (_, token) => FUSION.variance.keyWeight(columns.moments(view, token), method),
  );
  const task = poseRanking(columns.r, layout.decided, method.skipRatio);
  const describe = (column: Float64Array) => describeByPosition(column, layout);
  return {
    layer: method.layer,
    heads: keys.heads.map((sK, head) => ({ head, sK: sK.describe(), sV: values.heads[head]!.describe() })),
    muK: describe(keys.mu),
    varK: describe(keys.variance),
    muV: describe(values.mu),
    varV: describe(values.variance),
    wK: describe(weights),
    scores: HEAD_RULES.map((rule) => ({ rule, score: describe(scores.get(rule)!) })),
    rules: rateRules(scores, task),
  };
}

/** One layer in the method's own view, and its ratings with all resamples. */
export function describeMainLayer(
  columns: LayerColumns,
  layout: HeadLayout,
): { readonly layer: MainLayer; readonly rated: RatedRules } {
  const { method, view } = columns.plan, { decided, blocks, confidence } = layout;
  const scores = scoreRules(columns, view, placeIn(layout.context));
  const task = poseRanking(columns.r, decided, method.skipRatio);
  const rated: RatedRules = { rules: rateRules(scores, task), draws: resampleRules(scores, task, blocks) };
  const skipped = decided.reduce((sum, token) => sum + (columns.method.keep[token] === 0 ? 1 : 0), 0);
  return {
    rated,
    layer: {
      layer: method.layer,
      skipRatio: method.skipRatio,
      skipped: decided.length === 0 ? null : skipped / decided.length,
      r: describeByPosition(columns.r, layout),
      rules: boundRules(rated, confidence, { scores, task }),
      comparisons: compareRules(rated, confidence),
      learnedWeights: columns.learned[0]!.learnedWeights,
    },
  };
}
