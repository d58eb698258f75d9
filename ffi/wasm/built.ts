/** What tokenfilter.wasm is: `deno run -A experiments/tools/release/main.ts --wasm` writes both. */
export const BUILT = {
  sha256: "51f5ff93ae27492b45ad2b443316a92d79e8dffce5256b0edd276c9ff2f38f6a",
} as const;
