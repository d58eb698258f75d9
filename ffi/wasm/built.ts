/** SHA-256 of the files: `deno run -A experiments/tools/release/main.ts --wasm` writes all three. */
export const BUILT = {
  "tokenfilter.wasm": "fd8addfd84eccec67b33a73b1e752b9a10c540aeda8c174d72ce9a8fa3e1923e",
  "tokenfilter_threads.wasm": "467f00a364e9d1ff08522279d407ed5a767f4c99c432dddce1b81ea58196f982",
} as const;
