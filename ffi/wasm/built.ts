/** What tokenfilter.wasm is: `deno run -A experiments/tools/release/main.ts --wasm` writes both. */
export const BUILT = {
  sha256: "a53d4ff1df423062e02c5bbad2566e35375dcaf59a5036894957ae4adb1575db",
} as const;
