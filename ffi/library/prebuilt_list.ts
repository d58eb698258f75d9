/**
 * Prebuilt CPU libraries of a release, which `deno run -A experiments/tools/release/main.ts --dry-run` writes anew. After
 * a change of the kernels, until the next release, `sources` is another key, and the libraries are not taken.
 */
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
