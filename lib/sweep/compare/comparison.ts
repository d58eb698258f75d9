/** Several methods at equal budgets on the same text, with intervals of their differences. */
import { recordLosses } from "../../eval/evaluation.ts";
import { blockOf, isOfAnswers, readMetric } from "../../eval/metrics.ts";
import type { Task, TaskTypes } from "../../eval/task.ts";
import { findTask } from "../../eval/tasks/mod.ts";
import { differenceOf } from "../../eval/verdict.ts";
import { mean } from "../../math/mean.ts";
import { missesRatio, nonCausal, type OptionsRecord, recordOptions } from "../../methods/bind/options.ts";
import { labelOptions } from "../../methods/bind/labels.ts";
import { blockBootstrap, type Interval } from "../../stats/bootstrap.ts";
import { mapBudgets, type Retained } from "../budgets.ts";
import type { NamedMethod } from "./compared_methods.ts";
import { CONTROLS } from "./controls.ts";
import {
  type ComparedItems,
  type ComparedPair,
  type ComparedResult,
  type ComparedSeries,
  type Contender,
  type Reach,
  testMethods,
  testPairs,
  unitsOf,
} from "./verdicts.ts";
import {
  contend,
  type ControlOf,
  controlsOf,
  listSeries,
  type Measured,
  measureRuns,
  type MethodGroup,
  type MethodRun,
  type PerLayer,
  type Spent,
  splitChunks,
} from "./measured.ts";
import { type Matched, matchMethods } from "./match.ts";
import { DENSE, type DenseRun, MethodRuns, type RunArguments } from "./method_runs.ts";
import type { BlockSums } from "../../stats/paired.ts";
import type { Environment } from "../trial.ts";

/**
 * Results of a method in a comparison, for any task; losses are those of the task, nats per token for perplexity.
 * Comparisons of an older version have no budgets.
 */
interface ComparedLosses extends Partial<Spent>, PerLayer {
  /** Its name; `dense` is the model without a filter. */
  readonly name: string;
  /** The requested ratio, where a comparison has several. */
  readonly asked?: number;
  /** Its options, those of the first seed; null for `dense`. */
  readonly options: OptionsRecord | null;
  /** Calibration, whether it looks at queries, phases, training, in words; null for `dense`. */
  readonly labels: string | null;
  /** Seeds whose losses were averaged, token by token. */
  readonly seeds: number;
  /** Fraction of attention computations skipped after the warm-up, over all layers; mean over seeds; null if none could be. */
  readonly achievedRatio: number | null;
  /** Compression ratio: keys and values evicted by a rule of their own, of those decided, likewise; null where there is none. */
  readonly kvAchievedRatio: number | null;
  /** Retained fractions of the full model's queries, pairs, rows and operations; mean over seeds. */
  readonly retained: Retained;
  /** How its ratio was found, where methods were matched; `options` are those that it ran with. */
  readonly matched?: Matched;
  /** Its effects on items, for a task that has some. */
  readonly reach?: Reach;
  /** Whether it needs the whole sequence before its first decision. */
  readonly nonCausal: boolean;
  /** Mean loss; mean over seeds. */
  readonly loss: number;
  /** Lowest and highest mean loss of a seed. */
  readonly seedLosses: readonly [low: number, high: number];
  /** The losses summed over blocks, mean over seeds, for pairing two runs. */
  readonly lossBlocks: BlockSums;
  /** Its loss increase; null for `dense`. */
  readonly lossIncrease: Interval | null;
  /**
   * Whether it skipped more than two points more or less than requested, and was not matched. It then comes last, and
   * is compared only with `dense`.
   */
  readonly missed: boolean;
  /**
   * Its loss less that of `random` with the same plan, warm-up, recent window and cache policy; null for `dense` and for
   * such a control itself, and where there is none.
   */
  readonly toRandom: Interval | null;
  /** The same, less the loss of `random-protected`, the fair control. */
  readonly toProtected: Interval | null;
  /**
   * Fraction of the way from its `random` to its `oracle` in loss. It is null for those three, where one is missing,
   * and where the interval of that way contains 0.
   */
  readonly closed: Interval | null;
}

/** @internal One method on the data, with the task's headline metric (`perplexity`) by its name. */
export type ComparedMethod<T extends TaskTypes = TaskTypes> = ComparedLosses & T["compared"];

/** The content of `compare.json`. */
export interface Comparison<T extends TaskTypes = TaskTypes> {
  /** `dense`, then the methods, ratio by ratio where there are several, by their loss; those that missed it last. */
  readonly methods: readonly ComparedMethod<T>[];
  /** Every metric of every method with its tests, of items too; a comparison of an older version has none. */
  readonly results?: readonly ComparedResult[];
  /** Wins between methods on each task; a comparison of an older version has none. */
  readonly pairs?: readonly ComparedPair[];
  /** The items that were scored next to the text, where there are tasks of items. */
  readonly items?: ComparedItems;
  /** How intervals were made. */
  readonly intervals: {
    /** Fraction of resamples inside. */
    readonly confidence: number;
    /** Units (tokens) a moving block. */
    readonly blockSize: number;
    readonly resamples: number;
    readonly seed: number;
    /** Whether those of a method that evicts and skips no query are Student's t over whole chunks. */
    readonly wholeChunks?: boolean;
  };
  /** The conditions and the machine. */
  readonly environment: Environment;
}

/** @internal How a comparison is run. */
export interface ComparisonArguments<T extends TaskTypes = TaskTypes> extends RunArguments<T> {
  readonly environment: Environment;
  /** Options of the intervals; default: 2000 resamples, and blocks of the task's units (64 tokens, or one item). */
  readonly blockSize?: number;
  readonly resamples?: number;
  /** Runs the methods on tasks of items too, when the text is done: series of `dense`, then of each group, in this order. */
  readonly onItems?: (groups: readonly MethodGroup[]) => Promise<readonly ComparedSeries[]>;
}

/**
 * Runs methods on the same data and compares their losses unit by unit. Intervals are percentiles over resamples of
 * blocks, the same blocks for every method and table, so that effects of a passage on all of them cancel.
 *
 * @throws {DOMException} The signal's reason, if it is aborted.
 */
export async function compareMethods<T extends TaskTypes>(
  args: ComparisonArguments<T>,
): Promise<Comparison<T>> {
  const task = findTask(args.environment.task);
  const { blockSize = blockOf(task), resamples = 2000 } = args;
  const runs = new MethodRuns(args, task.loss.of === "item" ? "items" : "chunks");
  const dense = await runs.runDense();
  const groups = await planGroups(args, runs);
  const ended = await runs.runGroups(groups.map(({ methods }) => methods));
  const all = measureAll(task, dense, groups, ended);
  const lengths = dense.chunks.map(({ length }) => length), controlOf = controlsOf(all);
  const contenders = all.map((own, i) => contend(own, i, controlOf));
  const methods = describe<T>(all, contenders, task, lengths, controlOf, { blockSize, resamples });
  const series = [...listSeries(all, task, lengths), ...await args.onItems?.(all.slice(1)) ?? []];
  const wholeChunks = lengths.length > 1 && blockSize > 1 && contenders.some(({ evicts }) => evicts);
  return {
    methods,
    results: testMethods(contenders, series, { resamples }),
    pairs: testPairs(contenders, series),
    intervals: { confidence: 0.95, blockSize, resamples, seed: 0, ...(wholeChunks && { wholeChunks }) },
    environment: args.environment,
  };
}

/** Methods of one name, at the ratios that they run at. */
interface PlannedGroup {
  readonly name: string;
  /** The methods as they were given. */
  readonly given: readonly NamedMethod[];
  readonly methods: readonly NamedMethod[];
  readonly matched: Matched | undefined;
}

/** Groups methods by name, and finds the ratios of those that are matched on a budget. */
async function planGroups<T extends TaskTypes>(
  { methods, match, budgeted }: ComparisonArguments<T>,
  runs: MethodRuns<T>,
): Promise<PlannedGroup[]> {
  const matches = (match ?? budgeted) &&
    await matchMethods(
      methods,
      match ?? "own",
      (method) => runs.measureRetained(method),
      (work) => runs.takeTurns(work),
      budgeted,
    );
  return [...Map.groupBy(methods, ({ name }) => name)].map(([name, given]) => {
    const { methods = given, matched } = matches?.get(name) ?? {};
    return { name, given, methods, matched };
  });
}

/** The full model, then the groups: by ratio, those that missed it last, and by loss. */
function measureAll(
  task: Task,
  { result, chunks, metrics }: DenseRun,
  groups: readonly PlannedGroup[],
  ended: readonly (readonly MethodRun[])[],
): Measured[] {
  const losses = chunks.flatMap((chunk) => [...chunk]);
  const denseRun = {
    ...result,
    ...{ achievedRatio: 0, kvAchievedRatio: null, retained: mapBudgets(() => 1), losses, metrics },
  };
  const measured = groups.map(({ name, given, methods, matched }, i): Measured => {
    const measures = measureRuns(ended[i]!, losses.length), { options, asked } = given[0]!;
    return {
      ...{ name, asked, methods, options, ...measures },
      ...(matched && { matched }),
      means: ended[i]!.map((run) => mean(run.losses)),
      missed: !matched?.reached && missesRatio(options, measures.ratio),
    };
  });
  return [
    {
      ...{ name: DENSE, asked: undefined, methods: [], options: undefined, missed: false },
      ...measureRuns([denseRun], losses.length),
      means: [readMetric(result, task.loss.name)],
    },
    ...measured.sort((a, b) =>
      (a.asked ?? 0) - (b.asked ?? 0) || Number(a.missed) - Number(b.missed) ||
      mean(a.means) - mean(b.means)
    ),
  ];
}

/** The largest difference of two mean losses that may be due only to rounding, nats per token. */
const ROUNDING = 1e-6;

function describe<T extends TaskTypes>(
  all: readonly Measured[],
  contenders: readonly Contender[],
  task: Task,
  lengths: readonly number[],
  controlOf: ControlOf,
  options: { readonly blockSize: number; readonly resamples: number },
): ComparedMethod<T>[] {
  const segments = all.map(({ losses }) => splitChunks(losses, lengths));
  const less = (a: number, b: number): Interval => {
    const units = { ...options, ...unitsOf(contenders, options, a, b) };
    const { estimate, low, high } = differenceOf(
      { better: "lower", percent: isOfAnswers(task) },
      segments[b]!,
      segments[a]!,
      units,
    );
    return { estimate, low, high };
  };
  return all.map((measured, i) => {
    const { name, options: method, losses, means, ratio, kvRatio, retained, missed, matched } = measured;
    const ran = measured.methods[0]?.options;
    const [random = -1, fair = -1, oracle = -1] = CONTROLS.map((control) => controlOf(control, i));
    const above = (control: number) => control < 0 ? null : less(i, control);
    const hasGap = random >= 0 && oracle >= 0 && less(random, oracle).low > ROUNDING;
    const gap = () => [random, i, oracle].map((place) => segments[place]!);
    return {
      name,
      ...(measured.asked !== undefined && { asked: measured.asked }),
      options: ran === undefined ? null : recordOptions(ran),
      labels: method === undefined ? null : labelOptions(method),
      seeds: means.length,
      achievedRatio: ratio,
      kvAchievedRatio: kvRatio,
      retained,
      ...(matched && { matched }),
      ...measured.spent,
      ...measured.perLayer,
      ...(measured.reach && { reach: measured.reach }),
      missed,
      nonCausal: method !== undefined && nonCausal(method),
      loss: mean(means),
      [task.headline.name]: task.headline.fromLoss(mean(means)),
      seedLosses: [Math.min(...means), Math.max(...means)],
      lossBlocks: recordLosses(splitChunks(losses, lengths)),
      lossIncrease: i === 0 ? null : less(i, 0),
      toRandom: above(random),
      toProtected: above(fair),
      closed: hasGap ? blockBootstrap(gap(), ([x, y, z]) => (x! - y!) / (x! - z!), options) : null,
    };
  });
}
