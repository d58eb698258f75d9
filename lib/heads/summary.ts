/** From the columns of one layer to what the report says of it. */
import type { RuleToken } from "../filter/rule.ts";
import { learned } from "../methods/rules/learned.ts";
import { type VarianceSpec, varianceWeight } from "../methods/rules/variance.ts";
import type { MovingBlocks } from "../stats/bootstrap.ts";
import { DistributionBuilder } from "../stats/distribution.ts";
import {
  type BandedDistribution,
  headRules,
  type MainLayer,
  type PositionBand,
  type ViewLayer,
} from "./report.ts";
import { type LayerColumns, listViews, type ViewKey } from "./columns.ts";
import {
  compareRules,
  poseRanking,
  type RankingTask,
  type RatedRules,
  rateRules,
  resampleRules,
  type RuleScores,
  scoreRules,
  withIntervals,
} from "./rule_quality.ts";

/** How the tokens of all layers lie, and how intervals are made. */
export interface HeadLayout {
  /** Tokens in all, N. */
  readonly tokens: number;
  readonly context: number;
  readonly bands: readonly PositionBand[];
  /** Tokens past the warm-up. */
  readonly decided: Int32Array<ArrayBuffer>;
  readonly blocks: MovingBlocks;
  readonly confidence: number;
}

/** Bands of position: the warm-up, then each twice as far as the one before. */
export function cutBands(warmup: number, context: number): PositionBand[] {
  const edges = [0];
  for (let edge = Math.max(warmup, 1); edge < context; edge *= 2) edges.push(edge);
  return edges.map((from, i) => ({ from, to: edges[i + 1] ?? context }));
}

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

/** One layer in every view, and in the method's own with intervals. */
export interface DescribedLayer {
  /** In the order of `listViews`. */
  readonly views: readonly ViewLayer[];
  readonly main: MainLayer;
  /** Ratings in the method's own view, with all resamples. */
  readonly rated: RatedRules;
}

export function describeLayer(columns: LayerColumns, layout: HeadLayout): DescribedLayer {
  const { method, view } = columns.plan, { decided, blocks, confidence } = layout;
  const task = poseRanking(columns.r, decided, method.skipRatio);
  const scored = listViews(view).map((other) => {
    const tokens = columns.tokens(other, layout.context);
    return { view: other, tokens, scores: scoreRules(columns, other, tokens) };
  });
  const views = scored.map((one) => describeView(columns, one, task, layout));
  const { scores } = scored[0]!;
  const rated: RatedRules = { rules: views[0]!.rules, draws: resampleRules(scores, task, blocks) };
  const skipped = decided.reduce((sum, token) => sum + (columns.method.keep[token] === 0 ? 1 : 0), 0);
  return {
    views,
    rated,
    main: {
      layer: method.layer,
      skipRatio: method.skipRatio,
      skipped: decided.length === 0 ? null : skipped / decided.length,
      r: describeByPosition(columns.r, layout),
      rules: withIntervals(rated, confidence, { scores, task }),
      comparisons: compareRules(rated, confidence),
      learnedWeights: columns.shadows.get(learned.name)![0]!.learnedWeights,
    },
  };
}

function describeView(
  columns: LayerColumns,
  { view, tokens, scores }: {
    readonly view: ViewKey;
    readonly tokens: readonly RuleToken[];
    readonly scores: RuleScores;
  },
  task: RankingTask,
  layout: HeadLayout,
): ViewLayer {
  const { method } = columns.plan, keys = columns.keys(view), values = columns.values(view);
  const weights = tokens.map((token) => varianceWeight(token, method as VarianceSpec));
  const describe = (column: ArrayLike<number>) => describeByPosition(column, layout);
  return {
    layer: method.layer,
    heads: Array.from({ length: method.numKvHeads }, (_, head) => {
      const sK = describe(keys.head(head)), sV = describe(values.head(head));
      return { head, sK: sK.all, sV: sV.all, sKBands: sK.bands, sVBands: sV.bands };
    }),
    muK: describe(keys.mu),
    varK: describe(keys.variance),
    muV: describe(values.mu),
    varV: describe(values.variance),
    wK: describe(weights),
    scores: headRules().map((rule) => ({ rule, score: describe(scores.get(rule)!) })),
    rules: rateRules(scores, task),
  };
}
