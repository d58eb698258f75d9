/** Methods on several tasks at once: each metric of each method, and whether it differs significantly from its opponents. */
import type { ItemMetric } from "../../eval/items/item_metrics.ts";
import { type ItemBudget, type ItemMean, meanOf, type MeanReach } from "../../eval/items/item_summary.ts";
import { differenceOf, testDifferences, type TestedDifference } from "../../eval/verdict.ts";
import type { BudgetName, Retained } from "../budgets.ts";
import { EQUAL } from "./match.ts";

/** Opponents of a method: the full model, a random baseline with the same options, and the best other method. */
const OPPONENTS = ["dense", "random", "bestOther"] as const;
export type Opponent = (typeof OPPONENTS)[number];

/** @internal A method as it is evaluated; the first of a list is the full model. */
export interface Contender {
  readonly name: string;
  /** The requested ratio, where a comparison has several: only methods of the same one are compared. */
  readonly asked?: number;
  /** Index of its random baseline in the list; -1 = it has none. */
  readonly control: number;
  /** Whether it may be the best other method: not a baseline, an upper bound, or a run that missed the ratio. */
  readonly mayOppose: boolean;
  /** Whether it evicts keys and skips no query: that acts on the rest of a chunk. */
  readonly evicts?: boolean;
  /** Whether it missed the requested ratio: it is compared with the full model only. */
  readonly missed?: boolean;
  /** The budget that it is to be equal in; the full model has none. */
  readonly budget?: BudgetName;
}

/** Effects of a method on the items of a task: means over items and seeds. */
export interface Reach extends Pick<MeanReach, "missedKeys" | "ownSkips"> {
  /** Fraction of items with the full model's log-likelihoods. */
  readonly identical: number;
}

/** @internal One metric of a task, of every contender on the same units. */
export interface ComparedSeries {
  readonly task: string;
  readonly metric: Pick<ItemMetric, "name" | "better" | "percent" | "fromMean">;
  /** Units a block: neighbouring tokens depend on each other, items do not. */
  readonly blockSize: number;
  /** Whether it is a distance from the full model, which then is no opponent. */
  readonly isDistance?: boolean;
  /** Retained fractions of each contender on these units. */
  readonly retained?: readonly Retained[];
  /** The effects of each contender on items. */
  readonly reach?: readonly (Reach | undefined)[];
  /** For each contender its values in segments, one per unit. */
  readonly values: readonly (readonly Float64Array[])[];
}

/** By how much a method spends more than its opponent, as a fraction of the full model's: more than a point. */
export interface Unequal {
  readonly budget: BudgetName;
  readonly more: number;
}

export type Opposed = TestedDifference & {
  readonly name: string;
  /** Where the two spend unequal budgets: the difference is then not due only to the methods. */
  readonly unequal?: Unequal;
};

/** @internal One metric of a task, of one method: a row of a comparison's table. */
export interface ComparedResult extends ItemMean {
  readonly method: string;
  readonly task: string;
  readonly metric: string;
  /** Units: items, or tokens. */
  readonly units: number;
  /** Retained fractions on these units; comparisons of older versions have none. */
  readonly retained?: Retained;
  /** Its effects on the items, for a task that has some. */
  readonly reach?: Reach;
  /** The method against each opponent that it has; differences are its values less the opponent's. */
  readonly against: { readonly [opponent in Opponent]?: Opposed };
}

/** @internal The part of a comparison about tasks of items. */
export interface ComparedItems {
  /** From where items are filtered, as it was asked for; left out: by each method's warm-up. */
  readonly filterFrom?: string;
  /** The tasks: protocol, digests of data and prompts, and how many items. */
  readonly tasks: readonly { readonly task: string; readonly protocol: string; readonly items: number }[];
  /** The parts of each task that each method actually filtered, over its seeds. */
  readonly budgets: readonly (ItemBudget & {
    readonly method: string;
    readonly task: string;
    /** Wall time of its runs, summed over seeds. */
    readonly timeMs: number;
  })[];
}

/**
 * Every metric of every contender with its tests against the opponents, p values adjusted over the whole table.
 *
 * The best other method is the best one at the same requested ratio, of an equal budget if there are any, by the mean of
 * the metric on these units. It is chosen on the same data, which biases the test towards "worse"; "better" is not
 * affected.
 *
 * @param options Options of the resamples: seed, default 0, and number, default 2000.
 */
export function testMethods(
  contenders: readonly Contender[],
  series: readonly ComparedSeries[],
  options: { readonly seed?: number; readonly resamples?: number } = {},
): ComparedResult[] {
  const rows = series.flatMap((own) => {
    const means = own.values.map((values) => meanOf(own.metric, values, own.blockSize));
    const sign = own.metric.better === "higher" ? 1 : -1;
    return contenders.map((contender, i) => {
      const all = contenders.keys().filter((j) =>
        j !== i && !contender.missed && contenders[j]!.mayOppose && contenders[j]!.asked === contender.asked
      ).toArray();
      const equal = all.filter((j) => unequalOf(contenders, own, i, j).unequal === undefined);
      const bestOther = (equal.length > 0 ? equal : all).sort((a, b) =>
        sign * (means[b]!.mean - means[a]!.mean)
      )[0] ?? -1;
      const places = { dense: own.isDistance ? -1 : 0, random: contender.control, bestOther };
      return {
        row: {
          ...{ method: contender.name, task: own.task, metric: own.metric.name },
          units: own.values[i]!.reduce((sum, { length }) => sum + length, 0),
          ...means[i]!,
          ...(own.retained && { retained: own.retained[i]! }),
          ...(own.reach?.[i] && { reach: own.reach[i] }),
        },
        opposed: i === 0 ? [] : OPPONENTS.flatMap((opponent) => {
          const j = places[opponent];
          return j < 0 ? [] : [{
            opponent,
            said: { name: contenders[j]!.name, ...unequalOf(contenders, own, i, j) },
            difference: differenceOf(own.metric, own.values[j]!, own.values[i]!, {
              ...options,
              ...unitsOf(contenders, own, i, j),
            }),
          }];
        }),
      };
    });
  });
  const tested = testDifferences(rows.flatMap(({ opposed }) => opposed.map(({ difference }) => difference)));
  let next = 0;
  return rows.map(({ row, opposed }) => ({
    ...row,
    against: Object.fromEntries(
      opposed.map(({ opponent, said }) => [opponent, { ...said, ...tested[next++]! }]),
    ),
  }));
}

/** The units of a difference of two contenders: of a text whole chunks where one of them evicts, else blocks. */
export const unitsOf = (
  contenders: readonly Pick<Contender, "evicts">[],
  { blockSize }: Pick<ComparedSeries, "blockSize">,
  i: number,
  j: number,
): { readonly blockSize: number; readonly wholeSegments: boolean } => ({
  blockSize,
  wholeSegments: blockSize > 1 && (contenders[i]!.evicts ?? contenders[j]!.evicts ?? false),
});

/** Whether two contenders spend unequal budgets on a series: by the budget of either, the wider difference. */
function unequalOf(
  contenders: readonly Contender[],
  { retained }: ComparedSeries,
  i: number,
  j: number,
): { readonly unequal?: Unequal } {
  const budgets = [contenders[i]!.budget, contenders[j]!.budget];
  if (retained === undefined || budgets.includes(undefined)) return {};
  const [wider] = budgets.map((budget) => ({
    budget: budget!,
    more: retained[i]![budget!] - retained[j]![budget!],
  }))
    .sort((a, b) => Math.abs(b.more) - Math.abs(a.more));
  return Math.abs(wider!.more) > EQUAL ? { unequal: wider! } : {};
}

/** @internal Two methods of one requested ratio on the main metric of a task. */
export interface ComparedPair {
  /** The ratio requested of both, where a comparison has several; the full model belongs to each. */
  readonly asked?: number;
  readonly task: string;
  readonly metric: string;
  readonly method: string;
  readonly other: string;
  /** The method's mean less the other's. */
  readonly estimate: number;
  /** Ends of its 95% interval; comparisons of older versions have none. */
  readonly low?: number;
  readonly high?: number;
  /** Adjusted for all pairs of all tasks, by Benjamini and Hochberg. */
  readonly adjustedPValue: number;
  /** How the method does against the other at 5%. */
  readonly verdict: TestedDifference["verdict"];
  /** Where the two spend unequal budgets. */
  readonly unequal?: Unequal;
}

/** Each pair of contenders at one requested ratio, the full model included, once per task. */
export function testPairs(
  contenders: readonly Contender[],
  series: readonly ComparedSeries[],
): ComparedPair[] {
  const main = [...Map.groupBy(series, ({ task }) => task).values()].map((own) => own[0]!);
  const ratios = new Set(contenders.slice(1).map(({ asked }) => asked));
  const pairs = [...ratios].flatMap((asked) => {
    const members = contenders.keys().filter((i) =>
      i === 0 || contenders[i]!.asked === asked && !contenders[i]!.missed
    )
      .toArray();
    return main.flatMap((own) => {
      const { task, metric, values } = own;
      return members.flatMap((i, place) =>
        members.slice(0, place).map((j) => ({
          pair: {
            ...(asked !== undefined && { asked }),
            ...unequalOf(contenders, own, i, j),
            ...{ task, metric: metric.name, method: contenders[i]!.name, other: contenders[j]!.name },
          },
          difference: differenceOf(metric, values[j]!, values[i]!, unitsOf(contenders, own, i, j)),
        }))
      );
    });
  });
  const tested = testDifferences(pairs.map(({ difference }) => difference));
  return pairs.map(({ pair }, i) => {
    const { estimate, low, high, adjustedPValue, verdict } = tested[i]!;
    return { ...pair, estimate, low, high, adjustedPValue, verdict };
  });
}
