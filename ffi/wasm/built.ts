/** SHA-256 of the files: `deno run -A experiments/tools/release/main.ts --wasm` writes all three. */
export const BUILT = {
  "tokenfilter.wasm": "e6f5c976b12e63dcbc8d77d20cf41cbf569c240a17665b3b40fd14b367723696",
  "tokenfilter_threads.wasm": "5fca7d3d83826bdf2ffac50668fa8ae21cbed00ac103467d6f145d2953098692",
} as const;
