/** Prebuilt CPU libraries of a release: `deno task release --dry-run` writes this file. */
interface Libraries {
  /** Key of the sources. */
  readonly sources: string;
  /** SHA-256 by platform. */
  readonly libraries: Readonly<Record<string, string>>;
}

export const PREBUILT: Libraries = {
  "sources": "b637af43ee10ed75",
  "libraries": {
    "linux-x64": "d85cb5c49d531b88e8c2ec53a774764c2721b017ab4998af7b621e7f2ed58268",
  },
};
