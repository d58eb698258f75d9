/** Paired differences between any two methods of a comparison, with intervals and adjusted p values. */
import { formatChange } from "../../eval/metrics.ts";
import { findMetric } from "../../eval/tasks/mod.ts";
import type { Comparison } from "../../sweep/compare/comparison.ts";
import type { ComparedPair } from "../../sweep/compare/verdicts.ts";
import { meanOfIntervals } from "../../stats/shares.ts";
import { type TableColumn, tabulate, type TextTable } from "../figure/page.ts";
import { isOfMean, MEAN_METRIC } from "./paper_table.ts";
import { describeUnequal } from "./results.ts";

export const PAIRS_LEGEND: readonly string[] = [
  "Difference: the method's value minus that of the other, paired by block of tokens, chunk or item, in the metric's unit, with its " +
  "95% interval; p adjusted for all pairs of a run (Benjamini-Hochberg). The mean of tasks has the interval that those of the " +
  "tasks give (MOVER), and no p.",
];

/** The part of a comparison that has its pairs. */
type PairedPart = Pick<Comparison, "pairs" | "results">;

/** The mean over tasks of each two methods; none where fewer than two tasks have them. */
function meansOf(pairs: readonly ComparedPair[]): ComparedPair[] {
  const groups = Map.groupBy(pairs.filter(isOfMean), ({ method, other }) => `${method}\n${other}`);
  return [...groups.values()].flatMap((own): ComparedPair[] => {
    const known = own.flatMap(({ estimate, low, high }) =>
      low === undefined || high === undefined ? [] : [{ estimate, low, high }]
    );
    if (known.length < 2) return [];
    const { method, other } = own[0]!, task = `${known.length} tasks`;
    const none = { adjustedPValue: NaN, verdict: "no significant difference" } as const;
    return [{ task, metric: MEAN_METRIC.name, method, other, ...meanOfIntervals(known), ...none }];
  });
}

const isMean = ({ metric }: ComparedPair) => metric === MEAN_METRIC.name;

/** A difference in the metric's unit, with its interval where the run has one. */
function showDifference(
  { task, metric, other, estimate, low, high }: ComparedPair,
  results: Comparison["results"],
): string {
  const isOther = (row: { task: string; metric: string; method: string }) =>
    row.task === task && row.metric === metric && row.method === other;
  const [shown, from] = metric === MEAN_METRIC.name
    ? [MEAN_METRIC, 0] as const
    : [findMetric(task, metric), results?.find(isOther)?.mean ?? NaN] as const;
  const show = (change: number) => formatChange(shown, change, from);
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
  const pairs = parts.flatMap(({ pairs = [], results }) =>
    [...pairs, ...meansOf(pairs)].map((pair) => ({ ...pair, results }))
  );
  if (pairs.length === 0) return undefined;
  type Row = typeof pairs[number];
  const hasTasks = new Set(pairs.map(({ task, metric }) => `${task} ${metric}`)).size > 1;
  const columns: readonly (TableColumn<Row> | false)[] = [
    ["method", "with the requested ratio, where there are several", ({ method }) => method, true],
    ["minus", "the method that it is compared with", ({ other }) => other, true],
    hasTasks &&
    [
      "task",
      "task and metric",
      (pair) =>
        isMean(pair) ? `mean of ${pair.task}` : `${pair.task} ${findMetric(pair.task, pair.metric).label}`,
      true,
    ],
    [
      hasTasks ? "difference" : `${findMetric(pairs[0]!.task, pairs[0]!.metric).label} difference`,
      "difference in the metric's unit, with its 95% interval",
      (pair) => showDifference(pair, pair.results),
    ],
    [
      "p",
      "adjusted for all pairs of a run",
      ({ adjustedPValue }) => Number.isNaN(adjustedPValue) ? "-" : showP(adjustedPValue),
    ],
    [
      "verdict",
      "at 5%; unequal: the two spend unlike budgets",
      ({ verdict, unequal, adjustedPValue }) =>
        Number.isNaN(adjustedPValue)
          ? "-"
          : unequal === undefined
          ? verdict
          : `${verdict} (unequal: ${describeUnequal(unequal)})`,
      true,
    ],
  ];
  return tabulate(pairs, columns);
}
