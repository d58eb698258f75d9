/** Reads a whole file in pieces, with its digest and progress. */
import { createHash } from "node:crypto";

/** What a long read or download has done so far. */
export interface ModelProgress {
  /** What is going on. */
  readonly stage: "download" | "read";
  /** The host, package or file that it comes from. */
  readonly source: string;
  /** Bytes so far. */
  readonly doneBytes: number;
  /** Bytes in all. */
  readonly totalBytes: number;
}

/** Reads so many bytes at once: often enough for a smooth progress bar. */
const CHUNK_BYTES = 4 * 2 ** 20;

/** How files are read. */
export interface ReadOptions {
  /** Called with the progress of a download and of reading. */
  readonly onProgress?: (progress: ModelProgress) => void;
  /** Gives a file's bytes without a copy, as `mapFile` of `./ffi` does; by default they are read into memory of their own. */
  readonly mapFile?: (path: string) => Uint8Array<ArrayBuffer>;
}

/** Bytes of a file and their SHA-256 in hex. */
export async function readWithDigest(
  path: string | URL,
  { onProgress, mapFile }: ReadOptions = {},
): Promise<{ bytes: Uint8Array<ArrayBuffer>; sha256: string }> {
  using file = await Deno.open(path);
  const { size } = await file.stat();
  const isMapped = mapFile !== undefined && size > 0;
  const bytes = isMapped
    ? mapFile(path instanceof URL ? decodeURIComponent(path.pathname) : path)
    : new Uint8Array(size);
  const hash = createHash("sha256");
  let at = 0;
  while (at < size) {
    const end = Math.min(at + CHUNK_BYTES, size);
    const read = isMapped ? end - at : await file.read(bytes.subarray(at, end));
    if (read === null) throw new RangeError(`Cannot read "${path}": it became shorter while it was read`);
    hash.update(bytes.subarray(at, at + read));
    at += read;
    onProgress?.({ stage: "read", source: String(path), doneBytes: at, totalBytes: size });
  }
  return { bytes, sha256: hash.digest("hex") };
}
