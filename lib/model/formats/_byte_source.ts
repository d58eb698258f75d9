/** Where a file's bytes come from: memory, or the disk, piece by piece. */
import { createHash } from "node:crypto";
import { isMissing } from "../../cache.ts";
import { ModelFormatError } from "../../errors.ts";
import { expectPlainFile } from "../../files.ts";

/** Progress of a long read or download. */
export interface ModelProgress {
  /** The present stage; `load`: tensors are moved to the place where they are computed with. */
  readonly stage: "download" | "read" | "load";
  /** The host, package, file or model that it comes from. */
  readonly source: string;
  readonly doneBytes: number;
  readonly totalBytes: number;
}

export interface ReadOptions {
  /** Called with the progress of a download and of reading. */
  readonly onProgress?: (progress: ModelProgress) => void;
  /** Gives a file's bytes without a copy, as `mapFile` of `./ffi` does; by default they are read piece by piece. */
  readonly mapFile?: (path: string) => Uint8Array<ArrayBuffer>;
}

/** Bytes of one file, to be read at any place. */
export interface ByteSource {
  readonly file: string;
  readonly size: number;
  /** Bytes [at, at + size), which are there: the caller's own, or a view of the whole file's. */
  read(at: number, size: number): Uint8Array<ArrayBuffer>;
  /** The same for bytes that are copied anyway: read into the memory that `take` gives. Left out: they are in memory. */
  borrow?(at: number, size: number, take: TakeBytes): Uint8Array<ArrayBuffer>;
}

/** Gives the requested number of bytes of memory. */
export type TakeBytes = (size: number) => Uint8Array<ArrayBuffer>;

/** An array of its own each time. */
export const takeArray: TakeBytes = (size) => new Uint8Array(size);

/** Memory for data that is read piece after piece, each valid until the next: as large as the largest piece. */
export function createScratch(): TakeBytes {
  let bytes = new Uint8Array(0);
  return (size) => {
    if (bytes.length < size) bytes = new Uint8Array(size);
    return bytes.subarray(0, size);
  };
}

/** Bytes whose SHA-256 in hex is known. */
export type DigestedBytes = ByteSource & { readonly sha256: string };

/**
 * A file whose bytes are in memory, or mapped into it. They begin at a multiple of 8 of their buffer, so that views of any
 * type are possible; copied where they do not.
 */
export function memoryBytes(bytes: Uint8Array<ArrayBuffer>, file: string): ByteSource {
  const aligned = bytes.byteOffset % 8 === 0 ? bytes : bytes.slice();
  return { file, size: bytes.length, read: (at, size) => aligned.subarray(at, at + size) };
}

/** Bytes that are read at once: few enough for a smooth progress bar. */
const CHUNK_BYTES = 4 * 2 ** 20;

/**
 * Reads a file once for its digest, piece by piece, and then maps it where possible, so that unused parts take no
 * memory. @throws {ModelFormatError} If the file is another one when it is mapped.
 */
export async function openBytes(
  path: string,
  { onProgress, mapFile }: ReadOptions = {},
): Promise<DigestedBytes> {
  await expectPlainFile(path);
  using file = await Deno.open(path);
  const info = await file.stat(), hash = createHash("sha256"), totalBytes = info.size;
  const piece = new Uint8Array(Math.min(CHUNK_BYTES, totalBytes));
  for (let doneBytes = 0; doneBytes < totalBytes;) {
    const read = await file.read(piece);
    if (read === null) throw changedError(path);
    hash.update(piece.subarray(0, read));
    doneBytes += read;
    onProgress?.({ stage: "read", source: path, doneBytes, totalBytes });
  }
  const sha256 = hash.digest("hex");
  if (mapFile === undefined || totalBytes === 0) return fileBytes(path, info, sha256);
  const bytes = mapFile(path);
  if (!isSame(Deno.statSync(path), info)) throw changedError(path);
  return { ...memoryBytes(bytes, path), sha256 };
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
  const fill = (at: number, bytes: Uint8Array<ArrayBuffer>) => {
    using file = Deno.openSync(path);
    if (!isSame(file.statSync(), info)) throw changedError(path);
    file.seekSync(at, Deno.SeekMode.Start);
    for (let done = 0; done < bytes.length;) {
      const read = file.readSync(bytes.subarray(done));
      if (read === null) throw changedError(path);
      done += read;
    }
    return bytes;
  };
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
