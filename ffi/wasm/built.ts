/** SHA-256 of the files: `deno run -A experiments/tools/release/main.ts --wasm` writes all three. */
export const BUILT = {
  "tokenfilter.wasm": "238187ef87ac08765550951d043afa0858a6697703188e78a6f388878a72114d",
  "tokenfilter_threads.wasm": "21c9572081867810fd405637305b4596a96107203831230633140f57166f66ce",
} as const;
