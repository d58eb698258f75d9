/** AUROC and Spearman's correlation of each rule, layer by layer, with intervals. */
import type { RuleQualityWithIntervals } from "../../../heads/report.ts";
import { axis, emptyFigure, type Figure } from "../../figure/figure.ts";
import {
  type Band,
  chart,
  dashedLine,
  layerAxis,
  markOf,
  missingClasses,
  shorten,
  trace,
  whiskers,
} from "../../figure/parts.ts";
import { HIDDEN_NOTE, styleRule, visibilityOf } from "../../trials/rule_style.ts";

/** @internal A measure of a rule's quality. */
export type RankMeasure = "auroc" | "spearman";

/** @internal A rule's quality in one layer, with intervals where there are some; rules of a report of `deno task heads` are such. */
export type RankedRule =
  & { readonly rule: string }
  & Pick<RuleQualityWithIntervals, RankMeasure>
  & Partial<Pick<RuleQualityWithIntervals, `${RankMeasure}Interval`>>;

interface RankCurve extends Band {
  readonly rule: string;
  /** Its measure in each layer; null where undefined. */
  readonly values: readonly (number | null)[];
}

/** @internal The numbers of the plot. */
export interface RuleRanks {
  readonly measure: RankMeasure;
  readonly layers: readonly number[];
  /** In the order of the legend. */
  readonly curves: readonly RankCurve[];
}

/** Gathers one measure. */
export function collectRuleRanks(
  layers: readonly { readonly layer: number; readonly rules: readonly RankedRule[] }[],
  measure: RankMeasure,
): RuleRanks {
  const rules = [...new Set(layers.flatMap(({ rules }) => rules.map(({ rule }) => rule)))]
    .sort((a, b) => styleRule(a).rank - styleRule(b).rank);
  return {
    measure,
    layers: layers.map(({ layer }) => layer),
    curves: rules.map((rule) => {
      const own = layers.map(({ rules }) => rules.find((other) => other.rule === rule));
      const interval = own.map((quality) => quality?.[`${measure}Interval`] ?? null);
      return {
        rule,
        values: own.map((quality) => quality?.[measure] ?? null),
        low: interval.map((i) => i?.low ?? null),
        high: interval.map((i) => i?.high ?? null),
      };
    }),
  };
}

const WORDS = {
  auroc: {
    title: "Which rule finds the redundant tokens (AUROC per layer)",
    caption: "Chance that a redundant token scores above a needed one: 1 = as the oracle, 0.5 = chance.",
    axis: "AUROC",
    chance: 0.5,
  },
  spearman: {
    title: "Which rule ranks tokens by redundancy (Spearman per layer)",
    caption:
      "Rank correlation of the score with the true redundancy (low norm(o)/norm(x)): 1 = as the oracle, 0 = " +
      "chance, below 0 = the wrong way round.",
    axis: "Spearman's correlation",
    chance: 0,
  },
};
/** Space between two layers over which the marks of the rules are spread. */
const SPREAD = 0.56;

/** Draws every rule over the layers. */
export function plotRuleRanks({ measure, layers, curves }: RuleRanks): Figure {
  const words = WORDS[measure];
  if (curves.every(({ values }) => values.every((v) => v === null))) {
    return emptyFigure(words.title, missingClasses("No rule can be ranked"));
  }
  const main = curves.map(({ rule }) => rule).filter((rule) => styleRule(rule).main);
  const shown = (v: number | null) => v === null ? "none" : v.toFixed(3);
  const some = curves.some(({ low }) => low.some((x) => x !== null));
  return chart({
    title: words.title,
    caption: words.caption + (some ? " Whiskers: 95% intervals over moving blocks of tokens." : "") +
      (main.length < curves.length ? HIDDEN_NOTE : ""),
    height: 460,
    data: curves.map(({ rule, values, low, high }) => {
      const { color, dash, symbol } = styleRule(rule), nth = main.indexOf(rule);
      // Where a rule's mark is next to the others of the same layer.
      const shift = nth < 0 || main.length < 2 ? 0 : SPREAD * (nth / (main.length - 1) - 0.5);
      return trace({
        name: rule,
        visible: visibilityOf(rule),
        x: shorten(layers.map((layer) => layer + shift), 6),
        y: shorten(values),
        error_y: whiskers(values, { low, high }, { thickness: 1.3, width: 0, color }),
        hover: layers.map((layer, i) =>
          `<b>${rule}</b>, layer ${layer}<br>${words.axis} ${shown(values[i]!)}` +
          (low[i] === null ? "" : ` [${shown(low[i]!)}, ${shown(high[i]!)}]`)
        ),
        line: { color, width: 1, dash },
        marker: markOf(color, symbol, layers.length > 12 ? 5 : 7, 1.4),
      });
    }),
    xaxis: layerAxis(layers, {
      title: { text: "layer", standoff: 10 },
      range: [layers[0]! - 0.6, layers.at(-1)! + 0.6],
    }),
    yaxis: axis(words.axis),
    shapes: [dashedLine("y", words.chance)],
  });
}
