/** SHA-256 of the files: `deno run -A experiments/tools/release/main.ts --wasm` writes all three. */
export const BUILT = {
  "tokenfilter.wasm": "a2ab1158a4e143b0fb7b04883f0ea45cf939918ad1c8affbf246453d4b66c67d",
  "tokenfilter_threads.wasm": "072dda1176790a3f9faca5cb910296723138c3ba91e625b6d8254a8cc483367e",
} as const;
