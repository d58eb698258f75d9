/** Comparisons as a paper prints them: methods down, tasks across, the mean of the tasks, the best of each column marked. */
import { costOf, formatMean } from "../../eval/metrics.ts";
import { findMetric, findTask } from "../../eval/tasks/mod.ts";
import { meanOfMeans } from "../../stats/paired.ts";
import type { ComparedMethod, Comparison } from "../../sweep/compare/comparison.ts";
import type { ComparedResult } from "../../sweep/compare/verdicts.ts";
import { type BudgetName, BUDGETS, showFraction } from "../../sweep/budgets.ts";
import { type TableColumn, tabulate, type TextTable } from "../figure/page.ts";
import { isControl } from "../trials/trial_label.ts";

/** One comparison of a table, whose columns it gives. */
export interface PaperPart extends Pick<Comparison, "methods" | "results"> {
  /** Heads its columns instead of the task's name: a protocol has a name of its own. */
  readonly label?: string;
  /** Published numbers of the same protocol as text, by the name of their row. */
  readonly published?: ReadonlyMap<string, string>;
}

/** Marks behind a number that differs from its random baseline. */
const MARKS = { better: "†", worse: "‡" } as const;

export const PAPER_LEGEND: readonly string[] = [
  "Bold: the best of each ratio among methods that decide online, random baselines aside, unless it is significantly " +
  "worse than its own. ± standard error, in the metric's unit.",
  `${MARKS.better} significantly better than its random baseline, ${MARKS.worse} significantly worse, at 5%, ` +
  "adjusted for the table of its task (Benjamini-Hochberg).",
];

const markOf = ({ against: { random } }: ComparedResult) =>
  Object.entries(MARKS).find(([verdict]) => verdict === random?.verdict)?.[1] ?? "";

/** A column of numbers: its head and hint, and of each method its number, how that is shown, and which way is good. */
interface Numbers {
  readonly name: string;
  readonly hint: string;
  readonly better: "lower" | "higher";
  /** Undefined where there is none; a text where it is from another source. */
  readonly of: (method: string) => { readonly value: number; readonly shown: string } | string | undefined;
}

/** The main metric of each task of a part. */
function listTasks({ results = [], label, published }: PaperPart): Numbers[] {
  return [...Map.groupBy(results, ({ task }) => task)].map(([name, own]) => {
    const { headline } = findTask(name), metric = findMetric(name, headline.name);
    const rows = own.filter((row) => row.metric === headline.name);
    return {
      name: label === undefined && metric.name === name ? name : `${label ?? name} ${metric.label}`,
      hint: `${metric.help}, ± standard error`,
      better: metric.better,
      of: (method) => {
        const row = rows.find((row) => row.method === method);
        if (row === undefined) return published?.get(method);
        return { value: row.value, shown: formatMean(metric, row) + markOf(row) };
      },
    };
  });
}

/** Whether a metric counts in the mean of tasks: the main one of a task of items, in percent. */
export function isOfMean({ task, metric }: { readonly task: string; readonly metric: string }): boolean {
  const { headline, items } = findTask(task);
  return items !== undefined && headline.percent === true && metric === headline.name;
}

/** How a mean of tasks is shown. */
export const MEAN_METRIC = { name: "mean", digits: 1, percent: true } as const;

/** The mean of the tasks of items in percent; none where there are fewer than two. */
function meanOfTasks(results: readonly ComparedResult[]): Numbers[] {
  const inPercent = results.filter(isOfMean);
  if (new Set(inPercent.map(({ task }) => task)).size < 2) return [];
  return [{
    name: "mean",
    hint: "mean of the tasks whose metric is in percent, ± standard error",
    better: "higher",
    of: (method) => {
      const own = inPercent.filter((row) => row.method === method);
      if (own.length === 0) return undefined;
      const { mean, standardError } = meanOfMeans(own);
      return { value: mean, shown: formatMean(MEAN_METRIC, { value: mean, mean, standardError }) };
    },
  }];
}

/** A row: a method with its budgets, or a published one, which has none. */
interface PaperRow {
  readonly name: string;
  readonly method?: ComparedMethod;
  readonly share: (budget: BudgetName) => string;
}

/** Methods of all parts by name: each with its budgets, from the least to the most where parts differ. */
function mergeMethods(parts: readonly PaperPart[]) {
  const groups = Map.groupBy(parts.flatMap(({ methods }) => methods), ({ name }) => name);
  return [...groups].map(([name, own]) => ({
    name,
    method: own[0]!,
    share(budget: BudgetName): string {
      const known = own.map(({ retained }) => retained?.[budget]).filter((share) => share !== undefined);
      if (known.length === 0) return showFraction(undefined);
      const [least, most] = [Math.min(...known), Math.max(...known)].map(showFraction) as [string, string];
      return least === most ? most : `${least.slice(0, -1)}-${most}`;
    },
  }));
}

/**
 * Lays comparisons out for a paper, one next to the other. Bold, by two stars: the best of a ratio among methods that
 * decide online, controls aside, unless it is worse than its own random baseline. Published numbers have rows of their own below, in columns of the same protocol.
 */
export function tabulatePaper(given: PaperPart | readonly PaperPart[]): TextTable {
  const parts = [given].flat(), results = parts.flatMap(({ results = [] }) => results);
  const columns = [...parts.flatMap(listTasks), ...meanOfTasks(results)];
  const isRanked = ({ options, nonCausal, missed }: ComparedMethod) =>
    options !== null && !nonCausal && !missed && !isControl(options);
  const merged = mergeMethods(parts).sort(({ method: a }, { method: b }) =>
    (a.asked ?? 0) - (b.asked ?? 0) || rankOf(a) - rankOf(b)
  );
  const valueOf = ({ of }: Numbers, method: string) => {
    const found = of(method);
    return typeof found === "object" ? found.value : undefined;
  };
  const bestOf = new Map(columns.map((column, i) => {
    const ranked = merged.map(({ method }) => method).filter(isRanked);
    const costs = ([asked, own]: [number | undefined, ComparedMethod[]]) => {
      const values = own.map(({ name }) => valueOf(column, name)).filter((value) => value !== undefined);
      const costs = values.map((value) => costOf(column, value)), best = Math.min(...costs);
      // Where all are alike none is the best.
      return [asked, costs.length > 1 && best === Math.max(...costs) ? NaN : best] as const;
    };
    return [i, new Map([...Map.groupBy(ranked, ({ asked }) => asked)].map(costs))];
  }));
  const cell = ({ name, method }: PaperRow, column: Numbers, i: number) => {
    const found = column.of(name);
    if (typeof found !== "object") return found ?? "-";
    const isBest = method !== undefined && isRanked(method) && !found.shown.endsWith(MARKS.worse) &&
      costOf(column, found.value) === bestOf.get(i)!.get(method.asked);
    return isBest ? `**${found.shown}**` : found.shown;
  };
  const others = new Set(parts.flatMap(({ published }) => [...published?.keys() ?? []]));
  const rows = [...merged, ...Array.from(others, (name): PaperRow => ({ name, share: () => "-" }))];
  return tabulate<PaperRow>(rows, [
    ["method", "with the requested ratio, where there are several", ({ name }) => name, true],
    ...(["pairs", "cache"] as const).map((budget): TableColumn<PaperRow> => [
      BUDGETS[budget].label,
      `${BUDGETS[budget].title}, in % of the full model's`,
      ({ share }) => share(budget),
    ]),
    ...columns.map((column, i): TableColumn<PaperRow> => [
      column.name,
      column.hint,
      (row) => cell(row, column, i),
    ]),
  ]);
}

/** Dense first, then methods, then controls. */
const rankOf = ({ options }: ComparedMethod) => options === null ? 0 : isControl(options) ? 2 : 1;
