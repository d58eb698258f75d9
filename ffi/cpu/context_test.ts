/** The functions of the C ABI that are about contexts, called as they are. */
import { assert, assertEquals } from "@std/assert";
import { STATUS } from "../library/abi.ts";
import { NativeContext } from "./context.ts";
import { openCpuLibrary } from "../library/library.ts";

const library = await openCpuLibrary(), { symbols } = library;

Deno.test("tkf_context_create() refuses thread counts and levels outside their ranges", () => {
  const out = new BigUint64Array([1n]);
  for (const [threads, level] of [[0, -1], [-5, 0], [1025, 0], [1, -2], [1, 3]] as const) {
    assertEquals(symbols.tkf_context_create(threads, level, out), STATUS.value);
    assertEquals(out[0], 0n);
  }
});

Deno.test("tkf_context_destroy() ends a context's threads, many times over", () => {
  for (let i = 0; i < 50; i++) {
    const out = new BigUint64Array(1);
    assertEquals(symbols.tkf_context_create(4, -1, out), STATUS.ok);
    assertEquals(symbols.tkf_context_destroy(Deno.UnsafePointer.create(out[0]!)), STATUS.ok);
  }
});

Deno.test("tkf_blas_load() refuses what is no BLAS, and says what it found", () => {
  using context = new NativeContext(library, { threads: 2 });
  for (const name of ["such", "\u20ac".repeat(400), "%s%n"]) {
    const path = new TextEncoder().encode(`/no/${name}\0`);
    assertEquals(symbols.tkf_blas_load(context.pointer, path), STATUS.unsupported);
    assert(context.message.length > 5);
  }
});
