/** Methods side by side: differences in loss with their intervals. */
import { formatMetric, lossUnit, readMetric } from "../../../eval/metrics.ts";
import { findTask } from "../../../eval/tasks/mod.ts";
import { readRecord } from "../../../methods/bind/options.ts";
import { filtersQueries } from "../../../methods/bind/sides.ts";
import { plural } from "../../../plural.ts";
import type { Interval } from "../../../stats/bootstrap.ts";
import type { Comparison } from "../../../sweep/compare/comparison.ts";
import { axis, emptyFigure, escapeText, type Figure } from "../../figure/figure.ts";
import { chart, isWide, markOf, trace, whiskers } from "../../figure/parts.ts";
import { describeRetained, MISSED_NOTE } from "../../trials/trial_label.ts";
import { styleRule } from "../../trials/rule_style.ts";

/** @internal Baselines of losses: the full model, random, and the protected random baseline. */
export type ComparisonBase = "dense" | "random" | "random-protected";

const DIFFERENCES = { dense: "lossIncrease", random: "toRandom", "random-protected": "toProtected" } as const;

interface ComparisonRow {
  readonly name: string;
  readonly difference: Interval;
  readonly hover: string;
  /** Whether it needs the whole sequence before its first decision. */
  readonly nonCausal: boolean;
  /** Whether it skipped more than two points more or fewer queries than requested. */
  readonly missed: boolean;
}

/** @internal The numbers of the plot. */
export interface ComparisonRows {
  readonly base: ComparisonBase;
  /** Unit of the losses: `nats per token`. */
  readonly unit: string;
  readonly rows: readonly ComparisonRow[];
  /** What the intervals are, in words. */
  readonly intervals: string;
}

const ROW_PIXELS = 34;

/** Gathers the differences to the full model, or to a control of the same window. */
export function collectComparison(comparison: Comparison, base: ComparisonBase): ComparisonRows {
  const { methods, environment } = comparison;
  const task = findTask(environment.task), { headline } = task;
  const rows = methods.flatMap((method): ComparisonRow[] => {
    const difference = method[DIFFERENCES[base]] ?? null; // a comparison of an older version has less
    if (difference === null) return [];
    const { name, nonCausal, achievedRatio, retained, missed, loss, closed, seeds } = method;
    const above = base === "dense" ? "loss increase" : `above ${base}`;
    const shown = formatMetric(headline, readMetric(method, headline.name));
    const hover = [
      `<b>${escapeText(name)}</b>${seeds > 1 ? `, mean over ${seeds} seeds` : ""}`,
      `${formatInterval(difference, 4)} ${above}, ${task.loss.unit}`,
      `loss ${loss.toFixed(4)}, ${headline.name} ${shown}`,
      `queries skipped ${achievedRatio === null ? "none" : achievedRatio.toFixed(3)}${
        missed ? ", not the requested ratio: do not compare it" : ""
      }`,
      ...(retained === undefined ? [] : [describeRetained(retained)]), // a comparison of an older version has none
      ...(closed === null
        ? []
        : [`closes ${formatPercent(closed)} of the gap from its random to its oracle`]),
      ...(nonCausal ? ["non-causal: an upper bound"] : []),
    ].join("<br>");
    return [{ name, difference, hover, nonCausal, missed }];
  });
  return {
    base,
    unit: lossUnit(task),
    rows: rows.sort((a, b) =>
      Number(a.missed) - Number(b.missed) || a.difference.estimate - b.difference.estimate
    ),
    intervals: describeIntervals(comparison),
  };
}

/** How a comparison's intervals were made: `95% intervals over 2000 resamples of blocks of 64 tokens`. */
export function describeIntervals(
  { intervals, environment, methods }: Pick<Comparison, "intervals" | "environment" | "methods">,
): string {
  const { confidence, resamples, blockSize, wholeChunks } = intervals,
    { loss, items } = findTask(environment.task);
  const evicts = items === undefined &&
    methods.some(({ options }) => options !== null && !filtersQueries(readRecord(options)));
  const ofEvictions = wholeChunks
    ? "; of methods that evict by Student's t over whole chunks"
    : evicts
    ? "; they are too narrow for methods that evict, which act on the rest of a chunk"
    : "";
  const ofItems = items === undefined ? "" : "; of fractions of items by Tango's score";
  return `${100 * confidence}% intervals over ${resamples} resamples of blocks of ${
    plural(blockSize, loss.of)
  }${ofEvictions}${ofItems}`;
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
export function plotComparison({ base, unit, rows, intervals }: ComparisonRows): Figure {
  const title = base === "dense"
    ? "Loss increase of each method"
    : "Better or worse than the random baseline";
  const off = rows.filter(({ missed }) => missed).length;
  if (rows.length === 0) {
    return emptyFigure(
      title,
      `No method here to compare with ${base}: name it in --methods of deno task compare`,
    );
  }
  const shown = rows.toReversed(), estimates = rows.map(({ difference }) => difference.estimate);
  const isLog = base === "dense" && isWide(estimates), floor = isLog ? Math.min(...estimates) / 2 : -Infinity;
  return chart({
    title,
    caption: (base === "dense"
      ? `Mean loss minus the full model's, ${unit}; lower is better. The table lists what each method skips or evicts.`
      : `Loss above that of the random baseline (${base} with the same options), ${unit}; left of 0 is better than it.`) +
      ` Bars are ${intervals}. ^ non-causal.` +
      (isLog ? ` Log scale; ends below ${floor.toPrecision(1)} are drawn there.` : "") +
      (off === 0 ? "" : ` THE LAST ${off}: ${MISSED_NOTE}.`),
    height: 132 + ROW_PIXELS * rows.length,
    data: shown.map(({ name, difference: { estimate, low, high }, hover, nonCausal, missed }) => {
      const { color, symbol } = styleRule(name);
      return trace({
        showlegend: false,
        name: escapeText(name),
        x: [estimate],
        y: [escapeText(`${name}${nonCausal ? " ^" : ""}${missed ? " !" : ""}`)],
        hover: [hover],
        error_x: whiskers([estimate], { low: [Math.max(low, floor)], high: [high] }, {
          color,
          thickness: 2,
          width: 6,
        }),
        marker: markOf(color, symbol, 10),
      });
    }),
    margin: { l: 58, r: 14, t: 34, b: 68 },
    // Two lines: long names leave a narrow page little room for one.
    xaxis: axis(`${base === "dense" ? "loss increase" : `loss above ${base}`}<br>(${unit})`, {
      zeroline: true,
      zerolinecolor: "@muted",
      nticks: 6,
      ...(isLog ? { type: "log", exponentformat: "none" } : base === "dense" ? { rangemode: "tozero" } : {}),
    }),
    yaxis: axis("", { tickfont: { size: 12 } }),
  });
}
