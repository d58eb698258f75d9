/**
 * The content of `heads.json`: how alike keys and values are to the past, head by head, and how well each rule
 * ranks the tokens whose attention does little. Plain data: numbers, strings, null where a number is undefined.
 *
 * Everything is measured in the **dense stream**: no token is skipped, so all rules see the same tokens. The true
 * redundancy of a token in a layer is `r = norm(o) / norm(x)`, o = the attention block's output after its projection,
 * x = the residual stream before it; small r = the attention did little. The oracle is r itself.
 */
import type { Environment } from "../environment.ts";
import type { Anchor, KeyState } from "../filter/options.ts";
import type { FilterShape } from "../filter/sequence.ts";
import { type RuleName, RULES } from "../methods/list.ts";
import type { RetrievalLayers } from "../model/retrieval.ts";
import type { BootstrapOptions, Interval } from "../stats/bootstrap.ts";
import type { Distribution } from "../stats/distribution.ts";

export type HeadRule = RuleName | `${RuleName} inverted`;
/** Rules that are compared: every rule, one of the user's own among them, and the inverses that serve as controls. */
export function headRules(): readonly HeadRule[] {
  const inverted = RULES.filter(({ inverted }) => inverted);
  return [...RULES.map(({ name }) => name), ...inverted.map(({ name }) => `${name} inverted` as const)];
}

/** False positive rates at which {@linkcode RuleQuality.roc} is given: 0, 1/32, …, 1. */
export const ROC_GRID: readonly number[] = Array.from({ length: 33 }, (_, i) => i / 32);

/** @internal Positions [from, to) in a sequence. */
export interface PositionBand {
  readonly from: number;
  readonly to: number;
}

export interface BandedDistribution {
  readonly all: Distribution;
  readonly bands: readonly Distribution[];
}

/** Similarities of one KV head with its anchors, over all tokens but the first of each sequence. */
interface HeadSimilarity {
  readonly head: number;
  readonly sK: Distribution;
  readonly sV: Distribution;
  /** `sK` by position in the sequence, one entry for each of {@linkcode HeadReport.bands}. */
  readonly sKBands: readonly Distribution[];
  readonly sVBands: readonly Distribution[];
}

/** How well a rule's score ranks the tokens of a layer by their true redundancy, over tokens past the warm-up. */
export interface RuleQuality {
  readonly rule: HeadRule;
  /**
   * Area under the ROC curve of S for "redundant" (r among the layer's lowest fraction rho): 1 = as the oracle, 0.5 =
   * chance. Null where all tokens are in one class.
   */
  readonly auroc: number | null;
  /** Spearman's correlation of S with -r: 1 = as the oracle, 0 = chance. Null where S is constant. */
  readonly spearman: number | null;
}

/** @internal A rule's quality with its uncertainty. */
export interface RuleQualityWithIntervals extends RuleQuality {
  readonly aurocInterval: Interval | null;
  readonly spearmanInterval: Interval | null;
  /** True positive rates at {@linkcode ROC_GRID}; empty where `auroc` is null, and in `overall`. */
  readonly roc: readonly number[];
}

/** @internal Difference of two rules on the same resamples: `rule` minus `against`; above 0 = `rule` ranks better. */
export interface RuleComparison {
  readonly rule: HeadRule;
  readonly against: HeadRule;
  readonly auroc: Interval | null;
  /** Difference in Spearman's correlation with -r. */
  readonly spearman: Interval | null;
}

/** Distributions of the view's similarities (as in `ScanOutput`), and of the keys' weight under `variance`. */
type ViewMoments = { readonly [name in "muK" | "varK" | "muV" | "varV" | "wK"]: BandedDistribution };

export interface ViewLayer extends ViewMoments {
  readonly layer: number;
  readonly heads: readonly HeadSimilarity[];
  /** Score S of each rule, in the order of {@linkcode headRules}. `learned` has none in the warm-up. */
  readonly scores: readonly { readonly rule: HeadRule; readonly score: BandedDistribution }[];
  readonly rules: readonly RuleQuality[];
}

/** @internal The filter's input: which keys, and which anchors. */
export interface HeadView {
  readonly keyState: KeyState;
  readonly anchor: Anchor;
  readonly layers: readonly ViewLayer[];
}

/** @internal One layer of the main view: results under the method's own options, with intervals. */
export interface MainLayer {
  readonly layer: number;
  /** Fraction of the layer's tokens that count as redundant, and that the method is asked to skip: rho. */
  readonly skipRatio: number;
  /** Fraction of tokens past the warm-up that the method would skip; null where none is past it. */
  readonly skipped: number | null;
  /** True redundancy r over all tokens. */
  readonly r: BandedDistribution;
  readonly rules: readonly RuleQualityWithIntervals[];
  /** Each rule against `random`, then against those that it claims to rank better than. */
  readonly comparisons: readonly RuleComparison[];
  /** Weights of the `learned` rule on its standardised features, mean over the sequences' last fits; empty if none. */
  readonly learnedWeights: readonly number[];
}

/** Numbers of the method's scan by their names in `ScanOutput` (S: redundancy, theta: threshold); null where there is none. */
type ScanColumns = {
  readonly [name in "muK" | "muV" | "varK" | "varV" | "wK" | "S" | "theta"]: readonly (number | null)[];
};

/** @internal Tokens as columns of one length, one entry for each (token, layer): layers ascending, tokens ascending in each. */
export interface TokenColumns extends ScanColumns {
  readonly token: readonly number[];
  readonly position: readonly number[];
  readonly layer: readonly number[];
  /** Decision of the method: 1 = compute, 0 = skip. */
  readonly keep: readonly (0 | 1)[];
  /** True redundancy. */
  readonly r: readonly number[];
}

/** @internal Consecutive tokens of one sequence, with their texts. */
export interface Excerpt {
  readonly texts: readonly string[];
  /** Index in the token stream of the first. */
  readonly firstToken: number;
  readonly columns: TokenColumns;
}

/** @internal The options that the report was made with. */
export interface HeadOptions {
  /** The method whose decisions are shown: its effective options, by name. */
  readonly method: Readonly<Record<string, unknown>>;
  /** Tokens kept at the start of a sequence; they take no part in AUROC and Spearman. */
  readonly warmup: number;
  /** Seed of `random` and of the projections of `learned`: a number, or a decimal string where it is not safe. */
  readonly seed: number | string;
  /** How intervals are made: moving blocks of `blockSize` tokens, the same for all layers and rules. */
  readonly bootstrap: Required<BootstrapOptions>;
}

/** Everything that `deno task heads` finds out. */
export interface HeadReport {
  /** Version of this format. */
  readonly format: 1;
  /** Model, text, protocol, versions and machine. */
  readonly environment: Environment;
  /** The model's sizes. */
  readonly shape: Omit<FilterShape, "layers">;
  /** The options of the collection. */
  readonly options: HeadOptions;
  /** Bands of position in a sequence, ascending; the first ends with the warm-up where there is one. */
  readonly bands: readonly PositionBand[];
  /** Pre- and post-rope keys x `ema` and `mean` anchors; the method's own view first. */
  readonly views: readonly HeadView[];
  /** Measured layers in the method's own view, ascending. */
  readonly layers: readonly MainLayer[];
  /** Means over the measured layers, with intervals over the same resamples. */
  readonly overall: {
    readonly rules: readonly RuleQualityWithIntervals[];
    readonly comparisons: readonly RuleComparison[];
  };
  /** Names of the features of `learned`, in the order of {@linkcode MainLayer.learnedWeights}. */
  readonly learnedFeatures: readonly string[];
  /** Where the model retrieves, as the probe of `whole: "auto"` finds it; `deno task heads` adds it. */
  readonly retrieval?: RetrievalLayers;
  /** Tokens past the first of each sequence, evenly spread over the stream, the same in every layer. */
  readonly sample: TokenColumns;
  /** Tokens in a row. */
  readonly excerpt: Excerpt;
}
