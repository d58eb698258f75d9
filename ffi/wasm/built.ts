/** SHA-256 of the files: `deno run -A experiments/tools/release/main.ts --wasm` writes all three. */
export const BUILT = {
  "tokenfilter.wasm": "15c8f5e9173c737c64c100bd07381ab90918cd31ceb76d216ba66f1f0bdbcfa5",
  "tokenfilter_threads.wasm": "0f90c5c270d488cc79ec739881df9af33759078e12902567b297959a616da8c2",
} as const;
