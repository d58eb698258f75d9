/** What a sweep or a comparison says, in plain words: the best on-line method of each side, and how it does beside chance. */
import { costOf, excessKeys, formatMetric, lossUnit, readMetric } from "../../eval/metrics.ts";
import { findTask } from "../../eval/tasks/mod.ts";
import { mean } from "../../mean.ts";
import { readRecord } from "../../methods/options.ts";
import { filtersQueries } from "../../methods/sides.ts";
import type { Interval } from "../../stats/bootstrap.ts";
import { plural } from "../../plural.ts";
import type { ComparedMethod, Comparison } from "../../sweep/compare/comparison.ts";
import type { Matched } from "../../sweep/compare/match.ts";
import type { ComparedResult } from "../../sweep/compare/judgement.ts";
import { BUDGETS, sharesOf, showShare } from "../../sweep/budgets.ts";
import { controlFor, seedlessKey } from "../../sweep/compare/controls.ts";
import { missesAsked } from "../../sweep/summary.ts";
import type { SweepSummary, Trial } from "../../sweep/trial.ts";
import { describeShares, isControl, methodName, trialOptions } from "../trials/trial_label.ts";
import { formatInterval, formatPercent } from "../plots/comparison.ts";
import { describeUnequal } from "./results.ts";

export interface MethodVerdict {
  readonly method: string;
  readonly trial: Trial;
  /** Share of the way from the control to the oracle in loss; undefined where either did not run alike. */
  readonly closed: Interval | undefined;
  /** Whether it is better or worse than its control beyond the interval; undefined without a control. */
  readonly toChance: "better" | "worse" | "even" | undefined;
}

export interface Verdict {
  /** Of what a share was asked for: of queries; or of keys and values alone. */
  readonly side: "query" | "key";
  /** The share that it speaks of: the highest that was asked for. */
  readonly asked: number;
  readonly methods: readonly MethodVerdict[];
}

/** Standard errors on either side of a 95% interval. */
const Z = 1.96;

interface Loss {
  readonly mean: number;
  readonly variance: number;
}

/** Gathers the verdicts, one a side; none of a side on which no on-line method came out near what was asked for. */
export function collectVerdicts(summary: SweepSummary): Verdict[] {
  return (["query", "key"] as const).flatMap((side) => collectVerdict(summary, side) ?? []);
}

function collectVerdict({ trials, environment }: SweepSummary, side: Verdict["side"]): Verdict | undefined {
  const task = findTask(environment.task), { delta, standardError } = excessKeys(task);
  const ratio = side === "query" ? "pruneRatio" : "kvRatio";
  const near = trials.filter((trial) =>
    filtersQueries(readRecord(trial)) === (side === "query") && trialOptions(trial)[ratio] !== undefined &&
    (side === "query" ? trial.achievedRatio : trial.kvAchievedRatio) !== null && !missesAsked(trial)
  );
  const lossOf = (alike: readonly Trial[]): Loss | undefined =>
    alike.length === 0 ? undefined : {
      mean: mean(alike.map((trial) => readMetric(trial, delta))),
      variance: mean(alike.map((trial) => readMetric(trial, standardError) ** 2)),
    };
  const online = near.filter((trial) => !trial.looksAhead && !isControl(trial));
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
    const own = lossOf([trial])!, chance = held(trial, "random"), oracle = held(trial, "oracle");
    const above = chance && own.mean - chance.mean;
    const noise = chance && Z * Math.sqrt(own.variance + chance.variance);
    return {
      method: methodName(trial),
      trial,
      closed: chance && oracle && shareClosed(own, chance, oracle),
      toChance: above === undefined || Number.isNaN(noise)
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

/** Share of the way from chance to the oracle, its interval by the delta method; undefined where there is no way. */
function shareClosed(own: Loss, chance: Loss, oracle: Loss): Interval | undefined {
  const gap = chance.mean - oracle.mean, estimate = (chance.mean - own.mean) / gap;
  if (!(gap > Z * Math.sqrt(chance.variance + oracle.variance))) return undefined;
  const variance = (own.variance + (1 - estimate) ** 2 * chance.variance + estimate ** 2 * oracle.variance) /
    gap ** 2;
  const half = Z * Math.sqrt(variance);
  return { estimate, low: estimate - half, high: estimate + half };
}

/** What was left out, in words: `At 50% of queries skipped`. */
const atShare = (side: Verdict["side"], asked: number) =>
  `At ${Number((100 * asked).toPrecision(4))}% of ${
    side === "query" ? "queries skipped" : "keys and values dropped, and every attention computed,"
  }`;

export function describeVerdicts(verdicts: readonly Verdict[], summary: SweepSummary): string[] {
  if (verdicts.length === 0) {
    return ["No on-line rule came out at a ratio that was asked for: nothing to compare."];
  }
  const { headline } = findTask(summary.environment.task);
  const shown = (record: object) => formatMetric(headline, readMetric(record, headline.name));
  const sentences = verdicts.flatMap(({ side, asked, methods }) => {
    const [{ method, trial, closed, toChance }] = methods as readonly [MethodVerdict, ...MethodVerdict[]];
    const numbers = `${headline.name} ${shown(trial)}, dense ${shown(summary.dense)}; ${
      describeShares(sharesOf(trial))
    }.`;
    const first = closed === undefined
      ? `${atShare(side, asked)} “${method}” is the best on-line method: ${numbers}`
      : `${atShare(side, asked)} “${method}” closes ${
        formatPercent(closed)
      } of the way from the random baseline to the oracle: ${numbers}`;
    return toChance === undefined
      ? [
        first,
        "No control ran alike: give --fusion random and oracle too, to see what a random baseline and foresight do.",
      ]
      : [first, listToChance(methods.map(({ method, toChance }) => [method, toChance]))];
  });
  return verdicts.some(({ methods }) => methods[0]!.toChance !== undefined)
    ? [
      ...sentences,
      "The random baseline is random with the same options. 95% intervals, from standard errors over blocks of the text as " +
      "if runs were independent; deno task compare pairs them.",
    ]
    : sentences;
}

/** `Better than the random baseline: learned; worse: key.` */
function listToChance(methods: readonly (readonly [name: string, MethodVerdict["toChance"]])[]): string {
  const groups = [["better", "better than the random baseline"], ["even", "not told apart"], [
    "worse",
    "worse",
  ]] as const;
  const parts = groups.flatMap(([which, words]) => {
    const names = methods.filter(([, toChance]) => toChance === which).map(([name]) => name);
    return names.length === 0 ? [] : [`${words}: ${names.join(", ")}`];
  });
  const text = parts.join("; ");
  return `${text[0]!.toUpperCase()}${text.slice(1)}.`;
}

/** What matched methods spend alike, in words: `At equal KV held, 63% of dense (asked: 50% of keys and values),`. */
function atBudget(side: Verdict["side"], { budget, target, asked }: Matched): string {
  const share = `${Number((100 * asked).toPrecision(4))}% of ${
    side === "query" ? "queries" : "keys and values"
  }`;
  return `At equal ${BUDGETS[budget].label}, ${showShare(target)} of dense (asked: ${share}),`;
}

/** A method of a comparison that may be the best of its side, and the share that it was asked for. */
interface OnlineMethod extends ComparedMethod {
  readonly side: Verdict["side"];
  readonly share: number;
}

/** The methods of a comparison that decide on-line, controls aside, each with its side. */
function listOnline(methods: readonly ComparedMethod[]): OnlineMethod[] {
  return methods.flatMap((method) => {
    const { options, looksAhead, missed, matched } = method;
    if (options === null || looksAhead || missed || isControl(options)) return [];
    const side = filtersQueries(readRecord(options)) ? "query" : "key";
    const share = matched?.asked ?? (side === "query" ? options.pruneRatio : options.kvRatio);
    return [{ ...method, side, share }];
  });
}

/** The highest share that methods of a side were asked for; 0 where there is none. */
const highestShare = (online: readonly OnlineMethod[], side: Verdict["side"]) =>
  Math.max(0, ...online.filter((own) => own.side === side).map(({ share }) => share));

/** What a comparison was asked for, in words. */
export function describeAsked({ methods }: Pick<Comparison, "methods">): string {
  const online = listOnline(methods),
    sides = [["query", "of queries"], ["key", "of keys and values"]] as const;
  return sides.flatMap(([side, words]) => {
    const share = highestShare(online, side);
    return share === 0 ? [] : [`${share} ${words}`];
  }).join(", ") || "-";
}

/** How a method does beside its random baseline, by the results where a comparison has them. */
function toChanceOf({ toRandom, toProtected }: ComparedMethod, row: ComparedResult | undefined) {
  const control = row?.against.control;
  if (control !== undefined) return control.verdict === "not told apart" ? "even" : control.verdict;
  const interval = row === undefined ? toProtected ?? toRandom : null;
  if (interval === null) return undefined;
  return interval.high < 0 ? "better" : interval.low > 0 ? "worse" : "even";
}

/** What a comparison says of the methods at its ratio, side by side, in sentences, first the main one. */
export function describeComparison(comparison: Comparison): string[] {
  const { methods, environment, results = [] } = comparison, task = findTask(environment.task);
  const online = listOnline(methods);
  const rows = new Map(
    results.filter((row) => row.task === task.name && row.metric === task.headline.name)
      .map((row) => [row.method, row]),
  );
  const sentences = (["query", "key"] as const).flatMap((side) => {
    const asked = highestShare(online, side);
    const own = online.filter((method) => method.side === side && method.share === asked), [best] = own;
    if (best === undefined) return [];
    const { name, toDense, closed, shares, matched } = best, spent = shares && `, ${describeShares(shares)}`;
    const where = matched === undefined ? atShare(side, asked) : atBudget(side, matched);
    const first = `${where} “${name}” costs least of the methods that do not look ahead: ${
      formatInterval(toDense!, 3)
    } ${lossUnit(task)} above dense${spent ?? ""}${
      closed === null ? "" : `; it closes ${formatPercent(closed)} of the way from its random to its oracle`
    }.`;
    const known = own.flatMap((method) => {
      const toChance = toChanceOf(method, rows.get(method.name));
      return toChance === undefined ? [] : [[method.name, toChance] as const];
    });
    return known.length === 0 ? [first] : [first, listToChance(known)];
  });
  return [
    ...sentences.length > 0
      ? sentences
      : ["No method that decides on-line came out at the ratio that was asked for."],
    ...describeBudgets(methods, rows),
    ...describeItems(comparison),
  ];
}

/** Whose budgets are unequal, in words: their differences are not the methods' alone. */
function describeBudgets(
  methods: readonly ComparedMethod[],
  rows: ReadonlyMap<string, ComparedResult>,
): string[] {
  const beyond = methods.flatMap(({ name, matched, shares }) => {
    if (matched === undefined || matched.reached) return [];
    const { budget, target } = matched;
    return [`${name} (${BUDGETS[budget].label} ${showShare(shares[budget])}, not ${showShare(target)})`];
  });
  const unequal = listOnline(methods).flatMap(({ name }) => {
    const rival = rows.get(name)?.against.rival;
    return rival?.unequal === undefined
      ? []
      : [`${name} to ${rival.name} (${describeUnequal(rival.unequal)})`];
  });
  return [
    ...(beyond.length === 0 ? [] : [
      `No ratio gives them the budget of the others, so they ran at the one asked for: ${beyond.join(", ")}.`,
    ]),
    ...(unequal.length === 0 ? [] : [`Compared at unequal budgets: ${unequal.join("; ")}.`]),
  ];
}

/** Items of which so large a share is answered as by the dense model say little of a method. */
const MOSTLY = 0.5;

/** What a comparison says of its items, a sentence a task, and one of those that methods hardly touched. */
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
        : [`${verdict} than dense: ${found.map(({ method }) => method).join(", ")}`];
    });
    const same = own.filter(({ reach }) => reach !== undefined && reach.identical > MOSTLY);
    const changed = same.map(({ method, reach, units }) =>
      `${method} ${Math.round(units * (1 - reach!.identical))}`
    );
    return [
      `${name}, ${plural(dense.units, "item")}, dense ${formatMetric(headline, dense.value)}: ` +
      `${told.length === 0 ? "no method is told apart from dense" : told.join("; ")}.`,
      ...(changed.length === 0 ? [] : [
        `Of these ${dense.units} items methods changed few: ${
          changed.join(", ")
        }; the others are the dense model's.`,
      ]),
    ];
  });
}
