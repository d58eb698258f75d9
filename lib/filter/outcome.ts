/** The outcome y that a rule learns to predict: the error that skipping a computed token would have caused. */

/** Substitutes for a skipped token's attention output. */
export const SUBSTITUTES = ["none", "mean", "last", "local"] as const;
type SubstituteName = (typeof SUBSTITUTES)[number];

/** Added to norms before their logarithm. */
export const NORM_EPS = 1e-6;
/** Added to a substitute's relative error before its logarithm: differences between smaller errors do not matter. */
const ERROR_EPS = 1e-3;
/** Tokens beyond the sinks and the window from which on a local substitute's error is informative. */
const FIRST_FAR = 8;

interface OutcomeRules {
  readonly substitute: SubstituteName;
  readonly sinks: number;
  readonly recent: number;
}

/**
 * The outcome of a token: ln((norm(o)+1e-6)/(norm(x)+1e-6)), o = the attention block's output, x = the residual stream before
 * it; with a substitute ln(norm(o - substitute)/norm(x) + 1e-3).
 */
export function outcomeOf(
  { substitute }: Pick<OutcomeRules, "substitute">,
  norm: number,
  residualNorm: number,
): number {
  return substitute === "none"
    ? Math.log((norm + NORM_EPS) / (residualNorm + NORM_EPS))
    : Math.log(norm / residualNorm + ERROR_EPS);
}

/** The first token of a sequence whose outcome counts: before it a local substitute has hardly an error to be learned. */
export function firstOutcome({ substitute, sinks, recent }: OutcomeRules): number {
  return substitute === "local" ? recent + sinks + FIRST_FAR : 0;
}
