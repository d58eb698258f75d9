/** Parallel coordinates of a sweep: a line per trial, an axis per result and per option that varies. */
import { readMetric } from "../../../eval/metrics.ts";
import { findTask } from "../../../eval/tasks/mod.ts";
import { BUDGETS } from "../../../sweep/budgets.ts";
import { excessLoss } from "../../../sweep/importance.ts";
import type { SweepSummary, Trial } from "../../../sweep/trial.ts";
import { axis, emptyFigure, escapeText, type Figure } from "../../figure/figure.ts";
import { chart, NO_DECISION, trace } from "../../figure/parts.ts";
import { styleRule } from "../../trials/rule_style.ts";
import { hoverLines, isControl, methodName, trialOptions, varyingOptions } from "../../trials/trial_label.ts";
import { drawnMetrics } from "../methods/quality.ts";

/** @internal The numbers of the plot. */
export interface ParallelTrials {
  /** Options and results, top first, with texts along the axis: at 0 = left end, 1 = right end. */
  readonly axes: readonly {
    readonly name: string;
    readonly ticks: readonly { readonly at: number; readonly text: string }[];
  }[];
  /** How many of the axes, the first ones, are options. */
  readonly options: number;
  /** Trials of methods, controls apart, in the summary's order. */
  readonly trials: readonly {
    readonly rule: string;
    /** Place on each axis, in [0, 1]; null where the option has no effect. */
    readonly at: readonly (number | null)[];
    readonly hover: string;
  }[];
  /** Trials of methods without a decided token or a finite result. */
  readonly dropped: number;
  /** Trials that were left out, to keep lines distinguishable: those of highest loss. */
  readonly worse: number;
}

/** Results that have an axis each: skipped fractions, budgets, the loss, and metrics that have figures of their own. */
function listResults(task: string | undefined): [name: string, value: (trial: Trial) => number][] {
  const [, ...metrics] = drawnMetrics(findTask(task));
  return [
    ["queries skipped", (trial) => trial.achievedRatio ?? NaN],
    ["attention FLOPs", BUDGETS.attentionFlops.retained],
    ["loss increase", excessLoss],
    ...metrics.map(({ name, label }): [string, (trial: Trial) => number] => [
      label,
      (trial) => readMetric(trial, name),
    ]),
  ];
}
const DIGITS = 2;
/** More lines than this are a smear. */
const MAX_TRIALS = 400;
/** Options with more values than this show only the ends. */
const MAX_TICKS = 4;
const TITLE = "Trials across options and results";

/** Gathers places on the axes: values of an option in their order, evenly spaced; results to scale. */
export function collectParallel(summary: SweepSummary): ParallelTrials {
  const results = listResults(summary.environment.task);
  const methods = summary.trials.filter((trial) => !isControl(trial));
  const drawable = methods.filter((trial) => results.every(([, value]) => Number.isFinite(value(trial))));
  const best = new Set(drawable.toSorted((a, b) => excessLoss(a) - excessLoss(b)).slice(0, MAX_TRIALS));
  const trials = drawable.filter((trial) => best.has(trial));
  const options = trials.map(trialOptions);
  const drawn = new Set(["pruneRatio", ...varyingOptions(trials)]);
  if (options.some(({ pruneRatio }) => pruneRatio === undefined)) drawn.add("kvRatio");
  const names = [...new Set(options.flatMap(Object.keys))].filter((name) =>
    name !== "seed" && drawn.has(name) && levelsOf(options, name).length > 1
  );
  const places: ((i: number) => number | null)[] = [];
  const axes = names.map((name) => {
    const levels = levelsOf(options, name), keys = levels.map((level) => JSON.stringify(level));
    const step = (i: number) => i / (levels.length - 1);
    places.push((i) =>
      options[i]![name] === undefined ? null : step(keys.indexOf(JSON.stringify(options[i]![name])))
    );
    const ticks = levels.map((level, i) => ({ at: step(i), text: [level].flat().join("+") }));
    return { name, ticks: ticks.length <= MAX_TICKS ? ticks : [ticks[0]!, ticks.at(-1)!] };
  });
  for (const [name, value] of results) {
    const values = trials.map(value), low = Math.min(...values), high = Math.max(...values);
    places.push((i) => high > low ? (values[i]! - low) / (high - low) : 0.5);
    const lowest = { at: high > low ? 0 : 0.5, text: low.toFixed(DIGITS) };
    axes.push({ name, ticks: high > low ? [lowest, { at: 1, text: high.toFixed(DIGITS) }] : [lowest] });
  }
  return {
    axes: trials.length === 0 ? [] : axes,
    options: names.length,
    trials: trials.map((trial, i) => ({
      rule: methodName(trial),
      at: places.map((place) => place(i)),
      hover: hoverLines(trial).join("<br>"),
    })),
    dropped: methods.length - drawable.length,
    worse: drawable.length - trials.length,
  };
}

function levelsOf(options: readonly { readonly [name: string]: unknown }[], name: string): unknown[] {
  const values = options.map((option) => option[name]).filter((value) => value !== undefined);
  const levels = [...new Map(values.map((value) => [JSON.stringify(value), value])).values()];
  return levels.every((level) => typeof level === "number")
    ? (levels as number[]).sort((a, b) => a - b)
    : levels;
}

/** Room that the trials of one value take on an option's axis, as a fraction of the axis. */
const SPREAD = 0.06;

/** Moves trials with the same value of an option apart, so that their lines are distinguishable. */
function spreadLevels(places: readonly (readonly (number | null)[])[], options: number): (number | null)[][] {
  const moved = places.map((at) => [...at]);
  for (let axis = 0; axis < options; axis++) {
    const levels = Map.groupBy(places.keys(), (trial) => places[trial]![axis]);
    for (const [at, trials] of levels) {
      if (at === null || at === undefined) continue;
      trials.forEach((trial, k) => moved[trial]![axis] = at + SPREAD * ((k + 0.5) / trials.length - 0.5));
    }
  }
  return moved;
}

/** Draws the axes one below the other, so that a narrow page has room for them too. */
export function plotParallel({ axes, options, trials, dropped, worse }: ParallelTrials): Figure {
  if (trials.length === 0) {
    return emptyFigure(TITLE, NO_DECISION);
  }
  const rules = [...Map.groupBy(trials, ({ rule }) => rule)]
    .sort(([a], [b]) => styleRule(a).rank - styleRule(b).rank);
  const spread = spreadLevels(trials.map(({ at }) => at), options);
  const place = new Map(trials.map((trial, i) => [trial, spread[i]!]));
  const lines = rules.map(([rule, group]) => {
    const { color, symbol, dash } = styleRule(rule);
    // One trace a rule: its trials one after the other, with a gap between.
    const rows = group.flatMap((trial) => [
      ...place.get(trial)!.map((x, y) => ({ x, y, hover: trial.hover })),
      { x: null, y: 0, hover: "" },
    ]);
    return trace({
      name: escapeText(rule),
      x: rows.map(({ x }) => x),
      y: rows.map(({ y }) => y),
      hover: rows.map(({ hover }) => hover),
      opacity: 0.75,
      line: { color, width: 1.5, dash },
      marker: { color, symbol, size: 6 },
    });
  });
  const ticks = axes.flatMap(({ ticks }, y) => ticks.map(({ at, text }) => ({ at, y, text })));
  const lost = [
    dropped === 0 ? "" : ` Left out: ${dropped} without a decided token or a finite loss.`,
    worse === 0 ? "" : ` The ${trials.length} of lowest loss are shown, ${worse} are not.`,
  ].join("");
  return chart({
    title: TITLE,
    caption:
      "A line is a trial of a method, controls apart. Axes lie one below the other: options that vary, their values in order and evenly " +
      `spaced, then results from the lowest to the highest; an option without effect leaves a gap.${lost}`,
    height: 70 + 56 * axes.length,
    data: lines,
    margin: { l: 58, r: 14, t: 20, b: 20 },
    xaxis: axis("", { range: [-0.08, 1.08], visible: false, fixedrange: true }),
    yaxis: axis("", {
      range: [axes.length - 0.45, -0.45],
      tickmode: "array",
      tickvals: axes.map((_, y) => y),
      ticktext: axes.map(({ name }) => escapeText(name)),
      gridcolor: "@muted",
      fixedrange: true,
    }),
    annotations: ticks.map(({ at, y, text }) => ({
      x: at,
      y,
      text: escapeText(text),
      showarrow: false,
      yshift: -15,
      bgcolor: "@card",
      borderpad: 1,
      font: { color: "@muted", size: 10 },
    })),
  });
}
