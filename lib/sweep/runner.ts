/** Runs the trials of a sweep one after the other. */
import type { Evaluation, TaskTypes } from "../eval/task.ts";
import type { Pruner } from "../methods/pruner.ts";
import { sha256 } from "../sha256.ts";
import type { FinishedRuns, LoggedRun } from "./run_log.ts";
import { effectiveKey, looksAhead, recordOptions, type ResolvedOptions } from "../methods/options.ts";
import type { RunConditions, Trial } from "./trial.ts";

/** How far a sweep has come. */
export interface SweepProgress {
  /** Trials finished, those of an earlier run included. */
  readonly done: number;
  /** All trials. */
  readonly total: number;
  /** Finished share of this run's work, in [0, 1]; the dense pass counts as one trial. */
  readonly fraction: number;
  /** The trial that has just ended, if one has. */
  readonly trial?: Trial;
}

/** Arguments of {@linkcode runSweep}. */
export interface SweepArguments<T extends TaskTypes = TaskTypes> {
  /** The trials to run. */
  readonly methods: readonly ResolvedOptions[];
  /** A task on model and data. */
  readonly evaluation: Evaluation<T>;
  /** Binds a method to the model. */
  readonly createPruner: (method: ResolvedOptions) => Pruner;
  /** What the results depend on besides the methods. */
  readonly conditions: RunConditions;
  /** Where trials go as they end, and where finished ones are found. */
  readonly log: FinishedRuns<Trial<T>>;
  /** Stops between two chunks; the trial at work is dropped. */
  readonly signal?: AbortSignal;
  /** Called after every chunk and trial. */
  readonly onProgress?: (progress: SweepProgress) => void;
  /** Called after the dense pass and after each trial, with the dense model and all trials that are finished. */
  readonly onFinished?: (dense: T["dense"], trials: readonly Trial<T>[]) => void;
}

/** Digest of the conditions: runs that share it may be compared. */
export function digestConditions(conditions: RunConditions & Pick<LoggedRun, "options">): Promise<string> {
  return sha256(JSON.stringify(Object.entries(conditions).sort(([a], [b]) => a < b ? -1 : 1)));
}

/** Short digest of the options that have an effect. */
export async function digestTrialOptions(method: ResolvedOptions): Promise<string> {
  return (await sha256(effectiveKey(method))).slice(0, 12);
}

/**
 * Runs every method that the log does not hold yet; each trial is in the log before the next one begins.
 *
 * @returns The trials of all methods, in their order.
 * @throws {DOMException} The signal's reason, if it is aborted.
 */
export async function runSweep<T extends TaskTypes>(args: SweepArguments<T>): Promise<Trial<T>[]> {
  const { methods, evaluation, conditions, log, signal, onProgress } = args;
  const runDigest = await digestConditions(conditions);
  const finished = new Map(log.finished.map((trial) => [trial.trial, trial]));
  const digests = await Promise.all(methods.map(digestTrialOptions));
  const open = digests.filter((digest) => !finished.has(digest)).length;
  let done = methods.length - open, worked = 0;
  const report = (chunks: number, of: number, trial?: Trial) =>
    onProgress?.({
      done,
      total: methods.length,
      fraction: open === 0 ? 1 : (worked + chunks / of) / (open + 1),
      ...(trial && { trial }),
    });
  report(0, 1);
  const dense = await evaluation.dense({ signal, onChunk: report });
  worked++;
  const tellFinished = () =>
    args.onFinished?.(dense, digests.flatMap((digest) => finished.get(digest) ?? []));
  tellFinished();
  const trials: Trial<T>[] = [];
  for (const [i, method] of methods.entries()) {
    const known = finished.get(digests[i]!);
    if (known !== undefined) {
      trials.push(known);
      continue;
    }
    const result = await evaluation.run(
      args.createPruner(method),
      { signal, onChunk: (chunk, of) => chunk < of && report(chunk, of) },
    );
    const trial: Trial<T> = {
      trial: digests[i]!,
      ...recordOptions(method),
      ...result,
      looksAhead: looksAhead(method),
      ...conditions,
      runDigest,
      deno: Deno.version.deno,
      finishedAt: new Date().toISOString(),
    };
    log.append(trial);
    trials.push(trial);
    finished.set(trial.trial, trial);
    tellFinished();
    done++;
    worked++;
    report(0, 1, trial);
  }
  return trials;
}
