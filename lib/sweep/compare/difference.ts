/** Two runs side by side: the options that both have, and the difference of their losses. */
import type { Environment } from "../../environment.ts";
import { readMetric } from "../../eval/metrics.ts";
import { labelOf, type Task, type TaskResult } from "../../eval/task.ts";
import { recordLosses } from "../../eval/evaluation.ts";
import { findTask } from "../../eval/tasks/mod.ts";
import { effectiveOptions, readRecord } from "../../methods/bind/options.ts";
import type { Interval } from "../../stats/bootstrap.ts";
import { type BlockSums, pairedInterval } from "../../stats/paired.ts";
import type { Comparison } from "./comparison.ts";
import { differ, excessOf, missesRequested } from "../summary.ts";
import type { SweepSummary, Trial } from "../trial.ts";

/** The part of `score.json` that a difference needs. */
interface ScoreResult extends Partial<Pick<TaskResult, "achievedRatio" | "kvAchievedRatio">> {
  /** Token ids of all sequences. */
  readonly ids: readonly number[];
  /** Loss of each token but the first of each sequence, nats. */
  readonly nll: readonly number[];
  /** Tokens of each sequence, where there are several. */
  readonly lengths?: readonly number[];
  /** The full model's losses, where a method was at work. */
  readonly denseNll?: readonly number[];
}

export type RunResult =
  & { readonly name: string }
  & (
    | { readonly kind: "sweep"; readonly data: SweepSummary }
    | { readonly kind: "compare"; readonly data: Comparison }
    | { readonly kind: "score"; readonly data: ScoreResult }
  );

export interface DifferenceSide extends Pick<TaskResult, "achievedRatio" | "kvAchievedRatio"> {
  readonly loss: number;
  /** Its losses by blocks; undefined in records of versions that kept none. */
  readonly blocks: BlockSums | undefined;
  /** Loss increase over the run's own full model; undefined where it is not known. */
  readonly excess: Interval | undefined;
  /** Whether it skipped more than two points more or less than requested. */
  readonly missed: boolean;
}

/** The same method in both runs, or in one of them. */
export interface DifferenceRow {
  /** Name of a method of a comparison; of a sweep's trial its digest. */
  readonly name: string;
  /** The trial of a sweep: that of the first run that has it. */
  readonly trial?: Trial;
  /** The second run's, where both have it: it differs only in {@linkcode RunDifference.options}. */
  readonly match?: Trial;
  /** In the first run; null where it is not in it. */
  readonly a: DifferenceSide | null;
  readonly b: DifferenceSide | null;
  /**
   * Mean loss of the second less that of the first, where {@linkcode RunDifference.paired}; else the same of their losses
   * above each run's own full model. Null where a run lacks it. The ends are NaN where a text has only one block.
   */
  readonly difference: Interval | null;
}

interface DifferingValue {
  readonly name: string;
  /** In the first run; empty where it has none. */
  readonly a: string;
  readonly b: string;
}

export interface RunDifference {
  readonly kind: RunResult["kind"];
  /** Names of the first and the second. */
  readonly names: readonly [a: string, b: string];
  /** Name of the task that both evaluate. */
  readonly task: string;
  /** Whether the losses are of the same tokens, so that differences are those of each block. */
  readonly paired: boolean;
  /** Why they are not, in words. */
  readonly unpaired: string | undefined;
  readonly conditions: readonly DifferingValue[];
  /** Options that each run has one value of, and the other one another: trials are matched whatever these are. */
  readonly options: readonly DifferingValue[];
  /** The model without a filter; undefined where a run does not have it. */
  readonly dense: DifferenceRow | undefined;
  /** Methods, in the first run's order; last those that only the second has. */
  readonly rows: readonly DifferenceRow[];
  /** Where the runs took place; undefined where a result has no record of it. */
  readonly environments: readonly [a: Environment | undefined, b: Environment | undefined];
}

/** The largest difference of two mean losses that may be due only to rounding, nats per token. */
const ROUNDING = 1e-6;

/** Whether a difference is one, beyond its interval and beyond rounding: of which sign; 0 = it is not. */
export function signOf({ estimate, low, high }: Interval): -1 | 0 | 1 {
  if (Math.abs(estimate) <= ROUNDING) return 0;
  return low > 0 ? 1 : high < 0 ? -1 : 0;
}

type Run = ReturnType<typeof readRun>;

/**
 * Sets two results of one task side by side. Trials of sweeps are matched by their options, methods of comparisons by
 * their names.
 *
 * @throws {RangeError} If they are results of different tasks, or protocols.
 */
export function diffRuns(a: RunResult, b: RunResult): RunDifference {
  if (a.kind !== b.kind) {
    throw new RangeError(
      `Cannot compare "${a.name}" with "${b.name}": found results of ${a.kind} and of ${b.kind}, expected one task's`,
    );
  }
  const first = readRun(a), second = readRun(b);
  if (first.task !== second.task) {
    throw new RangeError(
      `Cannot compare "${a.name}" with "${b.name}": found --task ${first.task.name} and ${second.task.name}, expected one`,
    );
  }
  const labels = [first, second].map(({ task, environment }) =>
    environment && labelOf(task, environment.context)
  );
  if (labels.every((label) => label !== undefined) && labels[0] !== labels[1]) {
    throw new RangeError(
      `Cannot compare "${a.name}" with "${b.name}": found ${labels.join(" and ")}, expected one protocol`,
    );
  }
  const options = a.kind === "sweep" && b.kind === "sweep" ? differingOptions(a.data, b.data) : [];
  const moved = new Set(options.map(({ name }) => name));
  const keyOf = ({ name, trial }: Row) => {
    if (trial === undefined) return name;
    const kept = Object.entries(trialOptions(trial)).filter(([name]) => !moved.has(name));
    return JSON.stringify(kept.sort(([a], [b]) => a < b ? -1 : 1));
  };
  const unpaired = whyUnpaired(first, second);
  const join = (a: Row | undefined, b: Row | undefined): DifferenceRow => {
    const { name, trial } = (a ?? b)!;
    return {
      name,
      ...(trial && { trial }),
      ...(a && b?.trial && { match: b.trial }),
      a: a?.side ?? null,
      b: b?.side ?? null,
      difference: a && b ? subtract(first.task, a.side, b.side, unpaired === undefined) : null,
    };
  };
  const left = new Map(second.rows.map((row) => [keyOf(row), row]));
  const rows = first.rows.map((row) => {
    const key = keyOf(row), match = left.get(key);
    left.delete(key);
    return join(row, match);
  });
  return {
    kind: a.kind,
    names: [a.name, b.name],
    task: first.task.name,
    paired: unpaired === undefined,
    unpaired,
    conditions: differingConditions(first.environment, second.environment),
    options,
    dense: first.dense && second.dense ? join(first.dense, second.dense) : undefined,
    rows: [...rows, ...left.values().map((row) => join(undefined, row))],
    environments: [first.environment, second.environment],
  };
}

interface Row {
  readonly name: string;
  readonly trial?: Trial;
  readonly side: DifferenceSide;
}

const trialOptions = (trial: Trial): object => effectiveOptions(readRecord(trial));

/** A difference of losses of the same tokens, or of two runs' loss increases over their own full models. */
function subtract(task: Task, a: DifferenceSide, b: DifferenceSide, paired: boolean): Interval | null {
  if (paired) return differ(task, a.blocks!, b.blocks!) ?? null;
  if (a.excess === undefined || b.excess === undefined) return null;
  // The ends of two independent intervals, added in squares (Newcombe 1998).
  const estimate = b.excess.estimate - a.excess.estimate;
  return {
    estimate,
    low: estimate - Math.hypot(b.excess.estimate - b.excess.low, a.excess.high - a.excess.estimate),
    high: estimate + Math.hypot(b.excess.high - b.excess.estimate, a.excess.estimate - a.excess.low),
  };
}

function whyUnpaired(a: Run, b: Run): string | undefined {
  const sides = [a, b].flatMap(({ dense, rows }) => [...rows, ...dense ? [dense] : []]);
  if (
    a.tokens === undefined || b.tokens === undefined || sides.some(({ side }) => side.blocks === undefined)
  ) {
    return "a run was written by a version that kept no losses to pair by";
  }
  if (a.tokens !== b.tokens || new Set(sides.map(({ side }) => String(side.blocks!.sizes))).size !== 1) {
    return "the runs did not read the same tokens in the same chunks";
  }
  return undefined;
}

function readRun({ kind, data }: RunResult): {
  readonly task: Task;
  /** The key that runs of the same tokens share. */
  readonly tokens: string | undefined;
  readonly environment: Environment | undefined;
  readonly dense: Row | undefined;
  readonly rows: readonly Row[];
} {
  if (kind === "score") return readScore(data);
  const { environment } = data, task = findTask(environment.task);
  const { tokensSha256, context } = environment;
  const shared = { task, environment, tokens: tokensSha256 && `${tokensSha256} ${context}` };
  if (kind === "compare") {
    const [dense, ...rows] = data.methods.map((method) => {
      const { name, loss, lossIncrease, lossBlocks, achievedRatio, kvAchievedRatio = null, missed } = method;
      const losses = { loss, blocks: lossBlocks, excess: lossIncrease ?? ZERO };
      return { name, side: { ...losses, achievedRatio, kvAchievedRatio, missed } };
    });
    return { ...shared, dense, rows };
  }
  const loss = readMetric(data.dense, task.loss.name);
  const rows = data.trials.map((trial): Row => ({
    name: trial.trial,
    trial,
    side: readTrial(trial, loss, data.dense.lossBlocks),
  }));
  const side = { ...NOTHING, loss, blocks: data.dense.lossBlocks, excess: ZERO };
  return { ...shared, dense: { name: "dense", side }, rows };
}

const NOTHING = { achievedRatio: 0, kvAchievedRatio: null, missed: false } as const;
const ZERO: Interval = { estimate: 0, low: 0, high: 0 };

function readTrial(trial: Trial, dense: number, denseBlocks: BlockSums | undefined): DifferenceSide {
  const excess = excessOf(trial, denseBlocks);
  return {
    loss: dense + excess.estimate,
    blocks: trial.lossBlocks,
    excess,
    achievedRatio: trial.achievedRatio,
    kvAchievedRatio: trial.kvAchievedRatio ?? null,
    missed: missesRequested(trial),
  };
}

function readScore(data: ScoreResult): Run {
  const { ids, nll, denseNll, lengths = [ids.length], achievedRatio = 0, kvAchievedRatio = null } = data;
  const read = (losses: readonly number[]) => {
    let end = 0;
    const chunks = lengths.map((length) => Float64Array.from(losses.slice(end, end += length - 1)));
    return { loss: losses.reduce((a, b) => a + b, 0) / losses.length, blocks: recordLosses(chunks) };
  };
  const own = read(nll), dense = denseNll && read(denseNll);
  const excess = dense && pairedInterval(dense.blocks, own.blocks);
  return {
    task: findTask(),
    tokens: JSON.stringify([ids, lengths]),
    environment: undefined,
    dense: dense && { name: "dense", side: { ...NOTHING, ...dense, excess: ZERO } },
    rows: [{ name: "score", side: { ...NOTHING, ...own, excess, achievedRatio, kvAchievedRatio } }],
  };
}

/** Conditions that are reported where they differ. */
const CONDITIONS = [
  ..."version model modelSha256 text textSha256 context textTokens tokensSha256 bos backend cacheDType".split(
    " ",
  ),
  ..."products dtype ruleSha256 calibrationSha256 calibration backendDescription platform deno".split(" "),
];

function differingConditions(a: Environment | undefined, b: Environment | undefined): DifferingValue[] {
  const valueOf = (environment: Environment | undefined, name: string) =>
    String((environment as Record<string, unknown> | undefined)?.[name] ?? "");
  return CONDITIONS.map((name) => ({ name, a: valueOf(a, name), b: valueOf(b, name) }))
    .filter(({ a, b }) => a !== b)
    .map(({ name, ...values }) => {
      if (!name.endsWith("Sha256")) return { name, ...values };
      return { name, a: values.a.slice(0, 12), b: values.b.slice(0, 12) };
    });
}

/** Options that all trials of a run have one value of, where they have it, and those of the other run another one. */
function differingOptions(a: SweepSummary, b: SweepSummary): DifferingValue[] {
  const [ofA, ofB] = [a, b].map(({ trials }) =>
    trials.map((trial) => new Map(Object.entries(trialOptions(trial))))
  );
  const names = new Set([...ofA!, ...ofB!].flatMap((options) => [...options.keys()]));
  const valuesOf = (all: typeof ofA, name: string) => [
    ...new Set(
      all!.filter((options) => options.has(name)).map((options) => JSON.stringify(options.get(name))),
    ),
  ];
  return [...names].flatMap((name) => {
    const inA = valuesOf(ofA, name), inB = valuesOf(ofB, name);
    if (inA.length > 1 || inB.length > 1 || inA[0] === inB[0]) return [];
    return [{ name, a: inA[0] ?? "", b: inB[0] ?? "" }];
  });
}
