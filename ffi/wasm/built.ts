/** What tokenfilter.wasm is: `deno run -A experiments/tools/release/main.ts --wasm` writes both. */
export const BUILT = {
  sha256: "9ad34cf58fce14be75e2bfc79ac50e0405f19b9de11a324e5f479d37f3489bab",
} as const;
