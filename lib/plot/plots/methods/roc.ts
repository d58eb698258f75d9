/** ROC curves: how well each rule's score finds the tokens whose attention does little. */
import type { RuleQualityWithIntervals } from "../../../heads/report.ts";
import { chooseLayer } from "../../figure/choice_slider.ts";
import { axis, emptyFigure, type Figure, type JsonObject } from "../../figure/figure.ts";
import { chart, missingClasses, shorten, trace } from "../../figure/parts.ts";
import { HIDDEN_NOTE, styleRule, visibilityOf } from "../../trials/rule_style.ts";

/**
 * The numbers of the plot. In each layer, ascending, rules are in the order of the legend: `x` are false positive
 * rates, ascending, and `y` true positive rates. `auroc` is 1 for the oracle, 0.5 for a random order, and null where
 * all tokens are in one class.
 */
type Roc = ReturnType<typeof collectRoc>;

/**
 * Gathers the curves of a report's layers; each begins at (0, 0).
 *
 * @param grid False positive rates at which `roc` of each rule is given.
 */
export function collectRoc(
  layers: readonly {
    readonly layer: number;
    readonly rules: readonly ({ readonly rule: string } & Pick<RuleQualityWithIntervals, "auroc" | "roc">)[];
  }[],
  grid: readonly number[],
) {
  return {
    layers: layers.map(({ layer, rules }) => ({
      layer,
      curves: rules.filter(({ roc }) => roc.length > 0)
        .map(({ rule, auroc, roc }) => ({ rule, auroc, x: [0, ...grid], y: [0, ...roc] }))
        .sort((a, b) => styleRule(a.rule).rank - styleRule(b.rule).rank),
    })),
  };
}

export function plotRoc({ layers }: Roc): Figure {
  const title = "ROC curves of the rules";
  const drawn = layers.filter(({ curves }) => curves.length > 0);
  if (drawn.length === 0) {
    return emptyFigure(title, missingClasses("No curve"));
  }
  const hidden = drawn.some(({ curves }) => curves.some(({ rule }) => !styleRule(rule).main));
  const line = { color: "@muted", width: 1, dash: "dash" };
  const chance = trace({ name: "chance", showlegend: false, x: [0, 1], y: [0, 1], line });
  const rate = { range: [-0.01, 1.01], tickformat: ".0%" };
  const { data, layout } = chooseLayer(drawn, ({ curves }) => curves.map(curveOf), [chance]);
  return chart({
    title,
    caption:
      "Redundant = the tokens whose attention adds least in the layer (small norm(o)/norm(x)), as many as the " +
      "layer is asked to skip. Above the dashed diagonal a rule does better than chance, below it worse. Beside a " +
      "name: the area under its curve." + (hidden ? HIDDEN_NOTE : ""),
    height: 500,
    data,
    xaxis: axis("needed tokens skipped (false positive rate)", rate),
    yaxis: axis("redundant tokens skipped (true positive rate)", rate),
    ...layout,
  });
}

function curveOf({ rule, auroc, x, y }: Roc["layers"][number]["curves"][number]): JsonObject {
  const { color, dash } = styleRule(rule), name = `${rule} ${auroc === null ? "–" : auroc.toFixed(2)}`;
  return trace({
    name,
    visible: visibilityOf(rule),
    x: shorten(x),
    y: shorten(y),
    hover: `${name}<br>skips %{y:.1%} of the redundant<br>and %{x:.1%} of the needed tokens`,
    line: { color, dash, width: 2 },
  });
}
