/** What a sweep or a comparison says, in plain words: the best on-line method, and how far it comes from chance to the oracle. */
import { costOf, excessKeys, formatMetric, lossUnit, readMetric } from "../../eval/metrics.ts";
import { findTask } from "../../eval/tasks/mod.ts";
import { findMethod } from "../../methods/list.ts";
import type { Interval } from "../../stats/bootstrap.ts";
import type { ComparedMethod, Comparison } from "../../sweep/comparison.ts";
import { missesAsked } from "../../sweep/summary.ts";
import type { SweepSummary, Trial } from "../../sweep/trial.ts";
import { ruleName, trialOptions } from "../figure/trial_label.ts";
import { formatInterval, formatPercent } from "../plots/comparison.ts";

/** How one rule came out beside chance. */
export interface RuleVerdict {
  /** The rule with its sign. */
  readonly rule: string;
  /** Its best trial at the ratio. */
  readonly trial: Trial;
  /** Share of the way from the control to the oracle in loss; undefined where either did not run alike. */
  readonly closed: Interval | undefined;
  /** Whether it is better or worse than its control beyond the interval; undefined without a control. */
  readonly toChance: "better" | "worse" | "even" | undefined;
}

/** The numbers behind the words. */
export interface Verdict {
  /** The ratio that it speaks of: the highest that was asked for. */
  readonly asked: number;
  /** On-line rules, best first. */
  readonly rules: readonly RuleVerdict[];
}

/** Standard errors on either side of a 95% interval. */
const Z = 1.96;

interface Loss {
  readonly mean: number;
  readonly variance: number;
}

const isChance = ({ fusion }: Trial) => findMethod(fusion)?.looks?.chance === true;

/** Gathers the verdict; undefined where no on-line rule came out near the ratio that was asked for. */
export function collectVerdict({ trials, environment }: SweepSummary): Verdict | undefined {
  const task = findTask(environment.task), { delta, standardError } = excessKeys(task);
  const near = trials.filter((trial) =>
    trialOptions(trial).pruneRatio !== undefined && trial.achievedRatio !== null && !missesAsked(trial)
  );
  const lossOf = (alike: readonly Trial[]): Loss | undefined =>
    alike.length === 0 ? undefined : {
      mean: average(alike.map((trial) => readMetric(trial, delta))),
      variance: average(alike.map((trial) => readMetric(trial, standardError) ** 2)),
    };
  const online = near.filter((trial) => !trial.looksAhead && !isChance(trial));
  if (online.length === 0) return undefined;
  const asked = Math.max(...online.map(({ pruneRatio }) => pruneRatio));
  const there = near.filter(({ pruneRatio }) => pruneRatio === asked);
  const cost = (trial: Trial) => costOf(task.headline, readMetric(trial, task.headline.name));
  const best = Map.groupBy(online.filter((trial) => trial.pruneRatio === asked), ruleName).values()
    .map((group) => group.toSorted((a, b) => cost(a) - cost(b))[0]!);
  const rules = [...best].sort((a, b) => cost(a) - cost(b)).map((trial): RuleVerdict => {
    const own = lossOf([trial])!,
      chance = lossOf(there.filter((other) => other.fusion === "random" && isAlike(trial, other)));
    const oracle = lossOf(there.filter((other) => other.fusion === "oracle" && isAlike(trial, other)));
    const above = chance && own.mean - chance.mean;
    const noise = chance && Z * Math.sqrt(own.variance + chance.variance);
    return {
      rule: ruleName(trial),
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
  return { asked, rules };
}

const average = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;

/** Options that say which rule scores, and how: in these a control is another. */
const RULES_OWN = new Set(["fusion", "invert", "seed"]);

/** Whether a control has all its options, rule and seed aside, in common with a trial. */
function isAlike(trial: Trial, control: Trial): boolean {
  const own = trialOptions(trial) as { readonly [name: string]: unknown };
  return Object.entries(trialOptions(control)).every(([name, value]) =>
    RULES_OWN.has(name) || !(name in own) ||
    JSON.stringify(own[name]) === JSON.stringify(value)
  );
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

/** The verdict in sentences, first the main one. */
export function describeVerdict(verdict: Verdict | undefined, summary: SweepSummary): string[] {
  if (verdict === undefined) {
    return ["No on-line rule came out at a ratio that was asked for: nothing to compare."];
  }
  const { asked, rules } = verdict, { headline } = findTask(summary.environment.task);
  const [{ rule, trial, closed, toChance }] = rules as readonly [RuleVerdict, ...RuleVerdict[]];
  const shown = (record: object) => formatMetric(headline, readMetric(record, headline.name));
  const percent = `${Number((100 * asked).toPrecision(4))}%`;
  const first = closed === undefined
    ? `At ${percent} skipped attention “${rule}” is the best on-line rule: ${headline.name} ${
      shown(trial)
    }, dense ${shown(summary.dense)}.`
    : `At ${percent} skipped attention “${rule}” closes ${
      formatPercent(closed)
    } of the way from chance to the oracle: ${headline.name} ${shown(trial)}, dense ${shown(summary.dense)}.`;
  if (toChance === undefined) {
    return [
      first,
      "No control ran alike: give --fusion random and oracle too, to see what chance and foresight do.",
    ];
  }
  return [
    first,
    listToChance(rules.map(({ rule, toChance }) => [rule, toChance])),
    "Chance is the random control with the same options. 95% intervals, from standard errors over blocks of the text as " +
    "if runs were independent; deno task compare pairs them.",
  ];
}

/** `Better than chance: learned; worse: key.` */
function listToChance(methods: readonly (readonly [name: string, RuleVerdict["toChance"]])[]): string {
  const groups = [["better", "better than chance"], ["even", "no different"], ["worse", "worse"]] as const;
  const parts = groups.flatMap(([which, words]) => {
    const names = methods.filter(([, toChance]) => toChance === which).map(([name]) => name);
    return names.length === 0 ? [] : [`${words}: ${names.join(", ")}`];
  });
  const text = parts.join("; ");
  return `${text[0]!.toUpperCase()}${text.slice(1)}.`;
}

/** The ratio of a comparison, the highest that was asked for: a method that drops keys alone asks for none. */
export function comparedRatio(methods: readonly Pick<ComparedMethod, "options">[]): number {
  return Math.max(0, ...methods.map(({ options }) => options?.pruneRatio ?? 0));
}

/** What a comparison says of the methods at its ratio, in sentences, first the main one. */
export function describeComparison({ methods, environment }: Comparison): string[] {
  const asked = comparedRatio(methods);
  const online = methods.filter(({ options, looksAhead, missed }) =>
    options !== null && options.pruneRatio === asked && !looksAhead && !missed &&
    findMethod(options.fusion)?.looks?.chance !== true
  );
  const [best] = online;
  if (best === undefined) return ["No method that decides on-line came out at the ratio that was asked for."];
  const { name, toDense, closed } = best;
  const first =
    `At ${Number((100 * asked).toPrecision(4))}% skipped attention “${name}” costs least of the ` +
    `methods that do not look ahead: ${formatInterval(toDense!, 3)} ${
      lossUnit(findTask(environment.task))
    } above dense` +
    `${
      closed === null ? "" : `; it closes ${formatPercent(closed)} of the way from its random to its oracle`
    }.`;
  const known = online.flatMap(({ name, toRandom }) =>
    toRandom === null
      ? []
      : [[name, toRandom.high < 0 ? "better" : toRandom.low > 0 ? "worse" : "even"] as const]
  );
  return known.length === 0 ? [first] : [first, listToChance(known)];
}
