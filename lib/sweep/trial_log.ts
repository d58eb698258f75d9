/** `trials.jsonl`: one line a finished trial, on disk before the next one begins. */
import type { Trial } from "./trial.ts";

/** What a log held when it was opened. */
interface Found {
  readonly trials: Trial[];
  /** Bytes of whole lines; a torn line after them is cut off. */
  readonly length: number;
}

/** A file of finished trials, open for appending. */
export class TrialLog implements Disposable {
  /** Trials that were finished before, in the order of the file. */
  readonly finished: readonly Trial[];
  readonly #file: Deno.FsFile;

  private constructor(file: Deno.FsFile, finished: readonly Trial[]) {
    this.#file = file;
    this.finished = finished;
  }

  /**
   * Reads what a log holds, without changing it: every whole line a trial of the same conditions.
   *
   * @param runDigest Digest of the conditions that all trials must share.
   * @returns Its trials; none where the file does not exist.
   * @throws {RangeError} If a line is no trial, or a trial was run under other conditions.
   */
  static read(path: string, runDigest: string): readonly Trial[] {
    return parseLog(path, runDigest).trials;
  }

  /**
   * Opens a log to go on with it, or a new one. A last line that was torn by a crash is cut off, and its trial is
   * not among the finished ones.
   *
   * @throws {RangeError} As {@linkcode TrialLog.read}.
   */
  static open(path: string, runDigest: string): TrialLog {
    const { trials, length } = parseLog(path, runDigest);
    const file = Deno.openSync(path, { write: true, create: true });
    file.truncateSync(length);
    file.seekSync(0, Deno.SeekMode.End);
    return new TrialLog(file, trials);
  }

  /** Appends a trial and waits until it is on disk. */
  append(trial: Trial): void {
    const line = new TextEncoder().encode(`${JSON.stringify(trial)}\n`);
    for (let at = 0; at < line.length;) at += this.#file.writeSync(line.subarray(at));
    this.#file.syncDataSync();
  }

  /** Closes the file. */
  [Symbol.dispose](): void {
    this.#file.close();
  }
}

function parseLog(path: string, runDigest: string): Found {
  let bytes: Uint8Array;
  try {
    bytes = Deno.readFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return { trials: [], length: 0 };
    throw error;
  }
  const length = bytes.lastIndexOf(10) + 1;
  const lines = new TextDecoder().decode(bytes.subarray(0, length)).split("\n").slice(0, -1);
  const trials = lines.map((line, i) => {
    const trial = parseTrial(line);
    if (trial === undefined) {
      throw new RangeError(
        `Cannot go on with "${path}": line ${i + 1} is no trial (mend the line or delete it)`,
      );
    }
    if (trial.runDigest !== runDigest) {
      throw new RangeError(
        `Cannot go on with "${path}": its trials ran with model ${trial.model}, text ${trial.text}, context ` +
          `${trial.context}, ${trial.textTokens} tokens, backend ${trial.backend}, version ${trial.version}, ` +
          "expected the same ones (repeat those flags, or take another --out)",
      );
    }
    return trial;
  });
  return { trials, length };
}

function parseTrial(line: string): Trial | undefined {
  try {
    const value = JSON.parse(line);
    const whole = typeof value?.trial === "string" && typeof value.runDigest === "string" &&
      typeof value.perplexity === "number";
    return whole ? value : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
