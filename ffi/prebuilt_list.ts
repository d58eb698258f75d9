/** Prebuilt CPU libraries of a release: `deno task release --dry-run` writes this file. */
interface Libraries {
  /** Key of the sources. */
  readonly sources: string;
  /** SHA-256 by platform. */
  readonly libraries: Readonly<Record<string, string>>;
}

export const PREBUILT: Libraries = {
  "sources": "0f4c1396c0e29253",
  "libraries": {
    "linux-x64": "8d79d755c456584f5c4cd474727ff8593aa59faceacce832a6008323c9ab6d07",
  },
};
