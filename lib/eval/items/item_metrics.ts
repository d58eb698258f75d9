/** Metrics of items whose continuations have log-likelihoods, defined as in lm-evaluation-harness. */
import type { Item } from "./item.ts";
import type { Metric } from "../metrics.ts";

/** A model's results for an item's continuations. */
export interface Likelihoods {
  /** Sum of the log-probabilities of the continuation's tokens, nats, one per request. */
  readonly logLikelihoods: readonly number[];
  /** Whether each of its tokens is the likeliest one at its place, one per request. */
  readonly greedy: readonly boolean[];
  /** Greedy continuation of the context, for an item that looks for texts in it. */
  readonly generated?: string;
  readonly generatedIds?: readonly number[] | undefined;
}

/** A number that every item has; the metric is the mean over items, or a function of it. */
export interface ItemMetric extends Metric {
  /** Value for one item: 0 or 1 where the metric is a fraction, else nats. */
  readonly of: (item: Pick<Item, "requests" | "gold" | "sought">, found: Likelihoods) => number;
  /** Expected value of a random guess for one item; left out where it is not known. */
  readonly chanceOf?: (item: Pick<Item, "requests">) => number;
}

const argmax = (values: readonly number[]) => values.indexOf(Math.max(...values));

const SHARE = { better: "higher", digits: 1, percent: true } as const;

/** Fraction of items whose right continuation is the likeliest; the first one of equals. */
export const ACC: ItemMetric = {
  ...SHARE,
  name: "acc",
  label: "acc",
  help: "fraction of items whose right choice is the likeliest",
  of: ({ gold }, { logLikelihoods }) => argmax(logLikelihoods) === gold ? 1 : 0,
  chanceOf: ({ requests }) => 1 / requests.length,
};

/** The same of log-likelihoods over characters. */
export const ACC_NORM: ItemMetric = {
  ...ACC,
  name: "acc_norm",
  label: "acc_norm",
  help: "the same by log-likelihood a character of the choice",
  of: ({ gold, requests }, { logLikelihoods }) =>
    argmax(logLikelihoods.map((sum, i) => sum / requests[i]!.characters)) === gold ? 1 : 0,
};

/** Fraction of items whose continuation equals the greedy one. */
export const ACC_GREEDY: ItemMetric = {
  ...SHARE,
  name: "acc",
  label: "acc",
  help: "fraction of items whose word is what greedy decoding gives",
  of: ({ gold }, { greedy }) => greedy[gold] ? 1 : 0,
};

/**
 * Fraction of the wanted texts that are in the greedy continuation, as whole words. RULER's string_match_all also takes
 * parts of words; here some words are pairs of others.
 */
export const FOUND: ItemMetric = {
  ...SHARE,
  name: "found",
  label: "found",
  help: "fraction of an item's answers that greedy decoding names",
  of: ({ sought }, { generated }) => {
    const { answers } = sought!;
    const isNamed = (answer: string) =>
      new RegExp(`(?<![\\p{L}\\p{N}])${RegExp.escape(answer)}(?![\\p{L}\\p{N}])`, "iu").test(generated!);
    return answers.filter(isNamed).length / answers.length;
  },
};

/** Distance between two models' greedy continuations of one context; the full model's comes first. */
export interface GreedyDistance extends Metric {
  readonly between: (dense: readonly number[], ids: readonly number[]) => number;
}

/** Distances from the full model in greedy decoding, of tasks that go on from a context. */
export const GREEDY_DISTANCES: readonly GreedyDistance[] = [
  {
    ...SHARE,
    name: "tokenMatch",
    label: "token match",
    help: "fraction of greedy tokens that are the full model's at the same place",
    between: (dense, ids) =>
      dense.length + ids.length === 0
        ? 1
        : dense.filter((id, i) => id === ids[i]).length / Math.max(dense.length, ids.length),
  },
  {
    name: "divergence",
    label: "parts after",
    help: "greedy tokens until the first that is not the full model's; all of them where none is",
    better: "higher",
    digits: 1,
    between: (dense, ids) => {
      const most = Math.max(dense.length, ids.length);
      for (let i = 0; i < most; i++) if (dense[i] !== ids[i]) return i;
      return most;
    },
  },
];

/** exp of the mean over items of -ln p(continuation): by item, not by token. */
export const ITEM_PERPLEXITY: ItemMetric = {
  name: "perplexity",
  label: "ppl",
  help: "exp of the mean over items of the right continuation's -ln p",
  better: "lower",
  digits: 2,
  of: ({ gold }, { logLikelihoods }) => -logLikelihoods[gold]!,
  fromMean: Math.exp,
};
