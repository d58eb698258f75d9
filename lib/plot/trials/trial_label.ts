/** Names for trials: short ones that show how a trial differs from its neighbours, and whole ones for hovering. */
import { excessKeys, formatMetric, readMetric, signed } from "../../eval/metrics.ts";
import { findTask } from "../../eval/tasks/mod.ts";
import { effectiveOptions, type OptionsRecord, readRecord } from "../../methods/bind/options.ts";
import { filtersQueries } from "../../methods/bind/sides.ts";
import { BUDGET_NAMES, BUDGETS, type Retained, retainedOf, showFraction } from "../../sweep/budgets.ts";
import { isBaseline, presetName } from "../../sweep/compare/controls.ts";
import { missesRequested } from "../../sweep/summary.ts";
import type { Trial } from "../../sweep/trial.ts";
import { escapeText, wrapParts } from "../figure/layout.ts";

/** Options that move along a curve or within a band, so that they do not name it. */
const ALONG = new Set(["pruneRatio", "kvRatio", "theta", "seed"]);

export function trialOptions(
  trial: OptionsRecord,
): Partial<OptionsRecord> & { readonly [name: string]: unknown } {
  return { ...effectiveOptions(readRecord(trial)) };
}

/** Whether a trial is a control: a random baseline, the oracle, or decisions in a random order. */
export const isControl = (trial: OptionsRecord): boolean => isBaseline(readRecord(trial));

/** Meaning of the mark next to an achieved ratio. */
export const MISSED_NOTE =
  "! = skipped more than 2 points more or fewer queries than requested, so in no ranking";

/** A key that trials of one curve share: all that decides but the ratios asked for and the seed. */
export function curveKey(trial: Trial): string {
  const entries = Object.entries(trialOptions(trial)).filter(([name]) => !ALONG.has(name));
  return JSON.stringify(entries.sort(([a], [b]) => a < b ? -1 : 1));
}

/** A key that trials of one curve share where they differ in only the seed: the same was asked of them. */
export function pointKey(trial: Trial): string {
  const { pruneRatio, kvRatio, theta } = trialOptions(trial);
  return JSON.stringify([curveKey(trial), pruneRatio, kvRatio, theta]);
}

/**
 * The rule with its sign, and its side where that is not queries: `variance`, `variance inverted`, `mean on keys`; and
 * `shuffled` behind it where its decisions are.
 */
export function ruleName(trial: OptionsRecord): string {
  const signed = (rule: string) => trial.invert ? `${rule} inverted` : rule;
  const { fusion, kvFusion, shuffle } = trialOptions(trial);
  const ofKeys = kvFusion === undefined || kvFusion === "same" || kvFusion === "none"
    ? []
    : [`${signed(kvFusion)} on keys`];
  const rules = [...(fusion === undefined ? [] : [signed(fusion)]), ...ofKeys].join(" + ");
  return shuffle ? `${rules} shuffled` : rules;
}

const presets = new WeakMap<OptionsRecord, string | undefined>();

/** Name of a trial: its preset, or the preset that it is a control of (`random for keys`); else its rule. */
export function methodName(trial: OptionsRecord): string {
  if (!presets.has(trial)) presets.set(trial, presetName(readRecord(trial)));
  return presets.get(trial) ?? ruleName(trial);
}

/** Records of trials with their methods' names in tables, for files. */
export const nameTrials = <T extends OptionsRecord>(trials: readonly T[]) =>
  trials.map((trial) => ({ method: methodName(trial), ...trial }));

/** The requested ratios: `0.5` of queries; `0.5 of KV` if only keys and values are evicted. */
export function requestedRatios(trial: OptionsRecord): string {
  const { pruneRatio, kvRatio } = trialOptions(trial);
  if (pruneRatio === undefined) return kvRatio === undefined ? "-" : `${kvRatio} of KV`;
  return kvRatio === undefined || kvRatio === pruneRatio
    ? String(pruneRatio)
    : `${pruneRatio}, ${kvRatio} of KV`;
}

/**
 * The options in which trials differ, without ratios and the options in the name. These vary among trials of one name,
 * or among trials of one side that are no preset and no preset's control.
 */
export function varyingOptions(trials: readonly OptionsRecord[]): string[] {
  const named = new Set(["fusion", "invert", "pruneRatio"]);
  const options = new Map(trials.map((trial) => [trial, trialOptions(trial)]));
  const groups = [
    ...Map.groupBy(trials, methodName).values(),
    ...Map.groupBy(
      trials.filter((trial) => methodName(trial) === ruleName(trial)),
      (trial) => filtersQueries(readRecord(trial)),
    ).values(),
  ];
  const varies = (name: string) =>
    groups.some((group) => {
      const values = group.map((trial) => options.get(trial)![name]).filter((value) => value !== undefined);
      return new Set(values.map((value) => JSON.stringify(value))).size > 1;
    });
  const asked = (name: string) =>
    name === "kvRatio" &&
    trials.every((trial) => {
      const { pruneRatio, kvRatio } = options.get(trial)!;
      return pruneRatio === undefined || kvRatio === undefined || pruneRatio === kvRatio;
    });
  return [...new Set([...options.values()].flatMap(Object.keys))]
    .filter((name) => !named.has(name) && !asked(name) && varies(name));
}

/** `pairs 62%, KV cache 55%, …`: retained fractions of the full model's budgets; parameters if some are removed. */
export function describeRetained(retained: Retained): string {
  const said = BUDGET_NAMES.filter((name) =>
    name !== "projectionFlops" && (name !== "parameters" || retained.parameters < 1)
  ).map((name) => `${BUDGETS[name].label} ${showFraction(retained[name])}`);
  return `retained: ${said.join(", ")}`;
}

/** The value of an option, lists as `7+18`; with the whole layers or heads that a probe has found. */
export function optionText(
  name: string,
  value: unknown,
  { wholeLayers = [], wholeHeads = [] }: Partial<Trial> = {},
): string {
  if (Array.isArray(value)) return value.join("+");
  const found = name === "whole" && value !== "none" ? [...wholeLayers, ...wholeHeads] : [];
  return found.length > 0 ? `${value}: ${found.join("+")}` : String(value);
}

function shown(name: string, value: unknown, trial?: Partial<Trial>): string {
  if (typeof value === "boolean") return value ? name : `no ${name}`;
  return `${name} ${optionText(name, value, trial)}`;
}

/**
 * Names curves: the method, and the options in which curves of one name differ. An option that some of them do not have
 * is not named for that reason: another option, such as the threshold, explains it.
 *
 * @param trials One trial of each curve.
 * @returns One name a curve, in their order.
 */
export function nameCurves(trials: readonly Trial[]): string[] {
  return trials.map((trial) => {
    const options = trialOptions(trial);
    const peers = trials.filter((other) => methodName(other) === methodName(trial)).map(trialOptions);
    const differing = Object.entries(options).filter(([name, value]) =>
      !ALONG.has(name) &&
      peers.some((peer) => name in peer && JSON.stringify(peer[name]) !== JSON.stringify(value))
    );
    const parts = differing.map(([name, value]) => shown(name, value));
    return [methodName(trial), ...parts].join(" · ");
  });
}

const decimals = (value: number | null, digits: number) => value === null ? "none" : value.toFixed(digits);

/** Lines for a task's results in a trial, in few decimals: main metric, difference to dense, the rest. */
export function resultLines(trial: Trial): string[] {
  const task = findTask(trial.task), { headline, loss, metrics } = task, keys = excessKeys(task);
  const shown = (name: string) => formatMetric(headline, readMetric(trial, name));
  const se = readMetric(trial, keys.standardError), error = Number.isNaN(se) ? "" : ` ± ${se.toFixed(3)}`;
  return [
    `${headline.name} ${shown(headline.name)} (dense ${shown(keys.dense)})`,
    `${loss.label} increase ${signed(readMetric(trial, keys.delta), 3)}${error}`,
    metrics.map((metric) => `${metric.label} ${formatMetric(metric, readMetric(trial, metric.name), 3)}`)
      .join(" · "),
  ].filter((line) => line !== "");
}

export function configurationLines(
  trial: OptionsRecord & Pick<Partial<Trial>, "wholeLayers" | "wholeHeads">,
): string[] {
  const { fusion: _, invert: __, pruneRatio: ___, ...rest } = trialOptions(trial);
  const name = methodName(trial), rule = ruleName(trial);
  return [
    `<b>${escapeText(name)}</b>${name === rule ? "" : escapeText(` (${rule})`)}`,
    ...wrapParts(
      Object.entries(rest).map(([name, value]) => escapeText(shown(name, value, trial))),
      " · ",
      48,
    ),
  ];
}

/** Lines with everything about a trial: results first, then its configuration. */
export function hoverLines(trial: Trial): string[] {
  const options = trialOptions(trial), [head, ...lines] = configurationLines(trial);
  const requested = `${options.pruneRatio ?? "none"}${missesRequested(trial) ? ": missed" : ""}`;
  return [
    head!,
    `queries skipped ${decimals(trial.achievedRatio, 3)} (requested ${requested})`,
    ...(typeof trial.kvAchievedRatio === "number"
      ? [`KV evicted ${decimals(trial.kvAchievedRatio, 3)} (requested ${options.kvRatio ?? "none"})`]
      : []),
    describeRetained(retainedOf(trial)),
    ...resultLines(trial),
    ...lines,
  ];
}
