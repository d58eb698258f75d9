/** The CPU library as WebAssembly, which the package carries: the same bytes on every machine. */
import { fileURLToPath } from "node:url";
import { writeAtomically } from "../../../lib/cache.ts";
import { sha256 } from "../../../lib/sha256.ts";
import { buildNative, type Platform } from "./native.ts";

const FOLDER = new URL("../../../ffi/wasm/", import.meta.url);

/** A library without a system, over a memory that the caller gives. */
const platform = (...more: readonly string[]): Platform => ({
  ...{ os: "wasi", arch: "wasm32", triple: "wasm32-wasi", isTried: true },
  flags: ["-mcpu=baseline+simd128+atomics+bulk_memory"],
  linkFlags: [
    "-mexec-model=reactor",
    "-Wl,--import-memory,--initial-memory=2097152,--max-memory=4294901760,-z,stack-size=1048576",
    "-Wl,--export-dynamic,--export=free,--export=aligned_alloc",
    ...more,
  ],
});

/** Files in ffi/wasm, of the same objects: for one thread, and for several over a memory that they share. */
export const WASM = {
  "tokenfilter.wasm": platform(),
  "tokenfilter_threads.wasm": platform("-Wl,--shared-memory,--export=__stack_pointer"),
} as const;

/** The text of ffi/wasm/built.ts, of the bytes of both files. */
export async function formatBuilt(files: readonly Uint8Array<ArrayBuffer>[]): Promise<string> {
  const [one, several] = await Promise.all(files.map((bytes) => sha256(bytes)));
  return `/** SHA-256 of the files: \`deno run -A experiments/tools/release/main.ts --wasm\` writes all three. */
export const BUILT = {
  "tokenfilter.wasm": "${one}",
  "tokenfilter_threads.wasm": "${several}",
} as const;
`;
}

/** Builds both files of the present kernels. */
export async function buildWasm(
  zig: string,
  onProgress?: (message: string) => void,
): Promise<Uint8Array<ArrayBuffer>[]> {
  const built: Uint8Array<ArrayBuffer>[] = [];
  for (const own of Object.values(WASM)) built.push((await buildNative(own, zig, onProgress)).bytes);
  return built;
}

/** Builds the library of the present kernels. @returns The files that were written. */
export async function renewWasm(zig: string, onProgress: (message: string) => void): Promise<string[]> {
  const files = await buildWasm(zig, onProgress);
  const paths = [...Object.keys(WASM), "built.ts"].map((name) => fileURLToPath(new URL(name, FOLDER)));
  for (const [i, bytes] of files.entries()) await writeAtomically(paths[i]!, bytes);
  await writeAtomically(paths.at(-1)!, await formatBuilt(files));
  return paths;
}
