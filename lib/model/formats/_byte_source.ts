/** Where a file's bytes come from: memory, or any other place (`_disk.ts`). */
import { sha256 } from "../../sha256.ts";

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

/** The files of a model's folder, on disk or in memory; undefined is one that is not there. */
export interface Folder {
  /** Its path, for messages. */
  readonly path: string;
  /** A file's text. */
  text(name: string): Promise<string | undefined>;
  /** A file's bytes. */
  bytes(name: string): Promise<Uint8Array<ArrayBuffer> | undefined>;
  /** A file that is read at many places. */
  open(name: string): Promise<DigestedBytes | undefined>;
}

/** A folder in memory. @param files Bytes by name. */
export function memoryFolder(path: string, files: Readonly<Record<string, Uint8Array<ArrayBuffer>>>): Folder {
  const find = (name: string) => Object.hasOwn(files, name) ? files[name] : undefined;
  return {
    path,
    text: (name) => Promise.resolve(find(name) && new TextDecoder().decode(find(name))),
    bytes: (name) => Promise.resolve(find(name)),
    open: async (name) => {
      const bytes = find(name);
      return bytes && { ...memoryBytes(bytes, `${path}/${name}`), sha256: await sha256(bytes) };
    },
  };
}
