/** A task on a model and data, unit by unit: the full model once, then any number of methods on the same units. */
import { mean } from "../math/mean.ts";
import type { SequenceUsage } from "../model/run/usage.ts";
import { type BlockSums, pairedMean, sumBlocks } from "../stats/paired.ts";
import { yieldToEventLoop } from "./chunks/chunks.ts";
import { BLOCK_UNITS, blockOf, excessKeys, type TaskMeasures, type UnitMetrics } from "./metrics.ts";
import { addCounts, dropRatioOf, dropRatiosOf, skipRatiosOf, wholeOf } from "./skip_ratio.ts";
import type { ChunkRecord, Evaluation, Filter, RunControl, TaskTypes } from "./task.ts";

/**
 * Losses of one unit (a chunk, or an item), one per scored token or item, of the filtered and of the full model.
 * Further members are lists of numbers too.
 */
export interface ChunkScores {
  readonly losses: Float64Array;
  /** Losses of the full model, of the same length. */
  readonly denseLosses: Float64Array;
}

/** Means over units, as a task takes them. */
export type MeanOf = (units: readonly Float64Array[]) => number;

/**
 * Losses, unit by unit, as a record keeps them.
 *
 * @param units Losses in nats, one f64 array [units] for each chunk.
 */
export function recordLosses(units: readonly Float64Array[]): BlockSums {
  const { sums, sizes } = sumBlocks(units, BLOCK_UNITS);
  return { sums: sums.map((sum) => Number(sum.toPrecision(8))), sizes };
}

/** @internal The loop over units, and the sums over them. A subclass defines how to score a unit. */
export abstract class TaskEvaluation<T extends TaskTypes = TaskTypes, S extends ChunkScores = ChunkScores>
  implements Evaluation<T> {
  readonly #task: TaskMeasures;
  readonly #lengths: readonly number[];
  #dense: T["dense"] | undefined;
  #denseRecords: readonly ChunkRecord[] = [];

  /**
   * Prepares an evaluation; nothing is computed yet.
   *
   * @param task Names of the losses and of the main metric.
   * @param lengths Tokens of each unit.
   */
  protected constructor(task: TaskMeasures, lengths: readonly number[]) {
    this.#task = task;
    this.#lengths = lengths;
  }

  /** Tokens a unit; of the longest where they differ. */
  get context(): number {
    return Math.max(...this.#lengths);
  }

  /** Whether means are taken over all scored tokens, not over the means of units, whose lengths may differ. */
  protected get isPooled(): boolean {
    return false;
  }

  /** Feeds the first unit without timing it: the first pass of a process pays for page faults and compilation. */
  protected abstract warmUp(): void;

  /** Scores a unit with the full model; its record has `losses`. */
  protected abstract scoreDense(unit: number): ChunkRecord;

  /** Scores a unit with a method; its record has the scores named in {@linkcode ChunkScores}. */
  protected abstract scoreFiltered(unit: number, filter: Filter): ChunkRecord;

  protected abstract metricsOf(scores: S): UnitMetrics;

  /** Other metrics of all units; `isDense` leaves out distances from the full model. */
  protected abstract summarize(
    scores: readonly S[],
    meanOf: MeanOf,
    isDense: boolean,
  ): { readonly [metric: string]: number };

  /** The full model's record of a unit, once it has run. */
  protected denseRecord(unit: number): ChunkRecord {
    return this.#denseRecords[unit]!;
  }

  /** As {@linkcode Evaluation.dense}. @throws {RangeError} If units have unlike many losses, too. */
  async dense(control: RunControl = {}): Promise<T["dense"]> {
    const result = this.#dense ??= await this.#runDense(control);
    this.#denseRecords.forEach((record, unit) => {
      const scores = readScores<S>(record), { losses } = scores;
      control.onLosses?.(unit, losses, losses, this.#denseMetricsOf(scores));
    });
    return result;
  }

  /** Metrics of the full model's scores: distances from it, it has none of. */
  #denseMetricsOf(scores: S): UnitMetrics {
    const distances = this.#task.metrics.filter(({ isDistance }) => isDistance).map(({ name }) => name);
    const own = Object.entries(this.metricsOf(scores));
    return Object.fromEntries(
      own.filter(([name, values]) => values !== undefined && !distances.includes(name)),
    );
  }

  async #runDense(control: RunControl): Promise<T["dense"]> {
    const units = [...this.#lengths.keys()];
    if (units.some((unit) => !control.finished?.has(unit))) this.warmUp();
    const records: ChunkRecord[] = [];
    for (const unit of units) {
      records[unit] = await this.#find(unit, control, () => this.scoreDense(unit));
      control.onChunk?.(unit + 1, units.length);
    }
    const scores = records.map((record) => readScores<S>(record)),
      losses = scores.map(({ losses }) => losses);
    const usages = records.map(({ usage }) => usage);
    const { loss, headline } = this.#task, counts = new Set(losses.map(({ length }) => length));
    if (counts.size > 1 && !this.isPooled) {
      // The mean of units' means would not be that of all losses, which paired statistics take.
      throw new RangeError(
        `Cannot average: found chunks of ${[...counts].join(", ")} losses, expected as many in each`,
      );
    }
    const meanLoss = expectFinite(this.#meanOf(losses));
    this.#denseRecords = records;
    return {
      [headline.name]: headline.fromLoss(meanLoss),
      [loss.name]: meanLoss,
      ...this.summarize(scores, (all) => this.#meanOf(all), true),
      ...this.#size(losses),
      chunks: units.length,
      context: this.context,
      timeMs: sumOf(records.map(({ timeMs }) => timeMs)),
      kvBytesHeld: sum(usages, "kvBytesHeld") / units.length,
      kvBytesAllocated: sum(usages, "kvBytesAllocated") / units.length,
      attentionFlops: sum(usages, "attentionFlopsDense"),
      totalFlops: sum(usages, "totalFlopsDense"),
      lossBlocks: recordLosses(losses),
    };
  }

  /** A unit's record: of an earlier run, or made now. @throws The signal's reason, if it is aborted, or as `dense`. */
  async #find(unit: number, control: RunControl, run: () => ChunkRecord): Promise<ChunkRecord> {
    const known = control.finished?.get(unit);
    if (known !== undefined) return known;
    await yieldToEventLoop();
    control.signal?.throwIfAborted();
    const record = run();
    record.scores["losses"]!.forEach(expectFinite); // JSON has no other numbers: none is to be written down
    control.onRecord?.(record);
    return record;
  }

  async run(filter: Filter, control: RunControl = {}): Promise<T["filtered"]> {
    const dense = await this.dense({ signal: control.signal }), count = this.#lengths.length;
    const records: ChunkRecord[] = [], scores: S[] = [], differences: Float64Array[] = [];
    let done = 0;
    for (const unit of control.order ?? this.#lengths.keys()) {
      const record = records[unit] = await this.#find(unit, control, () => this.scoreFiltered(unit, filter));
      const scored = scores[unit] = readScores<S>(record);
      differences[unit] = scored.losses.map((value, i) => value - scored.denseLosses[i]!);
      control.onLosses?.(unit, scored.losses, scored.denseLosses, this.metricsOf(scored));
      control.onChunk?.(++done, count);
    }
    const usages = records.map(({ usage }) => usage), drops = records.flatMap(({ drops }) => drops ?? []);
    const { headline } = this.#task, losses = scores.map((scored) => scored.losses);
    const { mean, standardError } = pairedMean(differences, blockOf(this.#task));
    const keys = excessKeys(this.#task);
    const total = <K extends keyof SequenceUsage>(...keys: K[]) =>
      Object.fromEntries(keys.map((key) => [key, sum(usages, key)])) as Record<K, number>;
    return {
      ...skipRatiosOf(addCounts(records.map(({ skips }) => skips))),
      kvAchievedRatio: drops.length === 0 ? null : dropRatioOf(addCounts(drops)),
      ...(drops.length > 0 && { dropRatioPerLayer: dropRatiosOf(addCounts(drops)) }),
      ...wholeOf(typeof filter === "function" ? filter(this.context) : filter),
      [headline.name]: headline.fromLoss(expectFinite(this.#meanOf(losses))),
      [keys.dense]: (dense as unknown as { [metric: string]: number })[headline.name]!,
      [keys.delta]: mean,
      [keys.standardError]: standardError,
      ...this.summarize(scores, (all) => this.#meanOf(all), false),
      ...this.#size(losses),
      kvBytesHeld: sum(usages, "kvBytesHeld") / count,
      kvBytesAvoided: sum(usages, "kvBytesAvoided") / count,
      kvBytesAllocated: sum(usages, "kvBytesAllocated") / count,
      parametersDense: usages[0]!.parametersDense,
      parametersAvoided: usages[0]!.parametersAvoided,
      ...total("queriesDense", "queriesSkipped", "pairsDense", "pairsAvoided"),
      ...total("projectionFlopsDense", "projectionFlopsAvoided"),
      ...total("attentionFlopsDense", "attentionFlopsAvoided", "totalFlopsDense", "totalFlopsAvoided"),
      timeMs: sumOf(records.map(({ timeMs }) => timeMs)),
      denseTimeMs: dense.timeMs,
      lossBlocks: recordLosses(losses),
    };
  }

  #meanOf(units: readonly Float64Array[]): number {
    if (!this.isPooled) return mean(Float64Array.from(units, mean));
    return mean(Float64Array.from(units.flatMap((values) => [...values])));
  }

  #size(losses: readonly Float64Array[]): { tokens: number; scoredTokens: number } {
    return { tokens: sumOf(this.#lengths), scoredTokens: sumOf(losses.map(({ length }) => length)) };
  }
}

export const listScores = (scores: object): ChunkRecord["scores"] =>
  Object.fromEntries(Object.entries(scores).map(([name, values]) => [name, [...values as Float64Array]]));

/** The same read again: lists that are all of numbers. */
const readScores = <S extends ChunkScores>({ scores }: ChunkRecord): S =>
  Object.fromEntries(
    Object.entries(scores).map(([name, values]) => [name, Float64Array.from(values)]),
  ) as unknown as S;

/** A model whose loss or perplexity is not finite is broken: no result for it would mean anything. */
function expectFinite(loss: number): number {
  if (Number.isFinite(Math.exp(loss))) return loss;
  throw new RangeError(
    `Cannot evaluate the model: found a mean loss of ${loss}, expected one of a finite perplexity`,
  );
}

const sumOf = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);

const sum = (usages: readonly SequenceUsage[], key: keyof SequenceUsage) =>
  sumOf(usages.map((usage) => usage[key]));
