/** What a run has finished, one line of JSON each, on disk before the next piece of work begins. */
import type { RunConditions } from "../environment.ts";
import type { EvaluationTask, TaskTypes } from "../eval/task.ts";
import { type Field, type Fields, findWrongField, trialFields } from "./fields.ts";
import type { Trial } from "./trial.ts";

/** What every line of any log holds. */
export interface LogLine {
  /** SHA-256 of the conditions, and of the options where all lines share them. */
  readonly runDigest: string;
}

/** What every line of a log of runs on a text holds. */
export interface LoggedRun extends RunConditions, LogLine {
  /** Options that all lines share, if they do. */
  readonly options?: object;
}

/** What the lines of a log are. */
export interface LineKind<T extends LogLine> {
  /** What a message calls one. */
  readonly noun: string;
  /** What a line ran with, in words; default: what runs on a text are told by. */
  readonly describe?: (record: T) => string;
  /** What a line has. */
  readonly fields: { readonly [name in keyof T & string]?: Field };
}

/** Lines of a sweep of a task. */
export function trialLines<T extends TaskTypes>(task: EvaluationTask<T>): LineKind<Trial<T>> {
  return { noun: "trial", fields: trialFields(task) as LineKind<Trial<T>>["fields"] };
}

/** What a log held when it was opened. */
interface Found<T> {
  readonly finished: T[];
  /** Bytes of whole lines; a torn line after them is cut off. */
  readonly length: number;
}

/** What was finished before, and where the next record goes. */
export interface FinishedRuns<T> {
  /** What was finished before, in its order. */
  readonly finished: readonly T[];
  /** Keeps records; they are safe when this returns. */
  append(...records: readonly T[]): void;
}

/** A file of finished work, open for appending. */
export class RunLog<T extends LogLine> implements FinishedRuns<T>, Disposable {
  /** What was finished before, in the order of the file. */
  readonly finished: readonly T[];
  readonly #file: Deno.FsFile;

  private constructor(file: Deno.FsFile, finished: readonly T[]) {
    this.#file = file;
    this.finished = finished;
  }

  /**
   * Reads what a log holds, without changing it: every whole line a record of the same conditions.
   *
   * @param runDigest Digest of the conditions that all lines must share.
   * @returns Its records; none where the file does not exist.
   * @throws {RangeError} If a line is no record of its kind, or ran under other conditions.
   */
  static read<T extends LogLine>(path: string, runDigest: string, kind: LineKind<T>): readonly T[] {
    return parseLog(path, runDigest, kind).finished;
  }

  /**
   * Opens a log to go on with it, or a new one. A last line that was torn by a crash is cut off, and is not among the
   * finished ones. Records go to the end of the file, whoever else writes to it; that there is no other writer is for the caller to
   * see to.
   *
   * @throws {RangeError} As {@linkcode RunLog.read}.
   */
  static open<T extends LogLine>(path: string, runDigest: string, kind: LineKind<T>): RunLog<T> {
    const { finished, length } = parseLog(path, runDigest, kind);
    const file = Deno.openSync(path, { append: true, create: true });
    file.truncateSync(length);
    return new RunLog(file, finished);
  }

  /** Appends records and waits until they are on disk. */
  append(...records: readonly T[]): void {
    const lines = new TextEncoder().encode(records.map((record) => `${JSON.stringify(record)}\n`).join(""));
    for (let at = 0; at < lines.length;) at += this.#file.writeSync(lines.subarray(at));
    this.#file.syncDataSync();
  }

  /** Closes the file. */
  [Symbol.dispose](): void {
    this.#file.close();
  }
}

function parseLog<T extends LogLine>(path: string, runDigest: string, kind: LineKind<T>): Found<T> {
  let bytes: Uint8Array;
  try {
    bytes = Deno.readFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return { finished: [], length: 0 };
    throw error;
  }
  const length = bytes.lastIndexOf(10) + 1;
  const lines = new TextDecoder().decode(bytes.subarray(0, length)).split("\n").slice(0, -1);
  const finished = lines.map((line, i) => {
    const record = parseLine<T>(line);
    const refuse = (wrong: string) =>
      new RangeError(`Cannot go on with "${path}": line ${i + 1}${wrong} (fix the line or delete it)`);
    if (record === undefined) throw refuse(` is no ${kind.noun}`);
    if (record.runDigest !== runDigest) {
      const ran = (kind.describe ?? (describeRun as (record: unknown) => string))(record);
      throw new RangeError(
        `Cannot go on with "${path}": its ${kind.noun}s ran with ${ran}, ` +
          "expected the same ones (repeat those flags, or take another --out)",
      );
    }
    const wrong = findWrongField(record, kind.fields as Fields);
    if (wrong !== undefined) throw refuse(`, ${wrong}`);
    return record;
  });
  return { finished, length };
}

/** What a run on a text ran with. */
function describeRun(
  { model, text, context, textTokens, backend, version, options, task }: LoggedRun,
): string {
  return `${task === undefined ? "" : `task ${task}, `}model ${model}, text ${text}, context ${context}, ` +
    `${textTokens} tokens, backend ${backend}, version ${version}` +
    `${options === undefined ? "" : `, options ${JSON.stringify(options)}`}`;
}

/** A line's record, of whatever kind it is; undefined where it is none. */
function parseLine<T extends LogLine>(line: string): T | undefined {
  try {
    const value = JSON.parse(line);
    return typeof value?.runDigest === "string" ? value : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
