/** What methods take, in words: `experiments/tools/docs/reference_pages.ts` writes this file from the table of options. */
import type { Given } from "../../filter/option.ts";
import type { KeyRuleName, MethodName } from "../list.ts";
import type { Options } from "./option_table.ts";

/** Options of a method, `fusion` saying which; all may be left out. Those without effect under it are accepted. */
export interface MethodOptions extends Given<Options> {
  /** Options to start from; other flags override them. */
  readonly preset?: "paper" | "keys" | "retrieval" | "local";
  /**
   * Sides that are filtered; query: every key and value stays; key: every attention is computed, and `fusion`
   * and `pruneRatio` decide keys and values; both: as the other flags set (both).
   */
  readonly side?: "query" | "key" | "both";
  /** Short for `kvFusion` none. Default: false. */
  readonly cacheSkipped?: boolean;
  /** Method that selects what to skip or evict. Default: variance. */
  readonly fusion?: MethodName;
  /** Negate the score: a control. Default: false. */
  readonly invert?: boolean;
  /**
   * The method's own decisions in a random order beyond the warm-up, by `seed`: a non-causal control.
   * Default: false.
   */
  readonly shuffle?: boolean;
  /** Sharpness of the weights. In [0, 64]. Default: 1. Only with `fusion` variance. */
  readonly tau?: number;
  /** How much disagreement of heads lowers the score. In [0, 64]. Default: 0. Only with `fusion` variance. */
  readonly lambda?: number;
  /** Added to variances before weighing. In (0, 1]. Default: 0.000001. Only with `fusion` variance. */
  readonly eps?: number;
  /** Weight of the keys. In [0, 1]. Default: 0.5. Only with `fusion` static. */
  readonly alpha?: number;
  /** Seed of the random draws. Default: 0. Only with `fusion` random, random-protected, learned. */
  readonly seed?: number | bigint;
  /** How anchors follow the past. Default: ema. */
  readonly anchor?: "ema" | "mean";
  /** Decay of the anchor. In [0, 1). Default: 0.9. Only with `anchor` ema. */
  readonly gamma?: number;
  /** Which tokens move the anchors. Default: all. */
  readonly absorb?: "all" | "kept";
  /** Ratio of attention to skip after the warm-up, over all layers. In [0, 1). Default: 0.5. */
  readonly pruneRatio?: number;
  /**
   * Fraction of the layers that are filtered, the last ones. In (0, 1]. Default: 0.75; heads: 1, all are
   * measured.
   */
  readonly tail?: number;
  /** How the ratio is spread over filtered layers. Default: uniform. */
  readonly schedule?: "uniform" | "ramp" | "allocated" | "explicit";
  /** Relative rise to the last layer. In [0, 1]. Default: 0.5. Only with `schedule` ramp. */
  readonly slope?: number;
  /** A list of one ratio per layer. Only with `schedule` explicit. */
  readonly skipRatios?: readonly number[] | undefined;
  /** Tokens kept at the start of a sequence. In [0, 1000000]. Default: 32. */
  readonly warmup?: number;
  /** Threshold policy. Default: budget. */
  readonly threshold?: "budget" | "window" | "robbins-monro" | "fixed" | "topk";
  /** Scores to look back on. In [1, 65536]. Default: 256. Only with `threshold` budget, window. */
  readonly window?: number;
  /** The threshold. Default: 0. Only with `threshold` fixed. */
  readonly theta?: number;
  /** Step size. In (0, 10]. Default: 0.1. Only with `threshold` robbins-monro. */
  readonly eta?: number;
  /** Keys that the filter reads. Default: post-rope. */
  readonly keyState?: "post-rope" | "pre-rope";
  /**
   * Tokens of the recent window, whose keys and values stay visible whatever was decided. In [0, 65536].
   * Default: 16.
   */
  readonly recent?: number;
  /**
   * Attention output of a skipped token: nothing, the mean of earlier ones, the last one, or that of
   * attention over only the first and the recent tokens. Default: none.
   */
  readonly substitute?: "none" | "mean" | "last" | "local";
  /**
   * Tokens at the start of a sequence that such attention reads. In [0, 1024]. Default: 4. Only with
   * `substitute` local.
   */
  readonly sinks?: number;
  /**
   * Tokens that a rule learns from at once, and after which keys and values are decided. In [1, 65536].
   * Default: 32.
   */
  readonly block?: number;
  /**
   * Keys and values to evict: of skipped tokens (same), none, or those that a rule selects. Default: same.
   */
  readonly kvFusion?: "same" | "none" | KeyRuleName;
  /**
   * Ratio of keys and values to evict after the warm-up, over all layers. In [0, 1). Default: as
   * `pruneRatio`.
   */
  readonly kvRatio?: number;
  /**
   * Fraction of the layers that may evict keys and values, the last ones. In (0, 1]. Default: `tail` where
   * given, else 1.
   */
  readonly kvTail?: number;
  /**
   * Layers that keep every key and value; auto: the retrieval layers that the model shows by one probe;
   * heads: its retrieval heads, KV heads of any layer. Default: none.
   */
  readonly whole?: "none" | "auto" | "heads" | readonly number[];
  /**
   * The smallest set of layers or heads with this fraction of the summed retrieval score. In (0, 1]. Default:
   * 0.75. Only with `whole` auto, heads.
   */
  readonly wholeFraction?: number;
  /**
   * Fraction of the tokens, those of largest value norm, that are skipped last. In (0, 1). Default: 0.1. Only
   * with `fusion` random-protected.
   */
  readonly protect?: number;
  /** Ridge of the regression. In (0, 1e12]. Default: 1. Only with `fusion` learned. */
  readonly ridge?: number;
  /** Number of random projections. In [0, 256]. Default: 16. Only with `fusion` learned. */
  readonly projections?: number;
  /**
   * Some of similarity, norm, projection, query, local. Default: similarity, norm, projection; local too with
   * that substitute. Only with `fusion` learned.
   */
  readonly features?: readonly ("similarity" | "norm" | "projection" | "query" | "local")[];
  /** Layers at either end that stay. In [0, 64]. Default: 1. Only with `fusion` sleb. */
  readonly barrier?: number;
  /** Add the mean output of the removed units as a bias. Default: true. Only with `fusion` flap. */
  readonly compensation?: boolean;
}
