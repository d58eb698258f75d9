/** What tokenfilter.wasm is: `deno run -A experiments/tools/release/main.ts --wasm` writes both. */
export const BUILT = {
  sha256: "e1eb8fbb9570ac6db2d4d06a7b6f3df5936dd886e419b92ae67f9bfbda1030d4",
} as const;
