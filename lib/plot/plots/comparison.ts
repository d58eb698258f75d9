/** Methods side by side: differences in loss with their intervals. */
import { formatMetric, lossUnit, readMetric } from "../../eval/metrics.ts";
import { findTask } from "../../eval/tasks/mod.ts";
import type { Interval } from "../../stats/bootstrap.ts";
import type { Comparison } from "../../sweep/comparison.ts";
import { axis, baseLayout, emptyFigure, escapeText, Figure } from "../figure/figure.ts";
import { styleRule } from "../figure/rule_style.ts";

/** One row of the plot. */
export interface ComparisonRow {
  /** The method. */
  readonly name: string;
  /** Its difference in mean loss. */
  readonly difference: Interval;
  /** Results, lines of plotly's HTML. */
  readonly hover: string;
  /** Whether it needs the whole sequence before its first decision. */
  readonly looksAhead: boolean;
}

/** The numbers of the plot. */
export interface ComparisonRows {
  /** What the losses are held against. */
  readonly base: "dense" | "random";
  /** Unit of the losses: `nats a token`. */
  readonly unit: string;
  /** Rows, best first. */
  readonly rows: readonly ComparisonRow[];
  /** Share of resamples inside an interval. */
  readonly confidence: number;
}

const ROW_PIXELS = 34;

/** Gathers the differences to the dense model, or to the random control. */
export function collectComparison(comparison: Comparison, base: "dense" | "random"): ComparisonRows {
  const { methods, intervals, environment } = comparison;
  const task = findTask(environment.task), { headline } = task;
  const rows = methods.flatMap((method): ComparisonRow[] => {
    const difference = base === "dense" ? method.toDense : method.toRandom;
    if (difference === null) return [];
    const { name, looksAhead, achievedRatio, loss, closed, seeds } = method;
    const hover = [
      `<b>${escapeText(name)}</b>${seeds > 1 ? `, mean over ${seeds} seeds` : ""}`,
      `${formatInterval(difference, 4)} ${task.loss.unit} above ${base}`,
      `loss ${loss.toFixed(4)}, ${headline.name} ${
        formatMetric(headline, readMetric(method, headline.name))
      }`,
      `skipped ${achievedRatio === null ? "none" : achievedRatio.toFixed(3)}`,
      ...(closed === null ? [] : [`closes ${formatPercent(closed)} of the gap from random to oracle`]),
      ...(looksAhead ? ["looks ahead: an upper bound"] : []),
    ].join("<br>");
    return [{ name, difference, hover, looksAhead }];
  });
  return {
    base,
    unit: lossUnit(task),
    rows: rows.sort((a, b) => a.difference.estimate - b.difference.estimate),
    confidence: intervals.confidence,
  };
}

/** `+0.820 [0.794, 0.845]`. */
export function formatInterval({ estimate, low, high }: Interval, digits: number): string {
  const middle = roundTo(estimate, digits);
  return `${middle.startsWith("-") ? "" : "+"}${middle} [${roundTo(low, digits)}, ${roundTo(high, digits)}]`;
}

/** Like `toFixed`, without a sign where nothing but zeros is left. */
function roundTo(value: number, digits: number): string {
  return value.toFixed(digits).replace(/^-(?=[0.]+$)/, "");
}

/** `47.7% [44.9%, 50.2%]`. */
export function formatPercent({ estimate, low, high }: Interval): string {
  const percent = (value: number) => `${(100 * value).toFixed(1)}%`;
  return `${percent(estimate)} [${percent(low)}, ${percent(high)}]`;
}

/** Draws a mark and an interval a method. */
export function plotComparison({ base, unit, rows, confidence }: ComparisonRows): Figure {
  const title = base === "dense" ? "What each method costs" : "Better or worse than chance";
  if (rows.length === 0) {
    return emptyFigure(
      title,
      `No method here to hold against ${base}: name it in --methods of deno task compare`,
    );
  }
  const shown = rows.toReversed();
  const percent = `${(100 * confidence).toFixed(0)}%`;
  return new Figure({
    title,
    caption: (base === "dense"
      ? `Loss above the dense model's at the same ratio, ${unit}; lower is better.`
      : `Loss above that of the random control at the same ratio, ${unit}; left of 0 is better than chance.`) +
      ` Bars are ${percent} intervals over resampled blocks of the text, the same for all. ^ looks ahead.`,
    height: 96 + ROW_PIXELS * rows.length,
    data: shown.map(({ name, difference, hover, looksAhead }) => {
      const { color, symbol } = styleRule(name);
      return {
        type: "scatter",
        mode: "markers",
        showlegend: false,
        name: escapeText(name),
        x: [difference.estimate],
        y: [escapeText(looksAhead ? `${name} ^` : name)],
        text: [hover],
        hovertemplate: "%{text}<extra></extra>",
        error_x: {
          type: "data",
          symmetric: false,
          array: [difference.high - difference.estimate],
          arrayminus: [difference.estimate - difference.low],
          color,
          thickness: 2,
          width: 6,
        },
        marker: {
          color,
          size: 10,
          symbol,
          line: { color, width: 2 },
        },
      };
    }),
    layout: baseLayout({
      margin: { l: 58, r: 14, t: 14, b: 52 },
      xaxis: axis(`loss above ${base} (${unit})`, {
        zeroline: true,
        zerolinecolor: "@muted",
        nticks: 6,
        ...(base === "dense" ? { rangemode: "tozero" } : {}),
      }),
      yaxis: axis("", { tickfont: { size: 12 } }),
      hovermode: "closest",
    }),
  });
}
