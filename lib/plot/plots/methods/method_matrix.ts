/** Wins between methods: every pair of methods of a comparison, task by task and in all. */
import type { Comparison } from "../../../sweep/compare/comparison.ts";
import type { ComparedPair } from "../../../sweep/compare/verdicts.ts";
import { choose } from "../../figure/choice_slider.ts";
import { axis, emptyFigure, escapeText, type Figure, type JsonObject } from "../../figure/figure.ts";
import { plural } from "../../../plural.ts";
import { chart, colorScale } from "../../figure/parts.ts";
import { withoutRatio } from "../../trials/rule_style.ts";
import { isControl } from "../../trials/trial_label.ts";

export const pairRatios = (
  { pairs = [] }: Pick<Comparison, "pairs">,
): (number | undefined)[] => [...new Set(pairs.map(({ asked }) => asked))];

/**
 * The numbers of the plot, of all tasks and then of each: how often a method is significantly better or worse than
 * another, [method][other]; null on the diagonal.
 */
type MethodMatrix = ReturnType<typeof collectMethodMatrix>;

/**
 * Gathers the pairs of one fraction, by default the first one; methods that win most come first.
 *
 * @throws {TypeError} If it is not a comparison.
 */
export function collectMethodMatrix(
  { methods, pairs = [] }: Comparison,
  asked: number | undefined = pairRatios({ pairs })[0],
) {
  if (!Array.isArray(methods)) throw new TypeError("Cannot gather pairs: expected a comparison");
  const controls = new Set(
    methods.flatMap(({ name, options }) => options && isControl(options) ? [name] : []),
  );
  const own = pairs.filter((pair) =>
    pair.asked === asked && !controls.has(pair.method) && !controls.has(pair.other)
  );
  const names = [...new Set(own.flatMap(({ method, other }) => [other, method]))];
  const countsOf = (some: readonly ComparedPair[], row: string, column: string) => {
    const says = some.flatMap(({ method, other, verdict }) =>
      method === row && other === column
        ? [verdict]
        : method === column && other === row
        ? [OPPOSITE[verdict]]
        : []
    );
    const count = (what: string) => says.filter((verdict) => verdict === what).length;
    const isBetween = ({ method, other }: ComparedPair) =>
      method === row && other === column || method === column && other === row;
    const isUnequal = some.some((pair) => isBetween(pair) && pair.unequal !== undefined);
    return { better: count("better"), worse: count("worse"), ...(isUnequal && { unequal: true }) };
  };
  const net = (name: string) =>
    names.reduce((sum, other) => {
      const { better, worse } = countsOf(own, name, other);
      return sum + better - worse;
    }, 0);
  const sorted = names.toSorted((a, b) => net(b) - net(a));
  const view = (label: string, some: readonly ComparedPair[]) => ({
    label,
    counts: sorted.map((row) => sorted.map((column) => row === column ? null : countsOf(some, row, column))),
  });
  const tasks = [...Map.groupBy(own, ({ task }) => task)];
  return {
    asked,
    names: sorted.map(withoutRatio),
    views: [
      view("all tasks", own),
      ...(tasks.length > 1 ? tasks.map(([task, some]) => view(task, some)) : []),
    ],
  };
}

const OPPOSITE = {
  better: "worse",
  worse: "better",
  "no significant difference": "no significant difference",
} as const;
const ROW_PIXELS = 30;

/** Draws a square a pair: how often the row's method beats the column's, less how often it is beaten. */
export function plotMethodMatrix({ asked, names, views }: MethodMatrix): Figure {
  const title = `Who beats whom${asked === undefined ? "" : `, at ${asked}`}`;
  if (names.length === 0) return emptyFigure(title, "No pairs here: run deno task compare again.");
  const tasks = Math.max(1, views.length - 1), shown = names.map(escapeText);
  const trace = ({ label, counts }: MethodMatrix["views"][number], most: number): JsonObject => ({
    type: "heatmap",
    name: escapeText(label),
    x: shown,
    y: shown,
    z: counts.map((row) => row.map((cell) => cell && (cell.better - cell.worse) / most)),
    text: counts.map((row) => row.map((cell) => cell === null ? "" : mark(cell))),
    texttemplate: "%{text}",
    textfont: { size: 11 },
    zmin: -1,
    zmax: 1,
    colorscale: colorScale("diverge"),
    reversescale: true,
    showscale: false,
    xgap: 1,
    ygap: 1,
    hoverongaps: false,
    customdata: counts.map((row) => row.map((cell) => cell && [cell.better, cell.worse])),
    hovertemplate:
      "<b>%{y}</b> against %{x}<br>better %{customdata[0]}, worse %{customdata[1]}<extra></extra>",
  });
  const { data, layout } = choose(
    "main metric of",
    views.map((view, i) => ({ label: view.label, traces: [trace(view, i === 0 ? tasks : 1)] })),
    { shown: 0 },
  );
  return chart({
    title,
    caption:
      `Of ${
        plural(tasks, "task")
      } the number on whose main metric the row's method is significantly better (+) or worse (−) than ` +
      "the column's, at 5%, adjusted for all pairs (Benjamini-Hochberg); an empty square: no significant difference. ≠: they spend " +
      "budgets more than a point apart. Controls are left out.",
    height: 170 + ROW_PIXELS * names.length + (views.length > 1 ? 70 : 0),
    data,
    margin: { l: 110, r: 14, t: 34, b: 110 },
    xaxis: axis("", { showgrid: false, tickangle: -45, ticks: "" }),
    yaxis: axis("", { showgrid: false, autorange: "reversed", ticks: "" }),
    ...layout,
  });
}

/** A square's text: `+2 −1`, with `≠` where budgets are unequal. */
function mark(
  { better, worse, unequal }: { readonly better: number; readonly worse: number; readonly unequal?: boolean },
): string {
  const counts = [...(better > 0 ? [`+${better}`] : []), ...(worse > 0 ? [`−${worse}`] : [])];
  return [...counts, ...(unequal && counts.length > 0 ? ["≠"] : [])].join(" ");
}
