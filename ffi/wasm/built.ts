/** What tokenfilter.wasm is: `deno run -A experiments/tools/release/main.ts --wasm` writes both. */
export const BUILT = {
  sha256: "d34fee1b568ed491ba7aa033feaa1516d4349ad0be32a9d765dd8eace49ac2da",
} as const;
