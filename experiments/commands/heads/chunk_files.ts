/** Measured chunks of `heads`, a file each, so that an interrupted run can go on. */
import type { RunConditions } from "../../../lib/environment.ts";
import type { ChunkStore } from "../../../lib/heads/mod.ts";
import { recordOptions, type ResolvedOptions } from "../../../lib/methods/mod.ts";
import { digestConditions, FIELD, type LineKind, type LoggedRun, RunLog } from "../../../lib/sweep/mod.ts";
import { makeFolder, writeWhole } from "../cli/files.ts";

/** The one line of a file. */
interface ChunkLine extends LoggedRun {
  readonly options: object;
  /** Its columns in base64. */
  readonly columns: string;
}

const CHUNK_LINES: LineKind<ChunkLine> = { noun: "chunk", fields: { columns: FIELD.text } };

/** A folder of chunks that share their conditions and options. */
export interface ChunkFiles extends ChunkStore {
  /** Chunks that were found or written. */
  readonly finished: number;
  /** Removes the folder. */
  remove(): Promise<void>;
}

/** Opens a folder, or makes it. @throws {UsageError} If it cannot be made. */
export async function openChunkFiles(
  folder: string,
  conditions: RunConditions,
  method: ResolvedOptions,
): Promise<ChunkFiles> {
  const options = recordOptions(method);
  const shared = { ...conditions, options, runDigest: await digestConditions({ ...conditions, options }) };
  const pathOf = (chunk: number) => `${folder}/${chunk}.json`;
  let finished = 0;
  makeFolder(folder);
  return {
    get finished() {
      return finished;
    },
    /** @throws {RangeError} If it ran under other conditions or options. */
    read(chunk) {
      const [line] = RunLog.read(pathOf(chunk), shared.runDigest, CHUNK_LINES);
      if (line === undefined) return undefined;
      finished++;
      return Uint8Array.fromBase64(line.columns);
    },
    /** Keeps a chunk, whole or not at all. @throws {UsageError} If it cannot be written. */
    async write(chunk, bytes) {
      await writeWhole(pathOf(chunk), `${JSON.stringify({ ...shared, columns: bytes.toBase64() })}\n`);
      finished++;
    },
    remove: () => Deno.remove(folder, { recursive: true }),
  };
}
