/** Several methods at equal budgets on the same text, with intervals of their differences. */
import { recordLosses } from "../../eval/evaluation.ts";
import { blockOf, isOfAnswers, readMetric } from "../../eval/metrics.ts";
import type { ChunkRecord, Evaluation, Filter, RunControl, Task, TaskTypes } from "../../eval/task.ts";
import { findTask } from "../../eval/tasks/mod.ts";
import { differenceOf } from "../../eval/verdict.ts";
import { mean } from "../../math/mean.ts";
import {
  missesRatio,
  nonCausal,
  type OptionsRecord,
  recordOptions,
  type ResolvedOptions,
} from "../../methods/bind/options.ts";
import { labelOptions } from "../../methods/bind/labels.ts";
import { blockBootstrap, type Interval } from "../../stats/bootstrap.ts";
import { mapBudgets, type Retained, retainedOf } from "../budgets.ts";
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
import { type Match, type Matched, matchMethods } from "./match.ts";
import type { BlockSums } from "../../stats/paired.ts";
import type { FinishedRuns } from "../trials/store_records.ts";
import { digestTrialOptions } from "../trials/digest.ts";
import type { Environment } from "../trial.ts";

/**
 * Results of a method in a comparison, for any task; losses are those of the task, nats per token for perplexity.
 * Comparisons of an older version have no budgets.
 */
export interface ComparedLosses extends Partial<Spent>, PerLayer {
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

/** A finished chunk of the full model, or of one method and seed. */
export interface ComparedChunk extends ChunkRecord {
  /** Short digest of the options that have an effect, as of a trial; `dense`. */
  readonly trial: string;
  readonly method: string;
}

/** @internal How a comparison is run. */
export interface ComparisonArguments<T extends TaskTypes = TaskTypes> {
  /** Methods; those of one name are seeds of one. */
  readonly methods: readonly NamedMethod[];
  /** A task on model and data; the environment names the task. */
  readonly evaluation: Evaluation<T>;
  /** @throws {RangeError} If the model cannot have the method. */
  readonly createPruner: (method: ResolvedOptions) => Filter;
  readonly environment: Environment;
  /** The budget that methods are matched on; default: none, each runs at its given ratio. */
  readonly match?: Match;
  /** Options of the intervals; default: 2000 resamples, and blocks of the task's units (64 tokens, or one item). */
  readonly blockSize?: number;
  readonly resamples?: number;
  /** Where chunks go as they end, and where finished ones are found; default: nowhere. */
  readonly log?: FinishedRuns<ComparedChunk>;
  /** Runs the methods on tasks of items too, when the text is done: series of `dense`, then of each group, in this order. */
  readonly onItems?: (groups: readonly MethodGroup[]) => Promise<readonly ComparedSeries[]>;
  readonly signal?: AbortSignal;
  /** Called at first, with `dense`, and after every chunk: the finished fraction of this call's work, and chunks of how many. */
  readonly onProgress?: (fraction: number, label: string) => void;
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
  const { evaluation, log, onProgress, blockSize = blockOf(task), resamples = 2000 } = args;
  const failed = new AbortController();
  const signal = AbortSignal.any([failed.signal, ...args.signal ? [args.signal] : []]);
  const found = Map.groupBy(log?.finished ?? [], ({ trial }) => trial);
  const known = (trial: string) => found.get(trial)?.length ?? 0, whole = known(DENSE);
  const isOpen = (trial: string) => known(trial) < whole || whole === 0;
  // Where ratios are searched, the same run is asked for twice. Otherwise methods of equal options run separately,
  // because a caller may distinguish them.
  const keyOf = ({ options }: NamedMethod) => args.match ? digestTrialOptions(options) : options;
  const openRuns = (methods: readonly NamedMethod[]) =>
    new Set(methods.filter(({ options }) => isOpen(digestTrialOptions(options))).map(keyOf));
  const started = new Set<string | ResolvedOptions>();
  let expected = openRuns(args.methods), done = 0, furthest = 0;
  const chunks: Float64Array[] = [], denseMetrics: { [name: string]: number[] } = {};
  const control = (trial: string, name: string): RunControl => ({
    ...{ signal, finished: new Map(found.get(trial)?.map((record) => [record.chunk, record])) },
    onChunk: (_chunk, of) => {
      const all = of * (1 + expected.size);
      furthest = Math.max(furthest, Math.min(1, ++done / all));
      onProgress?.(furthest, `${done}/${all} ${task.loss.of === "item" ? "items" : "chunks"}`);
    },
    onRecord: (record) => log?.append({ trial, method: name, ...record }),
  });
  onProgress?.(0, DENSE);
  const denseResult = await evaluation.dense({
    ...control(DENSE, DENSE),
    onLosses: (_chunk, losses, _dense, others) => {
      chunks.push(losses);
      for (const [name, values] of Object.entries(others)) (denseMetrics[name] ??= []).push(...values);
    },
  });
  const dense = Float64Array.from(chunks.flatMap((losses) => [...losses]));
  const runs = new Map<string | ResolvedOptions, Promise<MethodRun>>();
  const run = async (method: NamedMethod, filter = args.createPruner(method.options)): Promise<MethodRun> => {
    return await runs.getOrInsertComputed(keyOf(method), (key) => runOnce(key, method, filter));
  };
  const runOnce = async (
    key: string | ResolvedOptions,
    method: NamedMethod,
    filter: Filter,
  ): Promise<MethodRun> => {
    const trial = digestTrialOptions(method.options);
    const losses: number[] = [], metrics: { [name: string]: number[] } = {};
    const { onChunk, ...own } = control(trial, method.name), open = isOpen(trial);
    if (open) expected.add(key), started.add(key);
    const result = await evaluation.run(filter, {
      ...own,
      ...(open && { onChunk }),
      onLosses: (_chunk, own, _dense, others) => {
        losses.push(...own);
        for (const [name, values] of Object.entries(others)) (metrics[name] ??= []).push(...values);
      },
    });
    return { ...result, retained: retainedOf(result), losses, metrics };
  };
  const spend = async (method: NamedMethod) => {
    const filter = bindAt(() => args.createPruner(method.options));
    return filter && (await run(method, filter)).retained;
  };
  // Methods take turns chunk by chunk: the full model's logits of a chunk are then at hand for all of them.
  const takeTurns = async <V>(work: readonly Promise<V>[]): Promise<V[]> => {
    for (const each of work) each.catch((error) => failed.abort(error));
    await Promise.allSettled(work);
    signal.throwIfAborted();
    return await Promise.all(work);
  };
  const matches = args.match && await matchMethods(args.methods, args.match, spend, takeTurns);
  const groups = [...Map.groupBy(args.methods, ({ name }) => name)].map(([name, asIs]) => {
    const { methods = asIs, matched } = matches?.get(name) ?? {};
    return { name, asIs, methods, matched };
  });
  expected = started.union(openRuns(groups.flatMap(({ methods }) => methods)));
  const ended = await takeTurns(
    groups.map(async ({ methods }) => await Promise.all(methods.map((method) => run(method)))),
  );
  const measured = groups.map(({ name, asIs, methods, matched }, i): Measured => {
    const own = measureRuns(ended[i]!, dense.length), { options, asked } = asIs[0]!;
    return {
      ...{ name, asked, methods, options, ...own },
      ...(matched && { matched }),
      means: ended[i]!.map(({ losses }) => mean(losses)),
      missed: !matched?.reached && missesRatio(options, own.ratio),
    };
  });
  const denseRun = { ...denseResult, achievedRatio: 0, kvAchievedRatio: null, retained: mapBudgets(() => 1) };
  const all: Measured[] = [
    {
      ...{ name: DENSE, asked: undefined, methods: [], options: undefined, missed: false },
      ...measureRuns([{ ...denseRun, losses: [...dense], metrics: denseMetrics }], dense.length),
      means: [readMetric(denseResult, task.loss.name)],
    },
    ...measured.sort((a, b) =>
      (a.asked ?? 0) - (b.asked ?? 0) || Number(a.missed) - Number(b.missed) ||
      mean(a.means) - mean(b.means)
    ),
  ];
  const lengths = chunks.map(({ length }) => length), controlOf = controlsOf(all);
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

/** A method bound to the model; undefined where it cannot be. */
function bindAt(create: () => Filter): Filter | undefined {
  try {
    return create();
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

/** The trial of the full model in a log, and its name. */
const DENSE = "dense";

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
