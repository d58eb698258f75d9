/** Methods on several tasks at once: each metric of each method, and whether it is told apart from its opponents. */
import type { ItemMetric } from "../../eval/item_metrics.ts";
import type { ItemBudget } from "../../eval/item_summary.ts";
import { differenceOf, type JudgedDifference, judgeDifferences } from "../../eval/verdict.ts";
import { type PairedMean, pairedMean } from "../../stats/paired.ts";

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
}

/** @internal One metric of a task, of every contender on the same units. */
export interface ComparedSeries {
  readonly task: string;
  readonly metric: Pick<ItemMetric, "name" | "better" | "percent" | "fromMean">;
  /** Units a block: neighbouring tokens depend on each other, items do not. */
  readonly blockSize: number;
  /** Whether it is a distance from the dense model, which then is no opponent. */
  readonly isDistance?: boolean;
  /** Of each contender, its values in segments, one a unit. */
  readonly values: readonly (readonly Float64Array[])[];
}

export type Opposed = JudgedDifference & {
  readonly name: string;
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
 * The rival of a method is the best of the other ones at the same asked share, by the mean of the metric on these units: it is
 * chosen by what it is then held against, so that "worse than its rival" is said a little too easily, "better" never is.
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
      const rivals = contenders.keys().filter((j) =>
        j !== i && !contender.missed && contenders[j]!.isRival && contenders[j]!.asked === contender.asked
      );
      const rival = [...rivals].sort((a, b) => sign * (means[b]!.mean - means[a]!.mean))[0] ?? -1;
      const places = { dense: own.isDistance ? -1 : 0, control: contender.control, rival };
      return {
        row: describeRow(own, contender, i, means[i]!),
        opposed: i === 0 ? [] : OPPONENTS.flatMap((opponent) => {
          const j = places[opponent];
          return j < 0 ? [] : [{
            opponent,
            name: contenders[j]!.name,
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
      opposed.map(({ opponent, name }) => [opponent, { name, ...judged[next++]! }]),
    ),
  }));
}

function describeRow(
  { task, metric: { name, fromMean = (mean) => mean }, values }: ComparedSeries,
  { name: method }: Contender,
  place: number,
  { mean, standardError }: PairedMean,
) {
  const units = values[place]!.reduce((sum, { length }) => sum + length, 0);
  return { method, task, metric: name, units, value: fromMean(mean), mean, standardError };
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
    return main.flatMap(({ task, metric, blockSize, values }) =>
      members.flatMap((i, place) =>
        members.slice(0, place).map((j) => ({
          pair: {
            ...(asked !== undefined && { asked }),
            ...{ task, metric: metric.name, method: contenders[i]!.name, other: contenders[j]!.name },
          },
          difference: differenceOf(metric, values[j]!, values[i]!, { blockSize }),
        }))
      )
    );
  });
  const judged = judgeDifferences(pairs.map(({ difference }) => difference));
  return pairs.map(({ pair }, i) => {
    const { estimate, adjustedPValue, verdict } = judged[i]!;
    return { ...pair, estimate, adjustedPValue, verdict };
  });
}
