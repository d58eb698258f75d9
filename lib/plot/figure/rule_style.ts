/** How a fusion rule looks: the same colour and mark in every plot. */
import { NUM_SERIES_COLORS } from "./theme.ts";

/** Rules in the order of a legend; a rule's place gives its colour and its mark. */
const RULES = ["learned", "variance", "oracle", "mean", "key", "value", "static", "min", "max", "product"];
const SYMBOLS = [
  "circle",
  "square",
  "diamond",
  "triangle-up",
  "triangle-down",
  "cross",
  "x",
  "pentagon",
  "hexagram",
  "star",
];

/** The rules that the method is judged by; plots show the others when they are asked for. */
const MAIN = new Set([
  "learned",
  "variance",
  "variance inverted",
  "key",
  "value",
  "mean",
  "random",
  "oracle",
]);

/** Looks of a rule. */
export interface RuleStyle {
  /** Place in a legend. */
  readonly rank: number;
  /** Name of a colour. */
  readonly color: string;
  /** Plotly's name of a mark; an open one where the rule is inverted. */
  readonly symbol: string;
  /** Plotly's name of a dash. */
  readonly dash: string;
  /** Whether a plot shows it unasked. */
  readonly main: boolean;
}

/** Looks of a rule, `… inverted` and rules of a reader's own included. */
export function styleRule(rule: string): RuleStyle {
  const plain = rule.replace(/ inverted$/, ""), inverted = plain !== rule;
  const place = RULES.indexOf(plain), own = place < 0 ? RULES.length : place;
  const random = plain === "random";
  return {
    rank: 2 * (random ? RULES.length + 1 : own) + Number(inverted),
    color: random ? "@muted" : `@series${own % NUM_SERIES_COLORS}`,
    symbol: `${random ? "hourglass" : SYMBOLS[own % SYMBOLS.length]}${inverted ? "-open" : ""}`,
    dash: random ? "dot" : inverted ? "dash" : own < NUM_SERIES_COLORS ? "solid" : "dashdot",
    main: MAIN.has(rule) || place < 0 && !random,
  };
}

/** What a caption adds where some rules are not shown unasked. */
export const HIDDEN_NOTE = " Pale names show when pressed.";

/** A rule's visibility in plotly's words. */
export function visibilityOf(rule: string): boolean | "legendonly" {
  return styleRule(rule).main || "legendonly";
}
