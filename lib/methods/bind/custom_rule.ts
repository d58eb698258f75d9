/** Token Filtering with a rule of one's own: a function of a token instead of a rule of the list. */
import { expectOptions, expectTypeOf } from "../../errors.ts";
import { showValue } from "../../filter/option.ts";
import type { RuleToken } from "../../filter/rule.ts";
import type { FilterShape } from "../../filter/sequence.ts";
import { type ResolvedOptions, resolveOptions, type TokenFilterOptions } from "./options.ts";
import { CONTEXT, type Pruner, type PrunerContext } from "../protocol/pruner.ts";
import { filtersQueries } from "./sides.ts";
import { withKeySide } from "./key_side.ts";
import { createRulePruner } from "./rule_pruner.ts";

/** @internal Inputs of a user's own rule: one token in one layer, before its attention. */
export type ScoredToken = Omit<RuleToken, "queries">;

/** Redundancy of a token: high = skip. It is finite, or NaN for the first token of a sequence, which is kept. */
export type TokenScore = (token: ScoredToken) => number;

/** Token Filtering's options; those of its rules have no effect, and anchors absorb all tokens. */
export type CustomRuleOptions = Omit<TokenFilterOptions, "preset" | "fusion" | "absorb" | "side">;

/**
 * Binds a rule of one's own to a model's shape. Layer plan, warm-up, thresholds, anchors and the recent window are those
 * of Token Filtering, so that only the score differs.
 *
 * @param score Redundancy of a token; called once for each token and filtered layer, in order.
 * @throws {TypeError | RangeError} If an option is wrong or the schedule is unreachable. The pruner throws them at the
 * first token that has no finite number for a score.
 *
 * @example
 * ```ts
 * import { createCustomRule } from "@tokenfilter/tokenfilter";
 * const shape = { numLayers: 8, numHeads: 4, numKvHeads: 2, headDim: 32, hiddenSize: 128 };
 * const pruner = createCustomRule(shape, ({ value }) => -Math.hypot(...value), { pruneRatio: 0.3 });
 * console.assert(pruner.name === "scored" && pruner.layers.length === 6);
 * ```
 */
export function createCustomRule(
  shape: FilterShape,
  score: TokenScore,
  options: CustomRuleOptions = {},
  context: PrunerContext = {},
): Pruner {
  expectTypeOf("score", score, "function");
  expectOptions(context, CONTEXT);
  const rule = {
    name: "scored",
    help: "",
    reads: () => READS,
    score: (token: ScoredToken) => expectScore(score(token), token),
  };
  const resolved: ResolvedOptions = resolveOptions({ ...options, absorb: "all" });
  if (!filtersQueries(resolved)) {
    throw new RangeError(
      "Cannot bind a rule of one's own only to keys and values: expected a pruneRatio above 0",
    );
  }
  const queries = () => createRulePruner(rule.name, rule, shape, resolved, context);
  return withKeySide(queries, shape, resolved, context);
}

/**
 * A score as it is. A rule that gives none would skip nothing, and look better than any.
 *
 * @throws {TypeError} If it is no number.
 * @throws {RangeError} If it is not finite.
 */
export function expectScore(score: unknown, { layer, position }: ScoredToken): number {
  const refuse = (found: string) =>
    `Cannot score token ${position} of layer ${layer}: found ${found}, expected a finite number`;
  if (typeof score !== "number") {
    throw new TypeError(refuse(score instanceof Promise ? "a Promise" : showValue(score)));
  }
  if (Number.isFinite(score) || (position === 0 && Number.isNaN(score))) return score;
  throw new RangeError(refuse(String(score)));
}

const READS = ["similarity", "key", "value", "residual", "normed"] as const;
