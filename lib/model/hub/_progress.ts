/** What a long read or download has done so far. */
export interface ModelProgress {
  /** What is going on; `load`: tensors are put where they are computed with. */
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
