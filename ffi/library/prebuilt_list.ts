/** Prebuilt CPU libraries of a release: `deno task release --dry-run` writes this file. */
interface Libraries {
  /** Key of the sources. */
  readonly sources: string;
  /** SHA-256 by platform. */
  readonly libraries: Readonly<Record<string, string>>;
}

export const PREBUILT: Libraries = {
  "sources": "289a94602d5e10e0",
  "libraries": {
    "linux-x64": "29b071894b09223378eb4125e4b28af94c6d581a25a82a1e867f9c0c79237ef7",
  },
};
