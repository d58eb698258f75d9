/** Measured chunks of `heads`, a file each, so that an interrupted run can go on. */
import type { RunConditions } from "../../lib/environment.ts";
import type { ChunkStore } from "../../lib/heads/mod.ts";
import { recordOptions, type ResolvedOptions } from "../../lib/methods/mod.ts";
import { digestConditions, type LineKind, type LoggedRun, RunLog } from "../../lib/sweep/mod.ts";
import { makeFolder, writeWhole } from "../cli/files.ts";

/** The one line of a file. */
interface ChunkLine extends LoggedRun {
  readonly options: object;
  /** Its columns in base64. */
  readonly columns: string;
}

const CHUNK_LINES: LineKind<ChunkLine> = { noun: "chunk", keys: ["columns"] };

/** A folder of chunks that share their conditions and options. */
export class ChunkFiles implements ChunkStore {
  readonly #folder: string;
  readonly #conditions: LoggedRun;
  #finished = 0;

  private constructor(folder: string, conditions: LoggedRun) {
    this.#folder = folder;
    this.#conditions = conditions;
  }

  /** Opens a folder, or makes it. @throws {UsageError} If it cannot be made. */
  static async open(
    folder: string,
    conditions: RunConditions,
    method: ResolvedOptions,
  ): Promise<ChunkFiles> {
    const options = recordOptions(method);
    const runDigest = await digestConditions({ ...conditions, options });
    makeFolder(folder);
    return new ChunkFiles(folder, { ...conditions, options, runDigest });
  }

  /** Chunks that were found or written. */
  get finished(): number {
    return this.#finished;
  }

  /** What an earlier run kept of a chunk. @throws {RangeError} If it ran under other conditions or options. */
  read(chunk: number): Uint8Array | undefined {
    const [line] = RunLog.read(this.#path(chunk), this.#conditions.runDigest, CHUNK_LINES);
    if (line === undefined) return undefined;
    this.#finished++;
    return Uint8Array.fromBase64(line.columns);
  }

  /** Keeps a chunk, whole or not at all. @throws {UsageError} If it cannot be written. */
  async write(chunk: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const line = { ...this.#conditions, columns: bytes.toBase64() };
    await writeWhole(this.#path(chunk), `${JSON.stringify(line)}\n`);
    this.#finished++;
  }

  /** Removes the folder. */
  async remove(): Promise<void> {
    await Deno.remove(this.#folder, { recursive: true });
  }

  #path(chunk: number): string {
    return `${this.#folder}/${chunk}.json`;
  }
}
