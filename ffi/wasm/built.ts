/** What tokenfilter.wasm is: `deno run -A experiments/tools/release/main.ts --wasm` writes both. */
export const BUILT = {
  sha256: "9ce0de4228ab3838a85eb29bdf02b326ca9862c510555df4af0e624d60c49c80",
} as const;
