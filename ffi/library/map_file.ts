/** Files as memory that all processes which map them share. */
import { NativeLibraryError } from "../../lib/errors.ts";

const LIBC = { linux: "libc.so.6", darwin: "libSystem.B.dylib" } as const;
const SIGBUS = { linux: 7, darwin: 10 } as const;
const READ = 1, SHARED = 1;

/** The system's C library, where its name is known. */
const libcName = (): string | undefined => LIBC[Deno.build.os as keyof typeof LIBC];

/**
 * A file's bytes without a copy: pages come in as they are read, and processes that map one file hold it once. The bytes
 * must not be written to, and the file must stay as it is; the memory lives as long as the process.
 *
 * @param path Path of a file that is not empty.
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
  const { os } = Deno.build, name = libcName(), { size } = Deno.statSync(path);
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

/**
 * Calls a function in this thread if another thread reads mapped bytes that are no longer there: the file was cut
 * short, or its disk fails. That thread stops for ever. The returned function ends the process, which `Deno.exit` does
 * not do from a Worker. Nothing happens where files cannot be mapped.
 */
export function onLostMapping(listener: () => void): (code: number) => void {
  const name = libcName();
  if (name === undefined) return Deno.exit;
  const libc = Deno.dlopen(name, {
    signal: { parameters: ["i32", "function"], result: "pointer" },
    _exit: { parameters: ["i32"], result: "void" },
  }).symbols;
  const callback = Deno.UnsafeCallback.threadSafe({ parameters: ["i32"], result: "void" }, listener);
  libc.signal(SIGBUS[Deno.build.os as keyof typeof SIGBUS], callback.pointer);
  return (code) => libc._exit(code);
}
