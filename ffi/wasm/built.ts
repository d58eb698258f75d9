/** SHA-256 of the files: `deno run -A experiments/tools/release/main.ts --wasm` writes all three. */
export const BUILT = {
  "tokenfilter.wasm": "a4cd686b336b5aa9c7fc3855787ed9b0784ec2a9f4bfc5fba9e3b1f4822e05a8",
  "tokenfilter_threads.wasm": "cdad82ca376ca7655f37e7b4489a8b5a0b613bde5d920acd6e2fee4c5497b15d",
} as const;
