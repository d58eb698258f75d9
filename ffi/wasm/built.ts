/** What tokenfilter.wasm is: `deno run -A experiments/tools/release/main.ts --wasm` writes both. */
export const BUILT = {
  sha256: "2ec9113a32c490c9408edc6ecb3d50fa781837c035a8f6b93205b96ae66f43d4",
} as const;
