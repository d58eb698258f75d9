/**
 * The conclusion of a sweep or a comparison, in plain words: the best online method of each side, and how it compares
 * with the random baseline.
 */
import { costOf, excessKeys, formatMetric, lossUnit, readMetric } from "../../eval/metrics.ts";
import { findTask } from "../../eval/tasks/mod.ts";
import { mean } from "../../mean.ts";
import { readRecord } from "../../methods/bind/options.ts";
import { filtersQueries } from "../../methods/bind/sides.ts";
import type { Interval } from "../../stats/bootstrap.ts";
import { plural } from "../../plural.ts";
import type { ComparedMethod, Comparison } from "../../sweep/compare/comparison.ts";
import type { Matched } from "../../sweep/compare/match.ts";
import type { ComparedResult } from "../../sweep/compare/verdicts.ts";
import { BUDGETS, retainedOf, showFraction } from "../../sweep/budgets.ts";
import { controlFor, seedlessKey } from "../../sweep/compare/controls.ts";
import { missesRequested } from "../../sweep/summary.ts";
import type { SweepSummary, Trial } from "../../sweep/trial.ts";
import { describeRetained, isControl, methodName, trialOptions } from "../trials/trial_label.ts";
import { formatInterval, formatPercent } from "../plots/comparison.ts";
import { describeUnequal } from "./results.ts";

export interface MethodVerdict {
  readonly method: string;
  readonly trial: Trial;
  /** Fraction of the gap from random to the oracle in loss; undefined where either did not run alike. */
  readonly closed: Interval | undefined;
  /** Whether it is better or worse than its control beyond the interval; undefined without a control. */
  readonly toBaseline: "better" | "worse" | "even" | undefined;
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

export function describeVerdicts(verdicts: readonly Verdict[], summary: SweepSummary): string[] {
  if (verdicts.length === 0) {
    return ["No online rule reached a requested ratio: nothing to compare."];
  }
  const { headline } = findTask(summary.environment.task);
  const shown = (record: object) => formatMetric(headline, readMetric(record, headline.name));
  const sentences = verdicts.flatMap(({ side, asked, methods }) => {
    const [{ method, trial, closed, toBaseline }] = methods as readonly [MethodVerdict, ...MethodVerdict[]];
    const retained = describeRetained(retainedOf(trial));
    const says = closed === undefined
      ? "is the best online method"
      : `closes ${formatPercent(closed)} of the way from the random baseline to the oracle`;
    const first = `${atRatio(side, asked)} “${method}” ${says}: ${headline.name} ${shown(trial)}, ` +
      `dense ${shown(summary.dense)}; ${retained}.`;
    return toBaseline === undefined
      ? [
        first,
        "No control ran alike: add --method random and oracle, for a random baseline and an upper bound.",
      ]
      : [first, listToBaseline(methods.map(({ method, toBaseline }) => [method, toBaseline]))];
  });
  return verdicts.some(({ methods }) => methods[0]!.toBaseline !== undefined)
    ? [
      ...sentences,
      "The random baseline is random with the same options. 95% intervals, from standard errors over blocks of the text as " +
      "if runs were independent; deno task compare pairs them.",
    ]
    : sentences;
}

/** `Better than the random baseline: learned; worse: key.` */
function listToBaseline(methods: readonly (readonly [name: string, MethodVerdict["toBaseline"]])[]): string {
  const groups = [["better", "better than the random baseline"], ["even", "no significant difference"], [
    "worse",
    "worse",
  ]] as const;
  const parts = groups.flatMap(([which, words]) => {
    const names = methods.filter(([, toBaseline]) => toBaseline === which).map(([name]) => name);
    return names.length === 0 ? [] : [`${words}: ${names.join(", ")}`];
  });
  const text = parts.join("; ");
  return `${text[0]!.toUpperCase()}${text.slice(1)}.`;
}

/** Common budget of matched methods: `At equal KV cache, 63% of the full model (requested: 50% of keys and values),` */
function atBudget(side: Verdict["side"], { budget, target, asked }: Matched): string {
  const share = `${percentOf(asked)} of ${side === "query" ? "queries" : "keys and values"}`;
  const spent = `${BUDGETS[budget].label}, ${showFraction(target)} of the full model`;
  return `At equal ${spent} (requested: ${share}),`;
}

/** A method of a comparison that may be the best of its side, with the requested ratio. */
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
    const share = matched?.asked ?? (side === "query" ? options.pruneRatio : options.kvRatio);
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
    return share === 0 ? [] : [`${share} ${words}`];
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

/** Summarises the methods of a comparison at its ratio, side by side, in sentences, first the main one. */
export function describeComparison(comparison: Comparison): string[] {
  const { methods, environment, results = [] } = comparison, task = findTask(environment.task);
  const online = listOnline(methods);
  const rows = new Map(
    results.filter((row) => row.task === task.name && row.metric === task.headline.name)
      .map((row) => [row.method, row]),
  );
  const sentences = (["query", "key"] as const).flatMap((side) => {
    const asked = highestRatio(online, side);
    const own = online.filter((method) => method.side === side && method.share === asked), [best] = own;
    if (best === undefined) return [];
    const { name, lossIncrease, closed, retained, matched } = best;
    const where = matched === undefined ? atRatio(side, asked) : atBudget(side, matched);
    const spent = retained === undefined ? "" : `, ${describeRetained(retained)}`;
    const way = closed && `; it closes ${formatPercent(closed)} of the way from its random to its oracle`;
    const first = `${where} “${name}” has the smallest loss increase of the causal methods: ` +
      `${formatInterval(lossIncrease!, 3)} ${lossUnit(task)}${spent}${way ?? ""}.`;
    const known = own.flatMap((method) => {
      const toBaseline = toBaselineOf(method, rows.get(method.name));
      return toBaseline === undefined ? [] : [[method.name, toBaseline] as const];
    });
    return known.length === 0 ? [first] : [first, listToBaseline(known)];
  });
  return [
    ...sentences.length > 0 ? sentences : ["No online method reached the requested ratio."],
    ...describeBudgets(methods, rows),
    ...describeItems(comparison),
  ];
}

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
      ...(changed === "" ? [] : [
        `Of these ${dense.units} items methods changed few: ${changed}; the others are the full model's.`,
      ]),
    ];
  });
}
