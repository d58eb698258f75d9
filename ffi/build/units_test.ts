import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { includesOf, readCudaSources, unitKey, unitsOf } from "./units.ts";

const SOURCES = new Map([
  ["a/a.cu", '#include "a.cuh"\n#include <vector>\n  #  include "../common/x.h"\n// #include "b.h"\n'],
  ["a/a.cuh", '#include "a.cuh"\n#include "missing.h"\n'],
  ["b/b.cu", '#include "../common/x.h"\n'],
  ["common/x.h", "#pragma once\n"],
]);

Deno.test("includesOf() follows local includes, from the file's own folder, once each", () => {
  assertEquals(includesOf(SOURCES, "a/a.cu"), ["a/a.cu", "a/a.cuh", "common/x.h"]);
  assertEquals(includesOf(SOURCES, "b/b.cu"), ["b/b.cu", "common/x.h"]);
  assertEquals(includesOf(SOURCES, "none.cu"), []);
});

Deno.test("unitKey() changes with a header for the units that include it alone, and with the flags", async () => {
  const changed = new Map(SOURCES).set("a/a.cuh", "other");
  assertNotEquals(await unitKey(changed, "a/a.cu", 0), await unitKey(SOURCES, "a/a.cu", 0));
  assertEquals(await unitKey(changed, "b/b.cu", 0), await unitKey(SOURCES, "b/b.cu", 0));
  assertNotEquals(await unitKey(SOURCES, "b/b.cu", 1), await unitKey(SOURCES, "b/b.cu", 0));
});

Deno.test("unitsOf() takes every .cu file; the emulator belongs to the emulated library alone", async () => {
  const sources = await readCudaSources();
  const cuda = unitsOf(sources, "cuda"), emulated = unitsOf(sources, "emulated");
  assert(cuda.includes("common/cuda_context.cu") && cuda.includes("common/cuda_entries.cpp"));
  const kernels = [...sources.keys()].filter((path) => path.endsWith(".cu"));
  assertEquals(cuda.filter((path) => path.endsWith(".cu")), kernels);
  assertEquals(emulated.slice(0, cuda.length), cuda);
  for (const path of emulated.slice(cuda.length)) {
    assert(sources.has(path) && path.startsWith("testing/emulator/"), path);
  }
});

Deno.test("includes of kernels/ name files that exist, so that a changed header is never missed", async () => {
  const sources = await readCudaSources();
  const missing: string[] = [];
  for (const [path, text] of sources) {
    for (const [, name] of text.matchAll(/^\s*#\s*include\s+"([^"]+)"/gm)) {
      const target = new URL(name!, new URL(path, "file:///")).pathname.slice(1);
      if (!sources.has(target)) missing.push(`${path} -> ${name}`);
    }
  }
  assertEquals(missing, []);
});

Deno.test("kernels neither wait nor allocate outside the named places, so that a step can be captured", async () => {
  const forbidden =
    /\b(cu(da)?(DeviceSynchronize|StreamSynchronize|EventSynchronize|Memcpy(2D|3D)?|Memset|Malloc\w*|Free\w*|HostAlloc|StreamCreate\w*|DeviceReset|CtxSynchronize))\s*\(/g;
  // The context itself, the measurement of the machine, and the emulator's own runtime.
  const allowed = /^(common\/cuda_context\.cu|machine\/machine\.cu|testing\/emulator\/.*)$/;
  const found: string[] = [];
  for (const [path, text] of await readCudaSources()) {
    if (allowed.test(path)) continue;
    for (const [, name] of text.matchAll(forbidden)) found.push(`${path}: ${name}`);
  }
  assertEquals(found, []);
});
