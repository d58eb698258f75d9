/** Which rule ranks better than which, over all layers: differences with intervals. */
import type { RuleComparison } from "../../../heads/report.ts";
import type { Interval } from "../../../stats/bootstrap.ts";
import { axis, emptyFigure, type Figure } from "../../figure/figure.ts";
import { chartIntervals } from "../../figure/parts.ts";
import { styleRule } from "../../trials/rule_style.ts";
import type { RankMeasure } from "./rule_ranks.ts";

/** @internal A comparison of two rules on the same resamples; those of a report of `deno task heads` are such. */
export type RuleDifference = Omit<RuleComparison, "rule" | "against"> & {
  readonly rule: string;
  readonly against: string;
};

/** @internal The numbers of the plot. */
export interface RuleDifferences {
  readonly measure: RankMeasure;
  /** Rows, top first: by the baseline of the comparison, then by the estimate, best first. */
  readonly rows: readonly {
    readonly rule: string;
    readonly against: string;
    readonly difference: Interval;
  }[];
}

/** Gathers one measure; comparisons without a difference are left out. */
export function collectRuleDifferences(
  comparisons: readonly RuleDifference[],
  measure: RankMeasure,
): RuleDifferences {
  const rows = comparisons.flatMap(({ rule, against, [measure]: difference }) =>
    difference === null ? [] : [{ rule, against, difference }]
  );
  return {
    measure,
    rows: rows.sort((a, b) =>
      Number(a.against !== "random") - Number(b.against !== "random") ||
      b.difference.estimate - a.difference.estimate
    ),
  };
}

/** Rows between the two kinds of comparison. */
const GAP = 0.7;

/** Draws a row a comparison. */
export function plotRuleDifferences({ measure, rows }: RuleDifferences): Figure {
  const name = measure === "auroc" ? "AUROC" : "Spearman's correlation";
  const title = `Which rule ranks better: difference in ${name}, mean over layers`;
  if (rows.length === 0) {
    return emptyFigure(
      title,
      "No rule can be compared: a layer has no redundant or no needed tokens past the warm-up. Take a longer text, or a ratio above 0.",
    );
  }
  const signed = (x: number) => `${x < 0 ? "−" : "+"}${Math.abs(x).toFixed(3)}`;
  return chartIntervals(
    {
      title,
      caption:
        "Right of 0 the first rule ranks tokens by their true redundancy better than the second. Whiskers: paired " +
        "95% intervals over moving blocks of tokens; where they hold 0 the text is too short to tell.",
      xaxis: axis(measure === "auroc" ? "difference in AUROC" : "difference (Spearman)"),
    },
    rows.map(({ rule, against, difference: interval }) => ({
      name: `${rule} − ${against}`,
      interval,
      hover: `<b>${rule}</b> against ${against}<br>${signed(interval.estimate)} [${signed(interval.low)}, ${
        signed(interval.high)
      }]`,
      marker: styleRule(rule),
    })),
    // A gap separates the comparisons with random from those with other rules.
    rows.map(({ against }, row) => against === "random" ? row : row + GAP),
  );
}
