/** Runs the trials of a sweep one after the other, wherever they come from. */
import { PlaceLostError } from "../../errors.ts";
import type { Evaluation, Filter, RunControl, TaskTypes } from "../../eval/task.ts";
import { nonCausal, recordOptions, type ResolvedOptions } from "../../methods/bind/options.ts";
import { describeRuntime } from "../../version.ts";
import { digestConditions } from "./digest.ts";
import type { RacingTrial, TrialRace } from "./trial_race.ts";
import type { HeldTrial } from "./store_records.ts";
import { type StudyTrials, type TakenTrial, TrialLostError, type TrialSource } from "./trial_source.ts";
import type { RunConditions, StoppedTrial, Trial } from "../trial.ts";

export interface SweepProgress {
  /** Trials finished, those of an earlier run included. */
  readonly done: number;
  readonly total: number;
  /** Finished fraction of the work that this run began with, in [0, 1]; the dense pass counts as one trial. */
  readonly fraction: number;
  /** The trial that has just ended, if one has. */
  readonly trial?: Trial;
}

/** @internal How a sweep may be watched and stopped. */
export interface SweepControl {
  /** Stops trials that will not be the best. */
  readonly race?: TrialRace;
  /** Stops between two chunks, and drops the trial at work; the signal's reason is then thrown. */
  readonly signal?: AbortSignal;
  /** Called after every chunk and trial. */
  readonly onProgress?: (progress: SweepProgress) => void;
  /** Called while others are at the last trials, with those whose workers give no sign. */
  readonly onSilence?: (held: readonly HeldTrial[]) => void;
}

/** How a sweep is run. */
export interface SweepArguments<T extends TaskTypes = TaskTypes> extends SweepControl {
  /** Where trials come from, and go to as they end. */
  readonly source: TrialSource<T>;
  readonly evaluation: Evaluation<T>;
  readonly createPruner: (method: ResolvedOptions) => Filter;
  /** The conditions that the results depend on besides the methods. */
  readonly conditions: RunConditions;
}

/**
 * Runs one trial.
 *
 * @param args With the race that it runs in, if it does.
 * @returns Its record, or the record of its chunks if the race stopped it.
 * @throws As {@linkcode runSweep}.
 */
export async function runTrial<T extends TaskTypes>(
  { evaluation, createPruner, conditions, runDigest, racing, signal }:
    & Pick<SweepArguments<T>, "evaluation" | "createPruner" | "conditions" | "signal">
    & { readonly runDigest: string; readonly racing?: RacingTrial | undefined },
  { digest, method }: TakenTrial,
  control: Pick<RunControl, "onChunk" | "onLosses"> = {},
): Promise<Trial<T> | StoppedTrial> {
  const describe = <R extends object>(result: R) => ({
    trial: digest,
    ...recordOptions(method),
    ...result,
    nonCausal: nonCausal(method),
    ...conditions,
    runDigest,
    deno: describeRuntime().deno,
  });
  const now = () => new Date().toISOString();
  const raced: RunControl = racing === undefined ? {} : {
    signal: AbortSignal.any([racing.signal, ...(signal ? [signal] : [])]),
    order: racing.order,
    onLosses(chunk, losses, dense, others) {
      control.onLosses?.(chunk, losses, dense, others);
      racing.report(losses, dense);
    },
  };
  try {
    const result = await evaluation.run(createPruner(method), { signal, ...control, ...raced });
    return { ...describe(result), finishedAt: now() };
  } catch (error) {
    if (racing === undefined || error !== racing.signal.reason) throw error;
    return { ...describe(racing.describe()), stoppedAt: now() };
  }
}

/** Milliseconds between two looks at a source whose last trials are with others. */
const WAIT_MS = 100;

/**
 * @internal Takes trials or jobs of a source, one after the other, until none is left with anybody.
 *
 * @param run Computes one, and hands it in. One that another worker has taken meanwhile is left to that worker.
 * @param onIdle Called before each wait for those that others run.
 * @throws {DOMException} The signal's reason, if it is aborted.
 */
export async function takeAll(
  source: Pick<StudyTrials, "take" | "drop" | "isOver">,
  run: (taken: TakenTrial) => Promise<void>,
  { signal, onIdle }: { readonly signal?: AbortSignal | undefined; readonly onIdle?: () => void },
): Promise<void> {
  for (;;) {
    signal?.throwIfAborted();
    const taken = await source.take();
    if (taken === undefined) {
      if (source.isOver()) return signal?.throwIfAborted();
      onIdle?.();
      await new Promise((resolve) => setTimeout(resolve, WAIT_MS));
      continue;
    }
    try {
      await run(taken);
    } catch (error) {
      if (error instanceof TrialLostError) continue;
      // A study that cannot be reached takes no trial back: others take it when this process has ended.
      if (!(error instanceof PlaceLostError)) source.drop();
      throw error;
    }
  }
}

/**
 * Runs the trials that a source gives until it has no more, and waits for those that other workers run. Each result is
 * stored before the next trial begins.
 *
 * @returns All trials of the source, in its order.
 * @throws {DOMException} The signal's reason, if it is aborted.
 */
export async function runSweep<T extends TaskTypes>(args: SweepArguments<T>): Promise<Trial<T>[]> {
  const { source, evaluation, conditions, race, signal, onProgress, onSilence } = args, { total } = source;
  const runDigest = await digestConditions(conditions);
  const ended = () => source.finished().length + source.stopped().length;
  const known = ended(), open = total - known;
  let done = known, hasDense = false, untold: (Trial<T> | StoppedTrial)[] = [];
  const report = (chunks: number, of: number, trial?: Trial) =>
    onProgress?.({
      done,
      total,
      fraction: open === 0 ? 1 : Math.min(1, (Number(hasDense) + done - known + chunks / of) / (open + 1)),
      ...(trial && { trial }),
    });
  report(0, 1);
  const dense = await evaluation.dense({ signal, onChunk: report });
  hasDense = true;
  source.begin(dense);
  source.news();
  for (const trial of [...source.finished(), ...source.stopped()]) race?.add(trial, dense.chunks);
  const takeNews = () => {
    const news = source.news();
    for (const trial of news) race?.add(trial, dense.chunks);
    untold.push(...news);
  };
  const tellNews = () => {
    takeNews();
    const news = untold;
    untold = [];
    done = ended() - news.length;
    for (const trial of news) {
      done++;
      report(0, 1, "stopped" in trial ? undefined : trial);
    }
  };
  const run = async (taken: TakenTrial) => {
    const racing = race?.enter(taken.method, dense.chunks);
    const trial = await runTrial({ ...args, runDigest, racing }, taken, {
      onChunk: (chunk, of) => chunk < of && report(chunk, of),
      onLosses(chunk, losses, dense) {
        source.report(chunk, losses, dense);
        if (racing !== undefined) takeNews();
      },
    });
    source.finish(trial);
    tellNews();
  };
  const onIdle = () => {
    onSilence?.(source.silent());
    tellNews();
  };
  await takeAll(source, run, { signal, onIdle });
  tellNews();
  return [...source.finished()];
}
