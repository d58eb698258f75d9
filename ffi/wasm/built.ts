/** SHA-256 of the files: `deno run -A experiments/tools/release/main.ts --wasm` writes all three. */
export const BUILT = {
  "tokenfilter.wasm": "bf823eb90278c85a02a55fa12868180ee6446199dcd59ecc64d5c1af51bac54b",
  "tokenfilter_threads.wasm": "5b6e9727f45bd4018f2826d98779d3ebc1fa3079a7152e57f933722eeb066a8e",
} as const;
