/**
 * The tables of README.md, items.md and guessed.md, from the comparisons in results/.
 *
 * usage: deno run -A experiments/studies/comparison/tables.ts [PART…]
 *
 * Prints the table of a part. Several parts of one task have a table together: a row per method and a column per part.
 * Without a part, it renews the tables of the pages.
 */
import { formatMetric } from "../../../lib/eval/mod.ts";
import { formatInterval, withoutRatio } from "../../../lib/plot/mod.ts";
import {
  BUDGETS,
  type ComparedResult,
  type Comparison,
  type Opposed,
  retainedOf,
} from "../../../lib/sweep/mod.ts";
import { type Interval, pairedShareInterval } from "../../../lib/stats/mod.ts";
import { formatMarkdown, type PlainTable } from "../../commands/cli/output/table.ts";
import { fileOf } from "./measure.ts";

/** The part of a comparison that tables and pictures read: results contain no pairs. */
export type Part = Pick<Comparison, "methods" | "results" | "items">;

/** Budgets that are shown. */
const SHOWN = ["pairs", "cache", "projectionFlops", "parameters"] as const;

export const percent = (share: number): string => `${(100 * share).toFixed(0)}%`;
const verdictOf = (opposed: Opposed | undefined) => opposed?.verdict ?? "-";

const bestOtherOf = (opposed: Opposed | undefined) =>
  opposed === undefined
    ? "-"
    : `${opposed.verdict} ${
      opposed.verdict === "no significant difference" ? "from" : "than"
    } ${opposed.name}`;

/** Signs where a method differs significantly from its random baseline, or is worse than the best other one at its ratio. */
const signsOf = ({ random, bestOther }: ComparedResult["against"]) =>
  [
    ...(random?.verdict === "better" ? [" ▲"] : random?.verdict === "worse" ? [" ▼"] : []),
    ...(bestOther?.verdict === "worse" ? ["†"] : []),
  ].join("");

/** The rows of the text's loss, by method. */
const listLosses = ({ results }: Part): ReadonlyMap<string, ComparedResult> =>
  new Map(
    results!.filter(({ task, metric }) => task.startsWith("perplexity") && metric === "perplexity")
      .map((row) => [row.method, row]),
  );

/** A row per method: its loss increase on the text, next to its random baseline, and its budgets. */
export function tabulateText(part: Part): PlainTable {
  const losses = listLosses(part);
  return {
    columns: [
      ...["method", "loss increase", "above random baseline", "vs random", "vs best other"],
      ...SHOWN.map((name) => BUDGETS[name].label),
    ],
    left: [true],
    rows: part.methods.filter(({ name }) => name !== "dense").map((own) => {
      const row = losses.get(own.name), random = own.toProtected ?? own.toRandom;
      return [
        `${own.name}${own.missed ? " !" : ""}`,
        formatInterval(own.lossIncrease!, 3),
        random === null ? "-" : formatInterval(random, 3),
        verdictOf(row?.against.random),
        bestOtherOf(row?.against.bestOther),
        ...SHOWN.map((name) => percent(own.retained[name])),
      ];
    }),
  };
}

/** Methods by name without their ratio, in the order of ratios. */
export function groupRatios({ methods }: Part): Map<string, Map<number, Comparison["methods"][number]>> {
  const groups = Map.groupBy(
    methods.filter(({ asked }) => asked !== undefined),
    ({ name }) => withoutRatio(name),
  );
  return new Map([...groups].map(([name, own]) => [name, new Map(own.map((one) => [one.asked!, one]))]));
}

/** A row per method and a column per ratio: loss increase; and retained fractions at the largest ratio. */
export function tabulateRatios(part: Part): PlainTable {
  const losses = listLosses(part), groups = groupRatios(part);
  const ratios = [...new Set([...groups.values()].flatMap((own) => [...own.keys()]))].sort();
  const most = ratios.at(-1)!;
  const lossAt = (own: Map<number, Comparison["methods"][number]>) =>
    own.get(most)?.lossIncrease?.estimate ?? Infinity;
  return {
    columns: [
      "method",
      ...ratios.map((ratio) => `at ${ratio}`),
      ...SHOWN.map((name) => `${BUDGETS[name].label} at ${most}`),
    ],
    left: [true],
    rows: [...groups].sort(([, a], [, b]) => lossAt(a) - lossAt(b)).map(([name, own]) => [
      name,
      ...ratios.map((ratio) => {
        const method = own.get(ratio);
        if (method === undefined) return "-";
        const signs = signsOf(losses.get(method.name)!.against);
        return `${formatInterval(method.lossIncrease!, 3)}${method.missed ? " !" : signs}`;
      }),
      ...SHOWN.map((budget) => {
        const method = own.get(most);
        return method === undefined ? "-" : percent(method.retained[budget]);
      }),
    ]),
  };
}

/** Metrics in their order of preference: the main metric of a task is the first that it has. */
const MAIN = ["acc_norm", "acc", "found"];
/** A method on all tasks of a part. */
export interface ItemsRow {
  readonly method: string;
  /** Its row of each task. */
  readonly results: readonly ComparedResult[];
  /** Mean over tasks of the change from the full model, in points; its interval takes tasks as independent. */
  readonly change: Interval;
}

/** Tasks of a part, each with its main metric. */
export function listTasks({ results }: Part): { readonly task: string; readonly metric: string }[] {
  const tasks = Map.groupBy(results!, ({ task }) => task);
  return [...tasks].flatMap(([task, rows]) => {
    const metric = MAIN.find((name) => rows.some((row) => row.metric === name));
    return metric === undefined || task.startsWith("perplexity") ? [] : [{ task, metric }];
  });
}

/** A change of answers with its score interval (older results have one of resamples); other changes as they are. */
export function withScore(
  change: Interval & { readonly gained?: number; readonly lost?: number },
  units: number,
): Interval {
  const { gained, lost } = change;
  if (gained === undefined || lost === undefined) return change;
  return pairedShareInterval(
    Array.from({ length: units }, (_, i) => i < gained ? 1 : i < gained + lost ? -1 : 0),
  );
}

/** The change from the full model, which has none. */
const changeOf = ({ units, against: { dense } }: ComparedResult): Interval =>
  withScore(dense ?? { estimate: 0, low: 0, high: 0 }, units);

/** The interval of a mean of independent estimates: distances from their ends, added in squares (Zou and Donner 2008). */
export function meanInterval(intervals: readonly Interval[]): Interval {
  const count = intervals.length;
  const estimate = intervals.reduce((sum, own) => sum + own.estimate, 0) / count;
  return {
    estimate,
    low: estimate - Math.hypot(...intervals.map((own) => own.estimate - own.low)) / count,
    high: estimate + Math.hypot(...intervals.map((own) => own.high - own.estimate)) / count,
  };
}

/** The methods of a part on its tasks, best first; the full model before them. */
export function collectItems(part: Part): ItemsRow[] {
  const tasks = listTasks(part);
  const rows = part.methods.map(({ name: method }): ItemsRow => {
    const results = tasks.map(({ task, metric }) =>
      part.results!.find((row) => row.task === task && row.metric === metric && row.method === method)!
    );
    const { estimate, low, high } = meanInterval(results.map(changeOf));
    return { ...{ method, results }, change: { estimate: 100 * estimate, low: 100 * low, high: 100 * high } };
  });
  return rows.sort((a, b) =>
    Number(b.method === "dense") - Number(a.method === "dense") || b.change.estimate - a.change.estimate
  );
}

/** A perplexity of words; a broken model, which may give a word almost no probability, has a large one. */
export const formatPerplexity = (value: number): string =>
  formatMetric({ digits: value < 100 ? 1 : 0 }, value);

/** A value with signs of its significant differences. */
const marked = (text: string, { against }: ComparedResult) =>
  `${text}${["better", "worse"].includes(verdictOf(against.dense)) ? "*" : ""}${signsOf(against)}`;

/** A row per method, a column per task; then the perplexity of guessed words, and the fraction really filtered. */
export function tabulateItems(part: Part): PlainTable {
  const perplexities = part.results!.filter(({ task, metric }) =>
    metric === "perplexity" && !task.startsWith("perplexity")
  );
  const guessed = [...new Set(perplexities.map(({ task }) => task))];
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  return {
    columns: [
      "method",
      ...listTasks(part).map(({ task, metric }) => `${task} ${metric}`),
      ...guessed.map((task) => `${task} ppl`),
      ...["mean change from the full model", "pairs", "KV cache", "missed keys", "own"],
    ],
    left: [true],
    rows: collectItems(part).map(({ method, results, change }) => {
      const budgets = part.items!.budgets.filter((own) => own.method === method);
      const share = (of: (budget: typeof budgets[number]) => number) =>
        budgets.length === 0 ? "-" : percent(mean(budgets.map(of)));
      return [
        method,
        ...results.map((row) => marked((100 * row.value).toFixed(1), row)),
        ...guessed.map((task) => perplexities.find((row) => row.task === task && row.method === method)!)
          .map((row) => marked(formatPerplexity(row.value), row)),
        method === "dense" ? "-" : formatInterval(change, 1),
        share(({ usage }) => retainedOf(usage).pairs),
        share(({ usage }) => retainedOf(usage).cache),
        share(({ meanReach }) => meanReach.missedKeys),
        share(({ meanReach }) => meanReach.ownSkips),
      ];
    }),
  };
}

/** Reads the comparison of a finished part. */
export async function readPart(part: string): Promise<Comparison> {
  return JSON.parse(await Deno.readTextFile(fileOf(part)));
}

/** A part's table, in Markdown. */
function showPart(part: Part): string {
  const ratios = new Set(part.methods.map(({ asked }) => asked).filter((asked) => asked !== undefined));
  return formatMarkdown((part.items ? tabulateItems : ratios.size > 1 ? tabulateRatios : tabulateText)(part));
}

/** A row per method and a column per part of one and the same task: its accuracy, and in brackets the perplexity. */
export function tabulateTogether(parts: ReadonlyMap<string, Part>): PlainTable {
  const columns = [...parts].map(([name, part]) => {
    const { task, metric } = listTasks(part)[0]!, rows = part.results!.filter((row) => row.task === task);
    const find = (method: string, metric: string) =>
      rows.find((row) => row.metric === metric && withoutRatio(row.method) === method);
    const held = part.items!.budgets.map(({ usage }) => retainedOf(usage).cache);
    return { name, find, metric, held: [Math.min(...held), Math.max(...held)].map(percent) };
  });
  const methods = new Set(
    [...parts.values()].flatMap((part) => collectItems(part).map(({ method }) => withoutRatio(method))),
  );
  return {
    columns: ["method", ...columns.map(({ name }) => name)],
    left: [true],
    rows: [
      ...[...methods].map((method) => [
        method,
        ...columns.map(({ find, metric }) => {
          const found = find(method, metric), perplexity = find(method, "perplexity")!;
          return found === undefined
            ? "-"
            : `${marked((100 * found.value).toFixed(1), found)} (${
              marked(formatPerplexity(perplexity.value), perplexity)
            })`;
        }),
      ]),
      [
        "KV cache",
        ...columns.map(({ held: [least, most] }) => least === most ? least! : `${least} to ${most}`),
      ],
    ],
  };
}

/** The table of a part, or of several together, in Markdown. */
export async function showParts(names: readonly string[]): Promise<string> {
  const parts = new Map<string, Part>();
  for (const name of names) parts.set(name, await readPart(name));
  return names.length === 1 ? showPart(parts.get(names[0]!)!) : formatMarkdown(tabulateTogether(parts));
}

export const PAGES = ["README", "items", "guessed"].map((name) => new URL(`${name}.md`, import.meta.url));

/** The parts that a page has tables of, by the command of each table. */
export const listCommands = (page: string): string[] =>
  Array.from(
    page.matchAll(/`experiments\/studies\/comparison\/tables\.ts ([^`]+)`\n/g),
    ([, names]) => names!,
  );

/** A page with its tables in place: each after its command, up to the next empty line. */
export async function fillTables(page: string): Promise<string> {
  let filled = page;
  for (const names of listCommands(page)) {
    const head = `tables.ts ${names}\`\n\n`, start = filled.indexOf(head) + head.length;
    const end = filled.indexOf("\n\n", start);
    const rest = end < 0 ? "\n" : filled.slice(end);
    filled = filled.slice(0, start) + (await showParts(names.split(" "))).trimEnd() + rest;
  }
  return filled;
}

if (import.meta.main) {
  if (Deno.args.length > 0) console.log(await showParts(Deno.args));
  else {
    for (const page of PAGES) await Deno.writeTextFile(page, await fillTables(await Deno.readTextFile(page)));
  }
}
