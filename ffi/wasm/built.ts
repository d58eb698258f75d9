/** SHA-256 of the files: `deno run -A experiments/tools/release/main.ts --wasm` writes all three. */
export const BUILT = {
  "tokenfilter.wasm": "7d026f903b256016ee0bfbf9cddb4e505191b11a1df949a95455438142163bbe",
  "tokenfilter_threads.wasm": "04af70b21c5a589fdc50aa2db54ee6673c818505595bfca617debbd453fc7b6b",
} as const;
