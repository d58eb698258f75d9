/** What tokenfilter.wasm is: `deno run -A experiments/tools/release/main.ts --wasm` writes both. */
export const BUILT = {
  sha256: "ff875db52d43eb269d053f7e001a1ecc8fd10dce1d19aa19f550355b65d36c45",
} as const;
