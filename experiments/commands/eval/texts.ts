/** Tasks that read a text, in an evaluation: chunk by chunk, dense and with the method. */
import { UsageError } from "../../../lib/errors.ts";
import { cutChunks, DEFAULT_CONTEXT } from "../../../lib/eval/chunks/chunks.ts";
import type { TextRuns } from "../../../lib/eval/items/item_summary.ts";
import type { ChunkRecord, Filter, RunControl, Task, TaskResult } from "../../../lib/eval/task.ts";
import type { Model } from "../../../lib/model/model.ts";
import type { ModelFile } from "../../../lib/model/open.ts";
import { sha256 } from "../../../lib/sha256.ts";
import { retainedOf } from "../../../lib/sweep/budgets.ts";
import { measureStudy, openStudy } from "../../../lib/sweep/study.ts";
import type { StudyStore } from "../../../lib/sweep/trials/store.ts";
import { type FlagValues, textOf } from "../cli/flags/parse.ts";
import { readCount, readNamedText } from "../cli/flags/text.ts";

/** A task and the text that it reads. */
interface ReadText {
  readonly task: Task;
  readonly text: string;
  readonly textName: string;
  readonly context: number;
  readonly tokens?: number;
}

/**
 * Reads the text of tasks, where there are any.
 *
 * @throws {UsageError | RangeError} If it is too short, or a flag asks for a text that no task reads.
 */
export async function readTexts(values: FlagValues, tasks: readonly Task[]): Promise<ReadText[]> {
  const wrong = ["text", "context", "tokens"].find((name) => values.has(name));
  if (wrong !== undefined && tasks.length === 0) {
    throw new UsageError(`Cannot use --${wrong}: none of the tasks reads a text`);
  }
  if (tasks.length === 0) return [];
  const context = readCount(values, "context", 2) ?? DEFAULT_CONTEXT, tokens = readCount(values, "tokens", 2);
  const { name: textName, text } = await readNamedText(textOf(values, "text"));
  return tasks.map((task) => {
    // A token takes at least one byte.
    const most = Math.min(tokens ?? Infinity, new TextEncoder().encode(text).length + 1);
    cutChunks(new Int32Array(most), task.isWhole ? 2 : context);
    return { task, text, textName, context, ...(tokens !== undefined && { tokens }) };
  });
}

/** A finished chunk of a run. */
interface TextUnit extends ChunkRecord {
  readonly run: string;
  readonly task: string;
  readonly textSha256: string;
  readonly context: number;
}

/** The result of a text. */
export interface TextOutcome {
  readonly runs: TextRuns;
  /** The budget of the method's skipped queries and evicted keys. */
  readonly budget?: ReturnType<typeof budgetOf>;
  /** The part of the record about the text, and its wall times. */
  readonly record: object;
  readonly times: object;
}

/**
 * Runs a text dense and with a method; each chunk is on disk before the next begins.
 *
 * @throws {UsageError} If the study's chunks of the task are of another text.
 * @throws The signal's reason, if it is aborted between two chunks.
 */
export async function runText(
  read: ReadText & { readonly model: ModelFile },
  model: Model,
  filter: Filter | undefined,
  store: StudyStore,
  control: Pick<RunControl, "signal"> & { readonly onChunk: (fraction: number) => void },
): Promise<TextOutcome> {
  const { task, textName } = read, textSha256 = await sha256(read.text);
  const { tokens, units, context } = measureStudy(read), runs = filter === undefined ? 1 : 2;
  const log = store.units<TextUnit>("chunk", (unit) => `${unit.task} ${unit.run} ${unit.chunk}`);
  const own = log.finished.filter((unit) => unit.task === task.name);
  if (own.some((unit) => unit.textSha256 !== textSha256 || unit.context !== context)) {
    throw new UsageError(
      `Cannot go on with "${store.path}": its chunks of ${task.name} are of another text or --context, expected the ` +
        "same (repeat those flags, leave that task out, or take another --out)",
    );
  }
  const evaluation = openStudy({ ...read, model: { ...read.model, model } });
  const controlOf = (run: string, losses: Float64Array[], before: number): RunControl => ({
    signal: control.signal,
    finished: new Map(own.filter((unit) => unit.run === run).map((unit) => [unit.chunk, unit])),
    onRecord: (record) => log.append({ run, task: task.name, textSha256, context, ...record }),
    onLosses: (_, chunk) => losses.push(chunk),
    onChunk: (done) => control.onChunk((before + done / units) / runs),
  });
  const dense: Float64Array[] = [], losses: Float64Array[] = [];
  const { timeMs: denseTimeMs } = await evaluation.dense(controlOf("dense", dense, 0));
  const filtered = filter && await evaluation.run(filter, controlOf("filtered", losses, 1));
  return {
    runs: { task, dense, ...(filtered && { filtered: losses }) },
    ...(filtered && { budget: budgetOf(filtered) }),
    record: { task: task.name, protocol: task.protocol, text: textName, sha256: textSha256, context, tokens },
    times: { denseTimeMs, ...(filtered && { timeMs: filtered.timeMs }) },
  };
}

const budgetOf = (filtered: TaskResult) => {
  const { achievedRatio, skipRatioPerLayer, kvAchievedRatio } = filtered;
  return { achievedRatio, skipRatioPerLayer, kvAchievedRatio, retained: retainedOf(filtered) };
};
