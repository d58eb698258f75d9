/** The report's numbers from the columns of one layer: how well each rule ranks its tokens by redundancy. */
import type { RuleToken } from "../filter/rule.ts";
import { RULES } from "../methods/list.ts";
import { learned } from "../methods/rules/learned.ts";
import { type VarianceSpec, varianceWeight } from "../methods/rules/variance.ts";
import { type Interval, type MovingBlocks, percentileInterval } from "../stats/bootstrap.ts";
import { describeNumbers, meanOrNull } from "../stats/distribution.ts";
import { type RankingDraws, resampleRankings, rocCurve } from "../stats/ranking.ts";
import { type LayerColumns, listViews } from "./columns.ts";
import {
  type BandedDistribution,
  type HeadRule,
  headRules,
  type MainLayer,
  type PositionBand,
  ROC_GRID,
  type RuleComparison,
  type RuleQuality,
  type RuleQualityWithIntervals,
  type ViewLayer,
} from "./report.ts";

/** How the tokens of all layers lie, and how intervals are made. */
export interface HeadLayout {
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
  const all = Float64Array.from(column);
  const numbersOf = ({ from, to }: PositionBand) =>
    all.filter((_, place) => place % context >= from && place % context < to);
  return { all: describeNumbers(all), bands: bands.map((band) => describeNumbers(numbersOf(band))) };
}

/** One layer in every view, and in the method's own with intervals. */
export interface DescribedLayer {
  readonly views: readonly ViewLayer[];
  readonly main: MainLayer;
  /** Ratings in the method's own view, with all resamples. */
  readonly rated: RatedRules;
}

export function describeLayer(columns: LayerColumns, layout: HeadLayout): DescribedLayer {
  const { method, view } = columns.plan, { decided, blocks, confidence } = layout;
  const task = poseRanking(columns.r, decided, method.skipRatio);
  const described = listViews(view).map((_, i) => describeView(columns, i, task, layout));
  const views = described.map((own) => own.view), { scores } = described[0]!;
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

/** One of {@linkcode listViews}, and the scores of the rules in it. */
function describeView(columns: LayerColumns, index: number, task: RankingTask, layout: HeadLayout) {
  const { method } = columns.plan, key = listViews(columns.plan.view)[index]!;
  const keys = columns.keys(key), values = columns.values(key);
  const tokens = columns.tokens(key, layout.context), scores = scoreRules(columns, index, tokens);
  const weights = tokens.map((token) => varianceWeight(token, method as VarianceSpec));
  const describe = (column: ArrayLike<number>) => describeByPosition(column, layout);
  const view: ViewLayer = {
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
  return { view, scores };
}

/** Scores of all rules of the filter on all tokens, by rule; NaN where undefined. */
type RuleScores = ReadonlyMap<HeadRule, Float64Array<ArrayBuffer>>;

/** Scores of every rule in one of {@linkcode listViews}, by its own formula. @param tokens The layer's in that view. */
function scoreRules({ plan, shadows }: LayerColumns, view: number, tokens: readonly RuleToken[]): RuleScores {
  const scores = new Map<HeadRule, Float64Array<ArrayBuffer>>();
  for (const rule of RULES) {
    const shadow = shadows.get(rule.name)?.[view];
    scores.set(
      rule.name,
      shadow?.redundancy ?? Float64Array.from(tokens, (token) => rule.score!(token, plan.method as never)),
    );
  }
  for (const { name } of RULES.filter(({ inverted }) => inverted)) {
    scores.set(`${name} inverted`, scores.get(name)!.map((one) => -one));
  }
  return scores;
}

/** Targets for scores: the decided tokens of a layer. */
interface RankingTask {
  readonly tokens: Int32Array<ArrayBuffer>;
  /** 1 = redundant. */
  readonly labels: Uint8Array<ArrayBuffer>;
  /** -r. */
  readonly target: Float64Array<ArrayBuffer>;
}

/** Labels the lowest `skipRatio` fraction of r among some tokens as redundant; ties to the earlier token. */
function poseRanking(
  r: Float64Array,
  tokens: Int32Array<ArrayBuffer>,
  skipRatio: number,
): RankingTask {
  const target = Float64Array.from(tokens, (token) => -r[token]!);
  const order = Int32Array.from(target.keys()).sort((a, b) => target[b]! - target[a]! || a - b);
  const labels = new Uint8Array(tokens.length);
  for (const i of order.subarray(0, Math.floor(skipRatio * tokens.length + 0.5))) labels[i] = 1;
  return { tokens, labels, target };
}

const orNull = (x: number) => Number.isNaN(x) ? null : x;

/** AUROC and Spearman's correlation of every rule, in the order of {@linkcode headRules}. */
function rateRules(scores: RuleScores, { tokens, labels, target }: RankingTask): RuleQuality[] {
  const series = headRules().map((rule) => Float64Array.from(tokens, (token) => scores.get(rule)![token]!));
  const once: MovingBlocks = { length: tokens.length, resamples: 1, fill: (_, counts) => counts.fill(1) };
  const draws = resampleRankings(series, labels, target, once);
  return headRules().map((rule, i) => ({
    rule,
    auroc: orNull(draws[i]!.auroc[0]!),
    spearman: orNull(draws[i]!.spearman[0]!),
  }));
}

/** Pairs of rules that are compared: each against `random`, then those that the methods' claims are about. */
function listPairs(): readonly (readonly [HeadRule, HeadRule])[] {
  return [
    ...headRules().filter((rule) => rule !== "random").map((rule) => [rule, "random"] as const),
    ...RULES.flatMap(({ name, comparedWith = [] }) =>
      comparedWith.map((other) => [name, other as HeadRule] as const)
    ),
  ];
}

export interface RatedRules {
  readonly rules: readonly RuleQuality[];
  readonly draws: readonly RankingDraws[];
}

/** Resamples the ratings of every rule; an inverted rule's follow from the other's. */
export function resampleRules(
  scores: RuleScores,
  { tokens, labels, target }: RankingTask,
  blocks: MovingBlocks,
): RankingDraws[] {
  const drawn = RULES.map(({ name }) => name);
  const series = drawn.map((rule) => Float64Array.from(tokens, (token) => scores.get(rule)![token]!));
  const draws = resampleRankings(series, labels, target, blocks);
  const inverses = RULES.flatMap(({ inverted }, i) => inverted ? [draws[i]!] : []);
  return [
    ...draws,
    ...inverses.map(({ auroc, spearman }) => ({
      auroc: auroc.map((a) => 1 - a),
      spearman: spearman.map((s) => -s),
    })),
  ];
}

export function averageRules(layers: readonly RatedRules[]): RatedRules {
  const average = (series: readonly Float64Array[]) =>
    Float64Array.from(series[0]!, (_, i) => series.reduce((sum, own) => sum + own[i]!, 0) / series.length);
  return {
    rules: headRules().map((rule, i) => ({
      rule,
      auroc: meanOrNull(layers.map(({ rules }) => rules[i]!.auroc)),
      spearman: meanOrNull(layers.map(({ rules }) => rules[i]!.spearman)),
    })),
    draws: headRules().map((_, i) => ({
      auroc: average(layers.map(({ draws }) => draws[i]!.auroc)),
      spearman: average(layers.map(({ draws }) => draws[i]!.spearman)),
    })),
  };
}

export function withIntervals(
  { rules, draws }: RatedRules,
  confidence: number,
  roc?: { readonly scores: RuleScores; readonly task: RankingTask },
): RuleQualityWithIntervals[] {
  return rules.map((quality, i) => ({
    ...quality,
    aurocInterval: bound(quality.auroc, draws[i]!.auroc, confidence),
    spearmanInterval: bound(quality.spearman, draws[i]!.spearman, confidence),
    roc: roc === undefined ? [] : rocCurve(
      Float64Array.from(roc.task.tokens, (token) => roc.scores.get(quality.rule)![token]!),
      roc.task.labels,
      ROC_GRID,
    ),
  }));
}

export function compareRules({ rules, draws }: RatedRules, confidence: number): RuleComparison[] {
  return listPairs().map(([rule, against]) => {
    const a = headRules().indexOf(rule), b = headRules().indexOf(against);
    const difference = (statistic: "auroc" | "spearman") => {
      const x = rules[a]![statistic], y = rules[b]![statistic];
      const apart = draws[a]![statistic].map((draw, i) => draw - draws[b]![statistic][i]!);
      return bound(x === null || y === null ? null : x - y, apart, confidence);
    };
    return { rule, against, auroc: difference("auroc"), spearman: difference("spearman") };
  });
}

function bound(estimate: number | null, draws: Float64Array, confidence: number): Interval | null {
  return estimate === null || draws.every(Number.isNaN)
    ? null
    : percentileInterval(estimate, draws, confidence);
}
