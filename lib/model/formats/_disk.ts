/** Files on disk, read piece by piece or mapped into memory. */
import { createHash } from "node:crypto";
import { ifThere, isMissing } from "../../cache.ts";
import { ModelFormatError } from "../../errors.ts";
import { expectPlainFile, readPlainFile, readPlainText } from "../../files.ts";
import { blobOf, expectBlob } from "./_blob.ts";
import { type DigestedBytes, type Folder, memoryBytes, type ReadOptions } from "./_byte_source.ts";
import { disposing } from "../../disposing.ts";

/** Bytes that are read at once: few enough for a smooth progress bar. */
const CHUNK_BYTES = 4 * 2 ** 20;

/**
 * Reads a file once for its digest, piece by piece, and then maps it where possible, so that unused parts take no
 * memory.
 *
 * @throws {ModelFormatError} If the file is another one when it is mapped.
 * @throws {UsageError} If it is of the hub's cache, and not as it was downloaded.
 */
export async function openBytes(
  path: string,
  { onProgress, mapFile }: ReadOptions = {},
): Promise<DigestedBytes> {
  await expectPlainFile(path);
  const { info, sha256 } = await disposing(
    await Deno.open(path),
    (file) => digestFile(file, path, onProgress),
  );
  const totalBytes = info.size;
  if (mapFile === undefined || totalBytes === 0) return fileBytes(path, info, sha256);
  const bytes = mapFile(path);
  if (!isSame(Deno.statSync(path), info)) throw changedError(path);
  return { ...memoryBytes(bytes, path), sha256 };
}

async function digestFile(file: Deno.FsFile, path: string, onProgress: ReadOptions["onProgress"]) {
  const info = await file.stat(), hash = createHash("sha256"), totalBytes = info.size;
  const piece = new Uint8Array(Math.min(CHUNK_BYTES, totalBytes));
  for (let doneBytes = 0; doneBytes < totalBytes;) {
    const read = await file.read(piece);
    if (read === null) throw changedError(path);
    hash.update(piece.subarray(0, read));
    doneBytes += read;
    onProgress?.({ stage: "read", source: path, doneBytes, totalBytes });
  }
  const sha256 = hash.digest("hex"), blob = await blobOf(path);
  if (blob?.digest.length === sha256.length) expectBlob(path, blob, sha256);
  return { info, sha256 };
}

/** Whether a file has the size and the time of its last change that it had. */
function isSame(found: Deno.FileInfo, { size, mtime }: Deno.FileInfo): boolean {
  return found.size === size && found.mtime?.getTime() === mtime?.getTime();
}

/**
 * A check that a file is as it is now, for one that stays mapped. One that another has taken the place of is: its memory
 * stays. @throws {ModelFormatError} By the check, if the file was written to or cut short.
 */
export function watchFile(path: string): () => void {
  const before = Deno.statSync(path);
  return () => {
    try {
      const now = Deno.statSync(path);
      if (now.dev === before.dev && now.ino === before.ino && !isSame(now, before)) throw changedError(path);
    } catch (error) {
      if (!isMissing(error)) throw error;
    }
  };
}

/** A file on disk. It is opened for each piece, and must stay as it was. */
function fileBytes(path: string, info: Deno.FileInfo, sha256: string): DigestedBytes {
  const fill = (at: number, bytes: Uint8Array<ArrayBuffer>) =>
    disposing(Deno.openSync(path), (file) => {
      if (!isSame(file.statSync(), info)) throw changedError(path);
      file.seekSync(at, Deno.SeekMode.Start);
      for (let done = 0; done < bytes.length;) {
        const read = file.readSync(bytes.subarray(done));
        if (read === null) throw changedError(path);
        done += read;
      }
      return bytes;
    });
  return {
    file: path,
    size: info.size,
    sha256,
    read: (at, size) => fill(at, new Uint8Array(size)),
    borrow: (at, size, take) => fill(at, take(size)),
  };
}

function changedError(file: string): ModelFormatError {
  return new ModelFormatError(file, "found another file than before, expected it to stay: load it again");
}

/** A folder on disk. */
export function diskFolder(path: string, options: ReadOptions = {}): Folder {
  return {
    path,
    text: (name) => ifThere(readPlainText(`${path}/${name}`)),
    bytes: (name) => ifThere(readPlainFile(`${path}/${name}`)),
    open: (name) => ifThere(openBytes(`${path}/${name}`, options)),
  };
}
