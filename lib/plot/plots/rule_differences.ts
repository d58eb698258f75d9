/** Which rule ranks better than which, over all layers: differences with intervals. */
import type { RuleComparison } from "../../heads/report.ts";
import type { Interval } from "../../stats/bootstrap.ts";
import { axis, baseLayout, emptyFigure, Figure } from "../figure/figure.ts";
import { dashedLine, rowAxis } from "../figure/parts.ts";
import { shorten } from "./layer_trace.ts";
import type { RankMeasure } from "./rule_ranks.ts";
import { styleRule } from "../figure/rule_style.ts";

/** @internal A comparison of two rules on the same resamples; those of a report of `deno task heads` are such. */
export type RuleDifference = Omit<RuleComparison, "rule" | "against"> & {
  readonly rule: string;
  readonly against: string;
};

/** @internal The numbers of the plot. */
export interface RuleDifferences {
  /** What is measured. */
  readonly measure: RankMeasure;
  /** Rows, top first: by what they are compared with, then by the estimate, best first. */
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
  const groups = Map.groupBy(comparisons, ({ against }) => against === "random" ? "random" : "rules");
  return {
    measure,
    rows: [...groups.get("random") ?? [], ...groups.get("rules") ?? []].flatMap((comparison) => {
      const difference = comparison[measure];
      return difference === null ? [] : [{ rule: comparison.rule, against: comparison.against, difference }];
    }).sort((a, b) =>
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
  // A gap parts what is compared with random from what is compared with other rules.
  const places = rows.map(({ against }, row) => against === "random" ? row : row + GAP);
  const signed = (x: number) => `${x < 0 ? "−" : "+"}${Math.abs(x).toFixed(3)}`;
  return new Figure({
    title,
    caption:
      "Right of 0 the first rule ranks tokens by their true redundancy better than the second. Whiskers: paired " +
      "95% intervals over moving blocks of tokens; where they hold 0 the text is too short to tell.",
    height: 120 + 25 * (places.at(-1)! + 1),
    data: [{
      type: "scatter",
      mode: "markers",
      x: shorten(rows.map(({ difference }) => difference.estimate)),
      y: places,
      error_x: {
        type: "data",
        symmetric: false,
        array: shorten(rows.map(({ difference }) => difference.high - difference.estimate)),
        arrayminus: shorten(rows.map(({ difference }) => difference.estimate - difference.low)),
        thickness: 1.6,
        width: 5,
        color: "@muted",
      },
      text: rows.map(({ rule, against, difference: { estimate, low, high } }) =>
        `<b>${rule}</b> against ${against}<br>${signed(estimate)} [${signed(low)}, ${signed(high)}]`
      ),
      hovertemplate: "%{text}<extra></extra>",
      marker: {
        color: rows.map(({ rule }) => styleRule(rule).color),
        symbol: rows.map(({ rule }) => styleRule(rule).symbol),
        size: 9,
        line: { width: 1.6, color: rows.map(({ rule }) => styleRule(rule).color) },
      },
    }],
    layout: baseLayout({
      xaxis: axis(measure === "auroc" ? "difference in AUROC" : "difference (Spearman)"),
      yaxis: rowAxis(
        rows.map(({ rule, against }) => `${rule} − ${against}`),
        { title: { text: "" }, range: [places.at(-1)! + 0.6, -0.6] },
        places,
      ),
      hovermode: "closest",
      showlegend: false,
      shapes: [dashedLine("x", 0)],
    }),
  });
}
