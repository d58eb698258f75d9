/** ROC curves: how well each rule's score finds the tokens whose attention does little. */
import { choose } from "../figure/choice_slider.ts";
import { axis, emptyFigure, type Figure, type JsonObject } from "../figure/figure.ts";
import { chart, shorten, trace } from "../figure/parts.ts";
import { type Column, numbersOf } from "./layer_trace.ts";
import { HIDDEN_NOTE, styleRule, visibilityOf } from "../trials/rule_style.ts";

export interface RocCurve {
  readonly rule: string;
  /** Area under it: 1 = as the oracle, 0.5 = chance; null where all tokens are in one class. */
  readonly auroc: number | null;
  /** False positive rates, ascending. */
  readonly x: readonly number[];
  /** True positive rates at these. */
  readonly y: readonly number[];
}

export interface Roc {
  /** Layers, ascending; in each, rules in the order of the legend. */
  readonly layers: readonly { readonly layer: number; readonly curves: readonly RocCurve[] }[];
}

/**
 * Gathers the curves of a report's layers; each begins at (0, 0).
 *
 * @param grid False positive rates at which `roc` of each rule is given.
 */
export function collectRoc(
  layers: readonly {
    readonly layer: number;
    readonly rules: readonly {
      readonly rule: string;
      readonly auroc: number | null;
      readonly roc: readonly number[];
    }[];
  }[],
  grid: readonly number[],
): Roc {
  return {
    layers: layers.map(({ layer, rules }) => ({
      layer,
      curves: rules.filter(({ roc }) => roc.length > 0)
        .map(({ rule, auroc, roc }) => ({ rule, auroc, x: [0, ...grid], y: [0, ...roc] }))
        .sort((a, b) => styleRule(a.rule).rank - styleRule(b.rule).rank),
    })),
  };
}

/**
 * The curve of one score: every threshold, from the highest score down; tokens of equal score enter together.
 *
 * @param scores High = redundant. Tokens without a score take no part.
 * @param r True redundancy of the same tokens.
 * @param share The share of the tokens, those of lowest r, that count as redundant.
 *
 * @example
 * ```ts
 * const curve = traceRoc("mine", [0.9, 0.8, 0.1, 0.2], [1, 2, 3, 4], 0.5);
 * console.assert(curve.auroc === 1 && curve.y[1] === 0.5);
 * ```
 */
export function traceRoc(rule: string, scores: Column, r: Column, share: number): RocCurve {
  const S = numbersOf(scores), truth = numbersOf(r);
  const rows = S.map((_, t) => t).filter((t) => S[t] !== null && truth[t] !== null);
  const count = Math.round(share * rows.length);
  const redundant = new Set([...rows].sort((a, b) => truth[a]! - truth[b]! || a - b).slice(0, count));
  if (count === 0 || count === rows.length) return { rule, auroc: null, x: [], y: [] };
  rows.sort((a, b) => S[b]! - S[a]!);
  const x = [0], y = [0];
  let hits = 0, misses = 0, area = 0;
  for (let i = 0; i < rows.length;) {
    const score = S[rows[i]!]!;
    for (; i < rows.length && S[rows[i]!] === score; i++) redundant.has(rows[i]!) ? hits++ : misses++;
    const fpr = misses / (rows.length - count), tpr = hits / count;
    area += (fpr - x.at(-1)!) * (tpr + y.at(-1)!) / 2;
    x.push(fpr);
    y.push(tpr);
  }
  return { rule, auroc: area, x, y };
}

export function plotRoc({ layers }: Roc): Figure {
  const title = "ROC curves of the rules";
  const drawn = layers.filter(({ curves }) => curves.length > 0);
  if (drawn.length === 0) {
    return emptyFigure(
      title,
      "No curve: no layer has both redundant and needed tokens past the warm-up. Take a longer text, or a ratio above 0.",
    );
  }
  const hidden = drawn.some(({ curves }) => curves.some(({ rule }) => !styleRule(rule).main));
  const line = { color: "@muted", width: 1, dash: "dash" };
  const chance = trace({ name: "chance", showlegend: false, x: [0, 1], y: [0, 1], line });
  const rate = { range: [-0.01, 1.01], tickformat: ".0%" };
  const { data, layout } = choose(
    "layer",
    drawn.map(({ layer, curves }) => ({ label: String(layer), traces: curves.map(curveOf) })),
    { always: [chance] },
  );
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

/** Points of a drawn curve: more cannot be told apart. */
const MAX_POINTS = 201;

function curveOf({ rule, auroc, x, y }: RocCurve): JsonObject {
  const every = Math.max(1, (x.length - 1) / (MAX_POINTS - 1));
  const rows = [
    ...new Set(Array.from({ length: Math.min(x.length, MAX_POINTS) }, (_, i) => Math.round(i * every))),
  ];
  const { color, dash } = styleRule(rule), name = `${rule} ${auroc === null ? "–" : auroc.toFixed(2)}`;
  return trace({
    name,
    visible: visibilityOf(rule),
    x: shorten(rows.map((i) => x[i]!)),
    y: shorten(rows.map((i) => y[i]!)),
    hover: `${name}<br>skips %{y:.1%} of the redundant<br>and %{x:.1%} of the needed tokens`,
    line: { color, dash, width: 2 },
  });
}
