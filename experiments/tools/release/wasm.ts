/** The CPU library as WebAssembly, which the package carries: the same bytes on every machine. */
import { fileURLToPath } from "node:url";
import { writeAtomically } from "../../../lib/cache.ts";
import { sha256 } from "../../../lib/sha256.ts";
import { buildNative, type Platform } from "./native.ts";

const FOLDER = new URL("../../../ffi/wasm/", import.meta.url);

/** A library without a system, over a memory that the caller gives. */
export const WASM: Platform = {
  ...{ os: "wasi", arch: "wasm32", triple: "wasm32-wasi", isTried: true },
  linkFlags: [
    "-mexec-model=reactor",
    "-Wl,--import-memory,--initial-memory=2097152,--max-memory=4294901760,-z,stack-size=1048576",
    "-Wl,--export-dynamic,--export=free,--export=aligned_alloc",
  ],
};

/** The text of ffi/wasm/built.ts. */
export async function formatBuilt(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return `/** What tokenfilter.wasm is: \`deno run -A experiments/tools/release/main.ts --wasm\` writes both. */
export const BUILT = {
  sha256: "${await sha256(bytes)}",
} as const;
`;
}

/** Builds the library of the present kernels. @returns The files that were written. */
export async function renewWasm(zig: string, onProgress: (message: string) => void): Promise<string[]> {
  const { bytes } = await buildNative(WASM, zig, onProgress);
  const [library, built] = ["tokenfilter.wasm", "built.ts"].map((name) =>
    fileURLToPath(new URL(name, FOLDER))
  );
  await writeAtomically(library!, bytes);
  await writeAtomically(built!, await formatBuilt(bytes));
  return [library!, built!];
}
