/**
 * The conclusion of a sweep or a comparison, in plain words: the best online method of each side, and how it compares
 * with the random baseline.
 */
import {
  costOf,
  excessKeys,
  formatMetric,
  type Headline,
  lossUnit,
  readMetric,
  signed,
} from "../../eval/metrics.ts";
import { findTask } from "../../eval/tasks/mod.ts";
import { mean } from "../../math/mean.ts";
import { readRecord } from "../../methods/bind/options.ts";
import { filtersQueries } from "../../methods/bind/sides.ts";
import type { Interval } from "../../stats/bootstrap.ts";
import { plural } from "../../plural.ts";
import type { ComparedMethod, Comparison } from "../../sweep/compare/comparison.ts";
import type { Matched } from "../../sweep/compare/match.ts";
import type { ComparedResult } from "../../sweep/compare/verdicts.ts";
import { BUDGETS, retainedOf, showFraction } from "../../sweep/budgets.ts";
import { controlFor, seedlessKey } from "../../sweep/compare/controls.ts";
import { differ, excessOf, missesRequested } from "../../sweep/summary.ts";
import type { SweepSummary, Trial, Winner } from "../../sweep/trial.ts";
import { findWinners } from "../../sweep/trials/winners.ts";
import { describeRetained, isControl, methodName, optionText, trialOptions } from "../trials/trial_label.ts";
import { formatInterval, formatPercent } from "../plots/methods/comparison.ts";
import { baselinesOf, describeUnequal } from "./results.ts";

interface MethodVerdict {
  readonly method: string;
  readonly trial: Trial;
  /** Fraction of the gap from random to the oracle in loss; undefined where either did not run alike. */
  readonly closed: Interval | undefined;
  /** Whether it is better or worse than its control beyond the interval; undefined without a control. */
  readonly toBaseline: "better" | "worse" | "even" | undefined;
  /** Loss increase of its control, the mean over seeds. */
  readonly control: number | undefined;
}

export interface Verdict {
  /** The side that the ratio refers to: queries, or keys and values. */
  readonly side: "query" | "key";
  /** The ratio that it is about: the highest requested one. */
  readonly asked: number;
  readonly methods: readonly MethodVerdict[];
}

/** Standard errors on either side of a 95% interval. */
const Z = 1.96;

interface Loss {
  readonly mean: number;
  readonly variance: number;
}

/** Gathers the verdicts, one per side; none for a side on which no online method came near the requested ratio. */
export function collectVerdicts(summary: SweepSummary): Verdict[] {
  return (["query", "key"] as const).flatMap((side) => collectVerdict(summary, side) ?? []);
}

function collectVerdict({ trials, environment }: SweepSummary, side: Verdict["side"]): Verdict | undefined {
  const task = findTask(environment.task), { delta, standardError } = excessKeys(task);
  const ratio = side === "query" ? "pruneRatio" : "kvRatio";
  const near = trials.filter((trial) =>
    filtersQueries(readRecord(trial)) === (side === "query") && trialOptions(trial)[ratio] !== undefined &&
    (side === "query" ? trial.achievedRatio : trial.kvAchievedRatio) !== null && !missesRequested(trial)
  );
  const lossOf = (alike: readonly Trial[]): Loss | undefined =>
    alike.length === 0 ? undefined : {
      mean: mean(alike.map((trial) => readMetric(trial, delta))),
      variance: mean(alike.map((trial) => readMetric(trial, standardError) ** 2)),
    };
  const online = near.filter((trial) => !trial.nonCausal && !isControl(trial));
  if (online.length === 0) return undefined;
  const asked = Math.max(...online.map((trial) => trial[ratio]));
  const keyed = Map.groupBy(near, (trial) => seedlessKey(readRecord(trial)));
  const held = (trial: Trial, control: "random" | "oracle") => {
    const options = controlFor(control, readRecord(trial));
    return lossOf(options === undefined ? [] : keyed.get(seedlessKey(options)) ?? []);
  };
  const cost = (trial: Trial) => costOf(task.headline, readMetric(trial, task.headline.name));
  const best = Map.groupBy(online.filter((trial) => trial[ratio] === asked), methodName).values()
    .map((group) => group.toSorted((a, b) => cost(a) - cost(b))[0]!);
  const methods = [...best].sort((a, b) => cost(a) - cost(b)).map((trial): MethodVerdict => {
    const own = lossOf([trial])!, random = held(trial, "random"), oracle = held(trial, "oracle");
    const above = random && own.mean - random.mean;
    const noise = random && Z * Math.sqrt(own.variance + random.variance);
    return {
      method: methodName(trial),
      trial,
      control: random?.mean,
      closed: random && oracle && gapClosed(own, random, oracle),
      toBaseline: above === undefined || Number.isNaN(noise)
        ? undefined
        : Math.abs(above) <= noise!
        ? "even"
        : above < 0
        ? "better"
        : "worse",
    };
  });
  return { side, asked, methods };
}

/** Fraction of the gap from random to the oracle, its interval by the delta method; undefined where there is no gap. */
function gapClosed(own: Loss, random: Loss, oracle: Loss): Interval | undefined {
  const gap = random.mean - oracle.mean, estimate = (random.mean - own.mean) / gap;
  if (!(gap > Z * Math.sqrt(random.variance + oracle.variance))) return undefined;
  const variance = (own.variance + (1 - estimate) ** 2 * random.variance + estimate ** 2 * oracle.variance) /
    gap ** 2;
  const half = Z * Math.sqrt(variance);
  return { estimate, low: estimate - half, high: estimate + half };
}

const percentOf = (share: number) => `${Number((100 * share).toPrecision(4))}%`;
const SKIPPED = {
  query: "queries skipped",
  key: "keys and values evicted, and every attention computed,",
} as const;

/** The requested ratio in words: `At 50% of queries skipped`. */
const atRatio = (side: Verdict["side"], asked: number) => `At ${percentOf(asked)} of ${SKIPPED[side]}`;

/** A method in a headline. */
interface Headlined {
  readonly name: string;
  readonly loss: number;
  readonly toBaseline: MethodVerdict["toBaseline"];
  /** Whether its loss differs significantly from the best one's; undefined where that was not tested. */
  readonly differs: boolean | undefined;
}

/**
 * The headline about the methods of a side, and how they compare with their random baselines.
 *
 * @param methods The best one first; controls are none of them.
 * @param detail Results of the best one.
 * @param baseline Name of the random baseline, where there are several.
 */
function describeSide(where: string, methods: readonly Headlined[], detail: string, baseline = ""): string[] {
  const [best, ...others] = methods as readonly [Headlined, ...Headlined[]], { name } = best;
  const alike = others.filter(({ differs }) => differs === false), count = methods.length;
  const isWorse = ({ toBaseline }: Headlined) => toBaseline === "worse";
  const headline = () => {
    if (methods.every(isWorse)) {
      return count === 1
        ? `“${name}” loses more than random`
        : `all ${count} methods lose more than random, “${name}” the least`;
    }
    if (count === 1) return `“${name}” is the only online method`;
    if (others.every(({ loss }) => loss === best.loss)) {
      return `no method differs: all ${count} lose the same`;
    }
    if (alike.length === others.length) {
      return `no method differs significantly from “${name}”, which has the smallest loss increase`;
    }
    const least = `“${name}” has the smallest loss increase of the online methods, random aside`;
    return isWorse(best) ? `${least}, but loses more than random` : least;
  };
  const some = alike.length === 0 || alike.length === others.length
    ? []
    : [`Not significantly different from “${name}”: ${alike.map(({ name }) => name).join(", ")}.`];
  return [`${where} ${headline()}: ${detail}.`, ...some, ...listToBaseline(methods, baseline)];
}

/** `Better than the random baseline: learned; worse than it: key.`; none where no method has one. */
function listToBaseline(
  methods: readonly Pick<Headlined, "name" | "toBaseline">[],
  baseline: string,
): string[] {
  const first = `the random baseline${baseline && ` (${baseline})`}`;
  const groups = [["better", "better than"], ["even", "no significant difference from"], [
    "worse",
    "worse than",
  ]] as const;
  const parts = groups.flatMap(([which, words]) => {
    const names = methods.filter(({ toBaseline }) => toBaseline === which).map(({ name }) => name);
    return names.length === 0 ? [] : [[words, names.join(", ")] as const];
  });
  if (parts.length === 0) return [];
  const text = parts.map(([words, names], i) => `${words} ${i === 0 ? first : "it"}: ${names}`)
    .join("; ");
  return [`${text[0]!.toUpperCase()}${text.slice(1)}.`];
}

/** Warns where the full model has no item right, or all: then no method can lose any, or gain any. */
export function warnOfDense(task: string, headline: Headline, value: number): string[] {
  const word = value === 0 ? "lose" : value === 1 ? "gain" : undefined;
  return !headline.percent || word === undefined ? [] : [
    `The full model scores ${
      formatMetric(headline, value)
    } on ${task}: no method can ${word} an answer there.`,
  ];
}

export function describeVerdicts(verdicts: readonly Verdict[], summary: SweepSummary): string[] {
  const task = findTask(summary.environment.task), { headline } = task;
  const shown = (record: object) => formatMetric(headline, readMetric(record, headline.name));
  const detailOf = (trial: Trial, control?: number) => {
    const increase = excessOf(trial, summary.dense.lossBlocks);
    const own = Number.isNaN(increase.low) ? signed(increase.estimate, 3) : formatInterval(increase, 3);
    return `${own} ${lossUnit(task)}${control === undefined ? "" : ` (random: ${signed(control, 3)})`}; ` +
      `${headline.name} ${shown(trial)}, dense ${shown(summary.dense)}; ` +
      `${describeRetained(retainedOf(trial))}, time ${showFraction(trial.timeMs / trial.denseTimeMs)}`;
  };
  const warning = warnOfDense(task.name, headline, readMetric(summary.dense, headline.name));
  const winners = describeWinners(summary, detailOf);
  if (winners.length > 0) return [...winners, ...warning];
  if (verdicts.length === 0) {
    return ["No online rule reached a requested ratio: nothing to compare.", ...warning];
  }
  const sentences = verdicts.flatMap(({ side, asked, methods }) => {
    const [{ trial, closed, control, toBaseline }] = methods as readonly [MethodVerdict, ...MethodVerdict[]];
    const way = closed &&
      `; it closes ${formatPercent(closed)} of the way from the random baseline to the oracle`;
    const said = describeSide(
      atRatio(side, asked),
      methods.map((own) => ({
        name: own.method,
        loss: readMetric(own.trial, headline.name),
        toBaseline: own.toBaseline,
        differs: differsFrom(trial, own.trial),
      })),
      `${detailOf(trial, control)}${way ?? ""}`,
    );
    return toBaseline === undefined
      ? [
        ...said,
        "No control ran alike: add --method random and oracle, for a random baseline and an upper bound.",
      ]
      : said;
  });
  return [
    ...sentences,
    ...warning,
    ...verdicts.some(({ methods }) => methods[0]!.toBaseline !== undefined)
      ? [
        "The random baseline is random with the same options. 95% intervals, from standard errors over blocks of the " +
        "text as if runs were independent, too narrow for evictions; deno task compare pairs them, and evictions by chunk.",
      ]
      : [],
  ];
}

/** Whether the losses of two trials differ significantly, block by block; undefined where that is unknown. */
function differsFrom(best: Trial, other: Trial): boolean | undefined {
  const task = findTask(best.task), { name } = task.headline;
  if (readMetric(best, name) === readMetric(other, name)) return false;
  if (best.lossBlocks === undefined || other.lossBlocks === undefined) return undefined;
  const interval = differ(task, best.lossBlocks, other.lossBlocks);
  return interval === undefined || Number.isNaN(interval.low)
    ? undefined
    : interval.low > 0 || interval.high < 0;
}

/** The best trials of a search, a line each, with their options and their random baselines. */
function describeWinners(
  { search, trials, environment }: SweepSummary,
  detailOf: (trial: Trial, control?: number) => string,
): string[] {
  if (search === undefined) return [];
  const { space, objectives: [first] } = search, task = findTask(environment.task);
  const winners: readonly Winner[] = search.winners ??
    findWinners(trials, search).map(({ trial }) => ({ trial }));
  const lines = winners.map(({ trial: digest, control }) => {
    const trial = trials.find(({ trial }) => trial === digest)!, options = trialOptions(trial);
    const own = space.map(({ name }) => name).filter((name) =>
      !NAMED.has(name) && options[name] !== undefined
    );
    const chosen = own.map((name) => `${name} ${optionText(name, options[name])}`).join(", ");
    const asked = atRatio(filtersQueries(readRecord(trial)) ? "query" : "key", askedRatio(trial));
    const random = control && readMetric(control, excessKeys(task).delta),
      difference = toControl(trial, control);
    return `${asked} “${methodName(trial)}”${chosen && ` (${chosen})`}: ${detailOf(trial, random)}${
      difference === undefined ? "" : `; minus random ${formatInterval(difference, 3)}`
    }.`;
  });
  if (lines.length === 0) return [];
  return [
    `The best of ${plural(trials.length, "trial")} by ${first}, each at its ratio:`,
    ...lines,
    "The best of many is chosen on this text and looks better here than it is: report it on another text.",
  ];
}

/** Options that a winner's name and ratio tell. */
const NAMED = new Set(["fusion", "kvFusion", "side", "preset", "invert", "pruneRatio", "kvRatio", "seed"]);

const askedRatio = (trial: Trial) => filtersQueries(readRecord(trial)) ? trial.pruneRatio : trial.kvRatio;

/** Loss less that of random with the same options, block by block; undefined where they cannot be paired. */
function toControl(trial: Trial, control: Trial | undefined): Interval | undefined {
  if (control?.lossBlocks === undefined || trial.lossBlocks === undefined) return undefined;
  const interval = differ(findTask(trial.task), control.lossBlocks, trial.lossBlocks);
  return interval === undefined || Number.isNaN(interval.low) ? undefined : interval;
}

/** Common budget of matched methods: `At equal KV cache, 63% of the full model (requested: 50% of keys and values),` */
function atBudget(side: Verdict["side"], { budget, target, asked }: Matched): string {
  const spent = `${BUDGETS[budget].label}, ${showFraction(target)} of the full model`;
  if (asked === undefined) return `At ${spent} as requested,`;
  return `At equal ${spent} (requested: ${percentOf(asked)} of ${
    side === "query" ? "queries" : "keys and values"
  }),`;
}

/** A method of a comparison that may be the best of its side, with the requested ratio or budget. */
interface OnlineMethod extends ComparedMethod {
  readonly side: Verdict["side"];
  readonly share: number;
}

/** The methods of a comparison that decide online, controls aside, each with its side. */
function listOnline(methods: readonly ComparedMethod[]): OnlineMethod[] {
  return methods.flatMap((method) => {
    const { options, nonCausal, missed, matched } = method;
    if (options === null || nonCausal || missed || isControl(options)) return [];
    const side = filtersQueries(readRecord(options)) ? "query" : "key";
    const share = matched?.asked ?? matched?.target ??
      (side === "query" ? options.pruneRatio : options.kvRatio);
    return [{ ...method, side, share }];
  });
}

/** The highest requested ratio of a side's methods; 0 where there is none. */
const highestRatio = (online: readonly OnlineMethod[], side: Verdict["side"]) =>
  Math.max(0, ...online.filter((own) => own.side === side).map(({ share }) => share));

/** The requested ratios of a comparison, in words. */
export function describeAsked({ methods }: Pick<Comparison, "methods">): string {
  const online = listOnline(methods),
    sides = [["query", "of queries"], ["key", "of keys and values"]] as const;
  return sides.flatMap(([side, words]) => {
    const share = highestRatio(online, side);
    const matched = online.find((own) => own.side === side && own.share === share)?.matched;
    if (share === 0) return [];
    const isBudget = matched !== undefined && matched.asked === undefined;
    return [
      isBudget ? `${showFraction(matched.target)} of ${BUDGETS[matched.budget].label}` : `${share} ${words}`,
    ];
  }).join(", ") || "-";
}

/** How a method compares with its random baseline, by the results where a comparison has them. */
function toBaselineOf({ toRandom, toProtected }: ComparedMethod, row: ComparedResult | undefined) {
  const random = row?.against.random;
  if (random !== undefined) return random.verdict === "no significant difference" ? "even" : random.verdict;
  const interval = row === undefined ? toProtected ?? toRandom : null;
  if (interval === null) return undefined;
  return interval.high < 0 ? "better" : interval.low > 0 ? "worse" : "even";
}

/** Whether two methods differ significantly on the comparison's own task; undefined where it has no test of them. */
function differIn({ pairs = [], environment }: Comparison, a: ComparedMethod, b: ComparedMethod) {
  if (a.loss === b.loss) return false;
  const { name } = findTask(environment.task), both = [a.name, b.name];
  const pair = pairs.find(({ task, asked, method, other }) =>
    task === name && asked === a.asked && both.includes(method) && both.includes(other)
  );
  return pair && pair.verdict !== "no significant difference";
}

/** The best methods of a comparison at its ratio, side by side, and how methods compare with their random baselines. */
export function describeBest(comparison: Comparison): string[] {
  const { methods, environment } = comparison, task = findTask(environment.task);
  const online = listOnline(methods), rows = headlineRows(comparison);
  const sentences = (["query", "key"] as const).flatMap((side) => {
    const asked = highestRatio(online, side);
    const own = online.filter((method) => method.side === side && method.share === asked), [best] = own;
    if (best === undefined) return [];
    const { lossIncrease, closed, retained, matched, toProtected, toRandom } = best;
    const control = toProtected ?? toRandom;
    const minus = control == null
      ? ""
      : ` (minus ${toProtected === null ? "random" : "random-protected"}: ${formatInterval(control, 3)})`;
    const spent = retained === undefined ? "" : `, ${describeRetained(retained)}`;
    const way = closed && `; it closes ${formatPercent(closed)} of the way from its random to its oracle`;
    return describeSide(
      matched === undefined ? atRatio(side, asked) : atBudget(side, matched),
      own.map((method) => ({
        ...{ name: method.name, loss: method.loss, differs: differIn(comparison, best, method) },
        toBaseline: toBaselineOf(method, rows.get(method.name)),
      })),
      `${formatInterval(lossIncrease!, 3)} ${lossUnit(task)}${minus}${spent}${way ?? ""}`,
      baselinesOf([...rows.values()].filter(({ method }) => own.some(({ name }) => name === method))),
    );
  });
  return sentences.length > 0 ? sentences : ["No online method reached the requested ratio."];
}

/** The results of a comparison's own task by its headline metric, by method. */
function headlineRows({ environment, results = [] }: Comparison): ReadonlyMap<string, ComparedResult> {
  const { name, headline } = findTask(environment.task);
  return new Map(
    results.filter((row) => row.task === name && row.metric === headline.name).map((
      row,
    ) => [row.method, row]),
  );
}

/** Summarises a comparison in sentences, first the main one. */
export const describeComparison = (comparison: Comparison): string[] => [
  ...describeBest(comparison),
  ...describeBudgets(comparison.methods, headlineRows(comparison)),
  ...describeItems(comparison),
];

/** Names the methods with unequal budgets, in words: their differences are not due only to the methods. */
function describeBudgets(
  methods: readonly ComparedMethod[],
  rows: ReadonlyMap<string, ComparedResult>,
): string[] {
  const beyond = methods.flatMap(({ name, matched, retained }) => {
    if (matched === undefined || matched.reached) return [];
    const { budget, target } = matched;
    return [
      `${name} (${BUDGETS[budget].label} ${showFraction(retained[budget])}, not ${showFraction(target)})`,
    ];
  });
  const unequal = listOnline(methods).flatMap(({ name }) => {
    const bestOther = rows.get(name)?.against.bestOther;
    return bestOther?.unequal === undefined
      ? []
      : [`${name} to ${bestOther.name} (${describeUnequal(bestOther.unequal)})`];
  });
  return [
    ...(beyond.length === 0 ? [] : [
      `No ratio gives them the budget of the others, so they ran at the one asked for: ${beyond.join(", ")}.`,
    ]),
    ...(unequal.length === 0 ? [] : [`Compared at unequal budgets: ${unequal.join("; ")}.`]),
  ];
}

/** Where a larger fraction of items is answered as by the full model, they are little evidence about a method. */
const MOSTLY = 0.5;

/** Summarises the items of a comparison, a sentence per task, and one about tasks that methods hardly affected. */
function describeItems({ methods, results = [] }: Comparison): string[] {
  const ofItems = results.filter(({ task }) => findTask(task).items !== undefined);
  const names = new Set(listOnline(methods).map(({ name }) => name));
  return [...Map.groupBy(ofItems, ({ task }) => task)].flatMap(([name, all]) => {
    const { headline } = findTask(name), rows = all.filter(({ metric }) => metric === headline.name);
    const own = rows.filter(({ method }) => names.has(method)),
      dense = rows.find(({ method }) => method === "dense")!;
    const told = (["better", "worse"] as const).flatMap((verdict) => {
      const found = own.filter(({ against }) => against.dense?.verdict === verdict);
      return found.length === 0
        ? []
        : [`${verdict} than the full model: ${found.map(({ method }) => method).join(", ")}`];
    });
    const same = own.filter(({ reach }) => reach !== undefined && reach.identical > MOSTLY);
    const changed = same
      .map(({ method, reach, units }) => `${method} ${Math.round(units * (1 - reach!.identical))}`)
      .join(", ");
    return [
      `${name}, ${plural(dense.units, "item")}, dense ${formatMetric(headline, dense.value)}: ` +
      `${told.length === 0 ? "no method differs significantly from the full model" : told.join("; ")}.`,
      ...warnOfDense(name, headline, dense.value),
      ...(changed === "" ? [] : [
        `Of these ${dense.units} items methods changed few: ${changed}; the others are the full model's.`,
      ]),
    ];
  });
}
