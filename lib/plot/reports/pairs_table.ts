/** Paired differences between any two methods of a comparison, with intervals and adjusted p values. */
import { formatChange } from "../../eval/metrics.ts";
import { findMetric } from "../../eval/tasks/mod.ts";
import type { Comparison } from "../../sweep/compare/comparison.ts";
import type { ComparedPair } from "../../sweep/compare/verdicts.ts";
import { type TableColumn, tabulate, type TextTable } from "../figure/page.ts";
import { describeUnequal } from "./results.ts";

export const PAIRS_LEGEND: readonly string[] = [
  "Difference: the method's value minus that of the other, paired by block of tokens, chunk or item, in the metric's unit, with its " +
  "95% interval; p adjusted for all pairs of a run (Benjamini-Hochberg).",
];

/** The part of a comparison that has its pairs. */
type PairedPart = Pick<Comparison, "pairs" | "results">;

/** A difference in the metric's unit, with its interval where the run has one. */
function showDifference(
  { task, metric, other, estimate, low, high }: ComparedPair,
  results: Comparison["results"],
): string {
  const from =
    results?.find((row) => row.task === task && row.metric === metric && row.method === other)?.mean ?? NaN;
  const show = (change: number) => formatChange(findMetric(task, metric), change, from);
  return low === undefined || high === undefined
    ? show(estimate)
    : `${show(estimate)} [${show(low)}, ${show(high)}]`;
}

const showP = (p: number) => p < 0.001 ? "<0.001" : p.toFixed(3);

/**
 * Lays the pairs of comparisons out, the main metric of each task.
 *
 * @returns Undefined where none has pairs: a run of an older version, or of one method alone.
 */
export function tabulatePairs(parts: readonly PairedPart[]): TextTable | undefined {
  const pairs = parts.flatMap(({ pairs = [], results }) => pairs.map((pair) => ({ ...pair, results })));
  if (pairs.length === 0) return undefined;
  type Row = typeof pairs[number];
  const hasTasks = new Set(pairs.map(({ task, metric }) => `${task} ${metric}`)).size > 1;
  const columns: readonly (TableColumn<Row> | false)[] = [
    ["method", "with the requested ratio, where there are several", ({ method }) => method, true],
    ["minus", "the method that it is compared with", ({ other }) => other, true],
    hasTasks &&
    ["task", "task and metric", ({ task, metric }) => `${task} ${findMetric(task, metric).label}`, true],
    [
      hasTasks ? "difference" : `${findMetric(pairs[0]!.task, pairs[0]!.metric).label} difference`,
      "difference in the metric's unit, with its 95% interval",
      (pair) => showDifference(pair, pair.results),
    ],
    ["p", "adjusted for all pairs of a run", ({ adjustedPValue }) => showP(adjustedPValue)],
    [
      "verdict",
      "at 5%; unequal: the two spend unlike budgets",
      ({ verdict, unequal }) =>
        unequal === undefined ? verdict : `${verdict} (unequal: ${describeUnequal(unequal)})`,
      true,
    ],
  ];
  return tabulate(pairs, columns);
}
