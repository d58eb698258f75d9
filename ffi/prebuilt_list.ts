/** Prebuilt CPU libraries of a release: `deno task release --dry-run` writes this file. */
interface Libraries {
  /** Key of the sources. */
  readonly sources: string;
  /** SHA-256 by platform. */
  readonly libraries: Readonly<Record<string, string>>;
}

export const PREBUILT: Libraries = {
  "sources": "",
  "libraries": {},
};
