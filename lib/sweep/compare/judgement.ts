/** Methods on several tasks at once: each metric of each method, and whether it is told apart from its opponents. */
import type { ItemMetric } from "../../eval/item_metrics.ts";
import type { ItemBudget } from "../../eval/item_summary.ts";
import { differenceOf, type JudgedDifference, judgeDifferences } from "../../eval/verdict.ts";
import { type PairedMean, pairedMean } from "../../stats/paired.ts";
import type { BudgetName, Shares } from "../budgets.ts";
import { EQUAL } from "./match.ts";

/** What a method is held against: the model without a filter, chance with the same options, and the best other method. */
export const OPPONENTS = ["dense", "control", "rival"] as const;
export type Opponent = (typeof OPPONENTS)[number];

/** @internal A method as it is judged; the first of a list is the dense model. */
export interface Contender {
  readonly name: string;
  /** The share that it was asked for, where a comparison has several: rivals are those of the same one. */
  readonly asked?: number;
  /** Index of its control in the list; -1 = it has none. */
  readonly control: number;
  /** Whether another method may have it as a rival: not a control, a bound, or what missed the ratio. */
  readonly isRival: boolean;
  /** Whether it skipped something else than what was asked: it is held against the dense model alone. */
  readonly missed?: boolean;
  /** The budget that it is to be equal in; the dense model has none. */
  readonly budget?: BudgetName;
}

/** What a method did to the items of a task: means over items and seeds. */
export interface Reach {
  /** Share of an item's scored positions that did not see a filtered key. */
  readonly missedKeys: number;
  /** Share of the scored positions' own attentions that were filtered, over all layers. */
  readonly ownSkips: number;
  /** Share of items with the dense model's log-likelihoods. */
  readonly identical: number;
}

/** @internal One metric of a task, of every contender on the same units. */
export interface ComparedSeries {
  readonly task: string;
  readonly metric: Pick<ItemMetric, "name" | "better" | "percent" | "fromMean">;
  /** Units a block: neighbouring tokens depend on each other, items do not. */
  readonly blockSize: number;
  /** Whether it is a distance from the dense model, which then is no opponent. */
  readonly isDistance?: boolean;
  /** What each contender spends of the dense model's on these units. */
  readonly shares?: readonly Shares[];
  /** What each did to items. */
  readonly reach?: readonly (Reach | undefined)[];
  /** Of each contender, its values in segments, one a unit. */
  readonly values: readonly (readonly Float64Array[])[];
}

/** By how much a method spends more than its opponent, as a share of the dense model's: more than a point. */
export interface Unequal {
  readonly budget: BudgetName;
  readonly more: number;
}

export type Opposed = JudgedDifference & {
  readonly name: string;
  /** Where the two spend unequal budgets: the difference is not the methods' alone. */
  readonly unequal?: Unequal;
};

/** @internal One metric of a task, of one method: a row of a comparison's table. */
export interface ComparedResult {
  readonly method: string;
  readonly task: string;
  readonly metric: string;
  /** Units: items, or tokens. */
  readonly units: number;
  readonly value: number;
  /** Mean over units of what it is a function of. */
  readonly mean: number;
  /** Standard error of that mean, over blocks; null of a single one. */
  readonly standardError: number | null;
  /** What it spends of the dense model's on these units; a comparison of an older version does not say. */
  readonly shares?: Shares;
  /** What it did to the items, of a task that has some. */
  readonly reach?: Reach;
  /** The method against each opponent that it has; differences are its values less the opponent's. */
  readonly against: { readonly [opponent in Opponent]?: Opposed };
}

/** @internal What a comparison says of its tasks of items. */
export interface ComparedItems {
  /** From where items are filtered, as it was asked for; left out: by each method's warm-up. */
  readonly filterFrom?: string;
  /** The tasks: protocol, digests of data and prompts, and how many items. */
  readonly tasks: readonly { readonly task: string; readonly protocol: string; readonly items: number }[];
  /** What each method really filtered of each task, over its seeds. */
  readonly budgets: readonly (ItemBudget & {
    readonly method: string;
    readonly task: string;
    /** Wall time of its runs, summed over seeds. */
    readonly timeMs: number;
  })[];
}

/**
 * Every metric of every contender, and what may be said against its opponents, p values adjusted over the whole table.
 *
 * The rival of a method is the best of the other ones at the same asked share, of an equal budget where there are such, by the
 * mean of the metric on these units: it is chosen by the numbers that it is then compared with, so that "worse than its rival" is said a little too easily, "better" never is.
 *
 * @param options Of the resamples: seed, default 0, and number, default 2000.
 */
export function judgeMethods(
  contenders: readonly Contender[],
  series: readonly ComparedSeries[],
  options: { readonly seed?: number; readonly resamples?: number } = {},
): ComparedResult[] {
  const rows = series.flatMap((own) => {
    const means = own.values.map((values) => pairedMean(values, own.blockSize));
    const sign = own.metric.better === "higher" ? 1 : -1;
    return contenders.map((contender, i) => {
      const all = contenders.keys().filter((j) =>
        j !== i && !contender.missed && contenders[j]!.isRival && contenders[j]!.asked === contender.asked
      ).toArray();
      const equal = all.filter((j) => unequalOf(contenders, own, i, j).unequal === undefined);
      const rivals = equal.length > 0 ? equal : all;
      const rival = rivals.sort((a, b) => sign * (means[b]!.mean - means[a]!.mean))[0] ?? -1;
      const places = { dense: own.isDistance ? -1 : 0, control: contender.control, rival };
      return {
        row: describeRow(own, contender, i, means[i]!),
        opposed: i === 0 ? [] : OPPONENTS.flatMap((opponent) => {
          const j = places[opponent];
          return j < 0 ? [] : [{
            opponent,
            said: { name: contenders[j]!.name, ...unequalOf(contenders, own, i, j) },
            difference: differenceOf(own.metric, own.values[j]!, own.values[i]!, {
              ...options,
              blockSize: own.blockSize,
            }),
          }];
        }),
      };
    });
  });
  const judged = judgeDifferences(rows.flatMap(({ opposed }) => opposed.map(({ difference }) => difference)));
  let next = 0;
  return rows.map(({ row, opposed }) => ({
    ...row,
    against: Object.fromEntries(
      opposed.map(({ opponent, said }) => [opponent, { ...said, ...judged[next++]! }]),
    ),
  }));
}

/** Whether two contenders spend unequal budgets on a series: by the budget of either, the wider difference. */
function unequalOf(
  contenders: readonly Contender[],
  { shares }: ComparedSeries,
  i: number,
  j: number,
): { readonly unequal?: Unequal } {
  const budgets = [contenders[i]!.budget, contenders[j]!.budget];
  if (shares === undefined || budgets.includes(undefined)) return {};
  const [wider] = budgets.map((budget) => ({
    budget: budget!,
    more: shares[i]![budget!] - shares[j]![budget!],
  }))
    .sort((a, b) => Math.abs(b.more) - Math.abs(a.more));
  return Math.abs(wider!.more) > EQUAL ? { unequal: wider! } : {};
}

function describeRow(
  { task, metric: { name, fromMean = (mean) => mean }, values, shares, reach }: ComparedSeries,
  { name: method }: Contender,
  place: number,
  { mean, standardError }: PairedMean,
) {
  const units = values[place]!.reduce((sum, { length }) => sum + length, 0);
  return {
    ...{ method, task, metric: name, units, value: fromMean(mean), mean, standardError },
    ...(shares && { shares: shares[place]! }),
    ...(reach?.[place] && { reach: reach[place] }),
  };
}

/** @internal Two methods of one asked share on the main metric of a task. */
export interface ComparedPair {
  /** The share that both were asked for, where a comparison has several; the dense model is in every one. */
  readonly asked?: number;
  readonly task: string;
  readonly metric: string;
  readonly method: string;
  readonly other: string;
  /** The method's mean less the other's. */
  readonly estimate: number;
  /** Adjusted for all pairs of all tasks, by Benjamini and Hochberg. */
  readonly adjustedPValue: number;
  /** How the method does against the other at 5%. */
  readonly verdict: JudgedDifference["verdict"];
  /** Where the two spend unequal budgets. */
  readonly unequal?: Unequal;
}

/** Each pair of contenders that came out at one asked share, the dense model among them, once a task: who beats whom. */
export function judgePairs(
  contenders: readonly Contender[],
  series: readonly ComparedSeries[],
): ComparedPair[] {
  const main = [...Map.groupBy(series, ({ task }) => task).values()].map((own) => own[0]!);
  const shares = new Set(contenders.slice(1).map(({ asked }) => asked));
  const pairs = [...shares].flatMap((asked) => {
    const members = contenders.keys().filter((i) =>
      i === 0 || contenders[i]!.asked === asked && !contenders[i]!.missed
    )
      .toArray();
    return main.flatMap((own) => {
      const { task, metric, blockSize, values } = own;
      return members.flatMap((i, place) =>
        members.slice(0, place).map((j) => ({
          pair: {
            ...(asked !== undefined && { asked }),
            ...unequalOf(contenders, own, i, j),
            ...{ task, metric: metric.name, method: contenders[i]!.name, other: contenders[j]!.name },
          },
          difference: differenceOf(metric, values[j]!, values[i]!, { blockSize }),
        }))
      );
    });
  });
  const judged = judgeDifferences(pairs.map(({ difference }) => difference));
  return pairs.map(({ pair }, i) => {
    const { estimate, adjustedPValue, verdict } = judged[i]!;
    return { ...pair, estimate, adjustedPValue, verdict };
  });
}
