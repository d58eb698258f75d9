/** Names for trials: short ones that say how a trial differs from its neighbours, and whole ones for hovering. */
import { excessKeys, formatMetric, readMetric, signed } from "../../eval/metrics.ts";
import { findTask } from "../../eval/tasks/mod.ts";
import { effectiveOptions, type OptionsRecord, readRecord, resolveOptions } from "../../methods/options.ts";
import { missesAsked } from "../../sweep/summary.ts";
import type { Trial } from "../../sweep/trial.ts";
import { escapeText } from "./figure.ts";

/** Options that move along a curve or within a band, so that they do not name it. */
const ALONG = new Set(["pruneRatio", "theta", "seed"]);

/** The options that decide something in a trial. */
export function trialOptions(trial: Trial): Partial<OptionsRecord> {
  return effectiveOptions(readRecord(trial));
}

/** What a mark beside an achieved ratio says. */
export const MISSED_NOTE = "! = skipped more than 2 points more or less than asked, so in no ranking";

/** A key that trials of one curve share: all that decides but the ratio asked for and the seed. */
export function curveKey(trial: Trial): string {
  const entries = Object.entries(trialOptions(trial)).filter(([name]) => !ALONG.has(name));
  return JSON.stringify(entries.sort(([a], [b]) => a < b ? -1 : 1));
}

/** A key that trials of one curve share where they differ in the seed alone: the same was asked of them. */
export function pointKey(trial: Trial): string {
  const { pruneRatio, theta } = trialOptions(trial);
  return JSON.stringify([curveKey(trial), pruneRatio, theta]);
}

/** The rule with its sign, and its side where that is not queries: `variance`, `variance inverted`, `mean on keys`. */
export function ruleName(trial: Trial): string {
  const signed = (rule: string) => trial.invert ? `${rule} inverted` : rule;
  const { fusion, kvFusion } = trialOptions(trial);
  const ofKeys = kvFusion === undefined || kvFusion === "same" || kvFusion === "none"
    ? []
    : [`${signed(kvFusion)} on keys`];
  return [...(fusion === undefined ? [] : [signed(fusion)]), ...ofKeys].join(" + ");
}

/** One option as text. */
function shown(name: string, value: unknown): string {
  if (typeof value === "boolean") return value ? name : `no ${name}`;
  return `${name} ${Array.isArray(value) ? value.join("+") : value}`;
}

/** Whether a trial is the paper's rule with the defaults of `--preset paper`. */
function isPaper(trial: Trial): boolean {
  const paper = resolveOptions({ preset: "paper" });
  const options = trialOptions(trial);
  return !trial.invert &&
    Object.entries(options).every(([name, value]) =>
      ALONG.has(name) || JSON.stringify(value) === JSON.stringify(paper[name as "tau"])
    );
}

/**
 * Names curves: the rule, and the options in which curves of one rule differ. An option that some of them do not have
 * needs no naming for that: another one, such as the threshold, says why.
 *
 * @param trials One trial of each curve.
 * @returns One name a curve, in their order.
 */
export function nameCurves(trials: readonly Trial[]): string[] {
  return trials.map((trial) => {
    const options = trialOptions(trial);
    const peers = trials.filter((other) => ruleName(other) === ruleName(trial)).map(trialOptions);
    const differing = Object.entries(options).filter(([name, value]) =>
      !ALONG.has(name) &&
      peers.some((peer) => name in peer && JSON.stringify(peer[name as "tau"]) !== JSON.stringify(value))
    );
    const parts = differing.map(([name, value]) => shown(name, value));
    return [ruleName(trial), ...parts].join(" · ") + (isPaper(trial) ? " (paper)" : "");
  });
}

/** Joins parts to lines of at most 48 characters. */
function wrapParts(parts: readonly string[]): string[] {
  const lines: string[] = [];
  for (const part of parts) {
    const joined = `${lines.at(-1)} · ${part}`;
    if (lines.length > 0 && joined.length <= 48) lines[lines.length - 1] = joined;
    else lines.push(part);
  }
  return lines;
}

const decimals = (value: number | null, digits: number) => value === null ? "none" : value.toFixed(digits);

/** Lines of what a task measured in a trial, in few decimals: main metric, difference to dense, the rest. */
export function resultLines(trial: Trial): string[] {
  const task = findTask(trial.task), { headline, loss, metrics } = task, keys = excessKeys(task);
  const shown = (name: string) => formatMetric(headline, readMetric(trial, name));
  const se = readMetric(trial, keys.standardError);
  return [
    `${headline.name} ${shown(headline.name)} (dense ${shown(keys.dense)})`,
    `${loss.label} ${signed(readMetric(trial, keys.delta), 3)}${
      Number.isNaN(se) ? "" : ` ± ${se.toFixed(3)}`
    }`,
    metrics.map((metric) => `${metric.label} ${formatMetric(metric, readMetric(trial, metric.name), 3)}`)
      .join(
        " · ",
      ),
  ].filter((line) => line !== "");
}

/** Lines that say everything about a trial: results first, then its configuration. */
export function hoverLines(trial: Trial): string[] {
  const options = trialOptions(trial);
  const { fusion: _, invert: __, pruneRatio: ___, ...rest } = options;
  const lines = wrapParts(Object.entries(rest).map(([name, value]) => escapeText(shown(name, value))));
  return [
    `<b>${escapeText(ruleName(trial))}</b>`,
    `skipped ${decimals(trial.achievedRatio, 3)} (asked ${options.pruneRatio ?? "by another rule"}${
      missesAsked(trial) ? ": missed" : ""
    })`,
    ...resultLines(trial),
    ...lines,
  ];
}
