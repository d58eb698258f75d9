/** Trials as a table: the options that vary, then the results. Shared by the terminal and the report. */
import { excessKeys, formatMetric, listMetrics, readMetric, signed } from "../../eval/metrics.ts";
import type { Task } from "../../eval/task.ts";
import { mean } from "../../math/mean.ts";
import { OPTION_NAMES } from "../../methods/bind/option_table.ts";
import type { OptionsRecord } from "../../methods/bind/options.ts";
import type { Environment, RankedTrial, StoppedTrial, SweepSummary } from "../../sweep/trial.ts";
import { findTask } from "../../eval/tasks/mod.ts";
import { BUDGET_NAMES, BUDGETS, showFraction } from "../../sweep/budgets.ts";
import type { BlockSums, Interval } from "../../stats/paired.ts";
import { excessOf, missesRequested, sortTrials } from "../../sweep/summary.ts";
import type { TextTable } from "../figure/page.ts";
import {
  isControl,
  methodName,
  optionText,
  pointKey,
  requestedRatios,
  trialOptions,
  varyingOptions,
} from "../trials/trial_label.ts";

interface Column {
  readonly name: string;
  readonly hint: string;
  readonly cell: (trial: RankedTrial) => string;
  /** The cell of a trial that was stopped early, which has no results; default `-`. */
  readonly stopped?: (trial: StoppedTrial) => string;
  /** The full model's cell; default `-`. */
  readonly dense?: string;
  readonly left?: boolean;
}

const QUERY_RATIO: Column = {
  name: "Q skipped",
  hint: "achieved pruning ratio: queries (attention computations) skipped, after warm-up, over all layers",
  cell: (t) =>
    `${t.achievedRatio === null ? "-" : t.achievedRatio.toFixed(3)}${missesRequested(t) ? " !" : ""}`,
  dense: "0.000",
};

/** Where a trial's keys and values have a rule of their own. */
const KEY_RATIO: Column = {
  name: "KV evicted",
  hint:
    "achieved compression ratio: keys and values evicted, of those decided after the warm-up, over all layers",
  cell: (t) => t.kvAchievedRatio?.toFixed(3) ?? "-",
};

/** The ends of an interval; `-` where there are none. */
const formatEnds = ({ low, high }: Interval, digits: number) =>
  Number.isNaN(low) ? "-" : `[${signed(low, digits)}, ${signed(high, digits)}]`;

/** Losses of the full model, where a table needs them. */
type Dense = { readonly lossBlocks?: BlockSums | undefined };

function listMeasured(task: Task, dense: Dense): Column[] {
  const { delta, standardError } = excessKeys(task);
  return listMetrics(task).map((metric) => ({
    name: metric.label,
    hint: metric.help,
    dense: formatMetric(metric, readMetric(dense, metric.name)),
    cell: (t) => {
      const value = readMetric(t, metric.name);
      if (metric.name === standardError) return formatEnds(excessOf(t, dense.lossBlocks), metric.digits);
      return metric.name === delta ? signed(value, metric.digits) : formatMetric(metric, value);
    },
    ...(metric.name === delta && {
      stopped: ({ partialDelta, chunkLosses, chunks }: StoppedTrial) =>
        `${signed(partialDelta, metric.digits)} of ${chunkLosses.length}/${chunks}`,
    }),
  }));
}

/** Columns of trials' budgets; parameters only where a method removes some. */
const listCosts = (trials: readonly RankedTrial[]): readonly Column[] => [
  ...BUDGET_NAMES.filter((name) =>
    name !== "queries" && (name !== "parameters" || trials.some((t) => t.parametersAvoided > 0))
  ).map((name): Column => ({
    name: BUDGETS[name].label,
    hint: `${BUDGETS[name].title}, in % of the full model's`,
    dense: "100%",
    cell: (t) => showFraction(BUDGETS[name].retained(t)),
  })),
  {
    name: "FLOPs",
    hint: "operations of the whole forward pass, in % of the full model's",
    dense: "100%",
    cell: (t) => `${(100 * (1 - t.totalFlopsAvoided / t.totalFlopsDense)).toFixed(0)}%`,
  },
  {
    name: "time",
    hint: "wall time of the filtered forward passes, in % of the full model's",
    dense: "100%",
    cell: (t) => `${(100 * t.timeMs / t.denseTimeMs).toFixed(0)}%`,
  },
];

/** A control over its seeds as one trial: means of the measurements. */
type FoldedTrial = RankedTrial & { readonly seeds?: number };

/** A summary whose controls of one configuration are one row each: the mean over their seeds. */
export function foldSeeds(summary: SweepSummary): SweepSummary {
  const groups = Map.groupBy(summary.trials, (trial) => isControl(trial) ? pointKey(trial) : trial.trial);
  const fold = (alike: readonly RankedTrial[]): FoldedTrial => {
    const [first] = alike as [RankedTrial];
    if (alike.length === 1) return first;
    const measured = Object.entries(first).filter(([name, value]) =>
      typeof value === "number" && !OPTION_NAMES.includes(name)
    );
    const means = measured.map(([name]) => [name, mean(alike.map((trial) => readMetric(trial, name)))]);
    return { ...first, ...Object.fromEntries(means), seeds: alike.length };
  };
  return { ...summary, trials: sortTrials([...groups.values()].map(fold)) };
}

/** The parts of a summary that {@linkcode tabulateTrials} needs; without trials only the common columns remain. */
interface TabulatedTrials extends Pick<SweepSummary, "trials" | "stopped"> {
  readonly dense: Dense;
  readonly environment: Pick<Environment, "task">;
}

/**
 * Lays a sweep out: the full model's row, then one per trial. Columns are the rule, the ratio and every option that
 * varies, then results.
 *
 * @param named Options that have a column though they do not vary.
 */
export function tabulateTrials(
  { trials, stopped = [], dense, environment }: TabulatedTrials,
  named: readonly string[] = [],
): TextTable {
  const all: readonly OptionsRecord[] = [...trials, ...stopped];
  const options = new Map(all.map((trial) => [trial, trialOptions(trial)]));
  // Without trials there are the columns of all tables.
  const isEmpty = trials.length === 0;
  const effective = new Set([...options.values()].flatMap(Object.keys)), varying = varyingOptions(all);
  const sameOf = (cell: (trial: OptionsRecord) => string) => ({ cell, stopped: cell });
  const shown = [...effective].filter((name) => varying.includes(name) || named.includes(name));
  const columns: Column[] = [
    {
      name: "ratio",
      hint: "requested ratio: pruneRatio of queries, or kvRatio of keys and values",
      ...sameOf(requestedRatios),
    },
    {
      name: "rule",
      hint: `preset or fusion rule (* = on the Pareto front of attention FLOPs, ^ = non-causal${
        stopped.length === 0 ? "" : ", x = stopped early by the race: its loss is of the chunks that it read"
      })`,
      cell: (t) => {
        const { seeds = 1 } = t as FoldedTrial;
        return `${methodName(t)}${seeds > 1 ? ` (${seeds} seeds)` : ""}${t.pareto ? " *" : ""}${
          t.nonCausal ? " ^" : ""
        }`;
      },
      stopped: (t) => `${methodName(t)} x`,
      dense: "dense",
      left: true,
    },
    ...shown.map((name): Column => ({
      name,
      hint: `option ${name} (- = without effect under this rule)`,
      ...sameOf((t) => {
        const v = options.get(t)![name];
        return v === undefined ? "-" : optionText(name, v, t);
      }),
    })),
    QUERY_RATIO,
    ...(isEmpty || trials.some(({ kvAchievedRatio }) => typeof kvAchievedRatio === "number")
      ? [KEY_RATIO]
      : []),
    ...listMeasured(findTask(environment.task), dense),
    ...listCosts(trials),
  ];
  return {
    columns: columns.map((column) => column.name),
    hints: columns.map((column) => column.hint),
    rows: [
      columns.map((column) => column.dense ?? "-"),
      ...trials.map((trial) => columns.map((column) => column.cell(trial))),
      ...stopped.map((trial) => columns.map((column) => column.stopped?.(trial) ?? "-")),
    ],
    left: columns.map((column) => column.left === true),
  };
}
