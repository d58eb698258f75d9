/** Files as memory that all processes which map them share. */
import { NativeLibraryError } from "../lib/errors.ts";

const LIBC = { linux: "libc.so.6", darwin: "libSystem.B.dylib" } as const;
const READ = 1, SHARED = 1;

/**
 * A file's bytes without a copy: pages come in as they are read, and processes that map one file hold it once. The bytes
 * must not be written to, and the file must stay as it is; the memory lives as long as the process.
 *
 * @param path Of a file that is not empty.
 * @throws {NativeLibraryError} If the system has no such call, or refuses it.
 *
 * @example
 * ```ts
 * import { mapFile } from "@tokenfilter/tokenfilter/ffi";
 * const path = await Deno.makeTempFile();
 * await Deno.writeTextFile(path, "shared");
 * console.assert(new TextDecoder().decode(mapFile(path)) === "shared");
 * ```
 */
export function mapFile(path: string): Uint8Array<ArrayBuffer> {
  const { os } = Deno.build, name = LIBC[os as keyof typeof LIBC], { size } = Deno.statSync(path);
  const refuse = (why: string) => new NativeLibraryError(`Cannot map "${path}" into memory: ${why}`);
  if (name === undefined) throw refuse(`found ${os}, expected Linux or macOS`);
  const libc = Deno.dlopen(name, {
    open: { parameters: ["buffer", "i32"], result: "i32" },
    close: { parameters: ["i32"], result: "i32" },
    mmap: { parameters: ["pointer", "usize", "i32", "i32", "i32", "i64"], result: "pointer" },
  }).symbols;
  const file = libc.open(new TextEncoder().encode(`${path}\0`), 0);
  if (file < 0) throw refuse("the system cannot open it");
  const memory = libc.mmap(null, BigInt(size), READ, SHARED, file, 0n);
  libc.close(file);
  if (memory === null || BigInt.asIntN(64, Deno.UnsafePointer.value(memory)) === -1n) {
    throw refuse(`the system refuses ${size} bytes`);
  }
  return new Uint8Array(Deno.UnsafePointerView.getArrayBuffer(memory, size));
}
