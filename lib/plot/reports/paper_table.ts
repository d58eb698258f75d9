/** A comparison as a paper prints it: methods down, tasks across, the mean of the tasks, the best of each column marked. */
import { costOf, formatMean, formatMetric } from "../../eval/metrics.ts";
import { findMetric, findTask } from "../../eval/tasks/mod.ts";
import { mean } from "../../mean.ts";
import type { ComparedMethod, Comparison } from "../../sweep/compare/comparison.ts";
import type { ComparedResult } from "../../sweep/compare/judgement.ts";
import { BUDGETS, showShare } from "../../sweep/budgets.ts";
import type { TextTable } from "../figure/page.ts";
import { isControl } from "../trials/trial_label.ts";

/** A column of numbers: its head and hint, and of each method its number, how that is shown, and which way is good. */
interface Numbers {
  readonly name: string;
  readonly hint: string;
  readonly better: "lower" | "higher";
  readonly of: (method: string) => { readonly value: number; readonly shown: string } | undefined;
}

/** The main metric of each task. */
function listTasks(results: readonly ComparedResult[]): Numbers[] {
  return [...Map.groupBy(results, ({ task }) => task)].map(([name, own]) => {
    const { headline } = findTask(name), metric = findMetric(name, headline.name);
    const rows = own.filter((row) => row.metric === headline.name);
    return {
      name: `${name} ${metric.label}`,
      hint: `${metric.help}, ± standard error`,
      better: metric.better,
      of: (method) => {
        const row = rows.find((row) => row.method === method);
        return row && { value: row.value, shown: formatMean(metric, row) };
      },
    };
  });
}

/** The mean of the tasks of items that are shares; none where there are fewer than two. */
function meanOfTasks(results: readonly ComparedResult[]): Numbers[] {
  const shares = results.filter(({ task, metric }) => {
    const { headline, items } = findTask(task);
    return items !== undefined && headline.percent && metric === headline.name;
  });
  if (new Set(shares.map(({ task }) => task)).size < 2) return [];
  return [{
    name: "mean",
    hint: "mean of the tasks whose metric is a share",
    better: "higher",
    of: (method) => {
      const own = shares.filter((row) => row.method === method).map(({ value }) => value);
      return own.length === 0
        ? undefined
        : { value: mean(own), shown: formatMetric({ digits: 1, percent: true }, mean(own)) };
    },
  }];
}

/** Lays a comparison out for a paper. Bold, by two stars: the best of a share among methods that decide on-line, controls aside. */
export function tabulatePaper({ methods, results = [] }: Pick<Comparison, "methods" | "results">): TextTable {
  const columns = [...listTasks(results), ...meanOfTasks(results)];
  const isRanked = ({ options, looksAhead, missed }: ComparedMethod) =>
    options !== null && !looksAhead && !missed && !isControl(options);
  const ordered = [...methods].sort((a, b) => (a.asked ?? 0) - (b.asked ?? 0) || rankOf(a) - rankOf(b));
  const bestOf = new Map(columns.map(({ of, better }, i) => {
    const groups = Map.groupBy(methods.filter(isRanked), ({ asked }) => asked);
    const costs = ([asked, own]: [number | undefined, ComparedMethod[]]) => {
      const values = own.map(({ name }) => of(name)?.value).filter((value) => value !== undefined);
      return [asked, Math.min(...values.map((value) => costOf({ better }, value)))] as const;
    };
    return [i, new Map([...groups].map(costs))];
  }));
  const cell = (method: ComparedMethod, { of, better }: Numbers, i: number) => {
    const found = of(method.name);
    if (found === undefined) return "-";
    const isBest = isRanked(method) && costOf({ better }, found.value) === bestOf.get(i)!.get(method.asked);
    return isBest ? `**${found.shown}**` : found.shown;
  };
  const budgets = ["pairs", "rows"] as const;
  return {
    columns: ["method", ...budgets.map((name) => BUDGETS[name].label), ...columns.map(({ name }) => name)],
    hints: [
      ...[
        "a share behind it: what was asked for",
        ...budgets.map((name) => `${BUDGETS[name].title}, against dense`),
      ],
      ...columns.map(({ hint }) => hint),
    ],
    rows: ordered.map((method) => [
      method.name,
      ...budgets.map((name) => showShare(method.shares?.[name])),
      ...columns.map((column, i) => cell(method, column, i)),
    ]),
    left: [true, false, false, ...columns.map(() => false)],
  };
}

/** Dense first, then methods, then controls. */
const rankOf = ({ options }: ComparedMethod) => options === null ? 0 : isControl(options) ? 2 : 1;
