import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { KERNELS_URL, readSources, UNITS } from "../sources.ts";
import { EMULATED_UNITS } from "./emulated_testing.ts";
import { includesOf, unitKey } from "./units.ts";

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

Deno.test("UNITS names every .cu file once; only the emulated library holds the emulator", async () => {
  const found: string[] = [];
  for (const folder of Deno.readDirSync(KERNELS_URL)) {
    if (!folder.isDirectory) continue;
    for (const { name } of Deno.readDirSync(new URL(folder.name, KERNELS_URL))) {
      if (name.endsWith(".cu")) found.push(`${folder.name}/${name}`);
    }
  }
  assertEquals(UNITS.cuda.filter((path) => path.endsWith(".cu")).toSorted(), found.sort());
  const isTest = (path: string) => path.startsWith("testing/");
  const emulated = await readSources(EMULATED_UNITS);
  assert([...emulated.keys()].some(isTest));
  const packed = [...await readSources(UNITS.cpu), ...await readSources(UNITS.cuda)];
  assertEquals(packed.filter(([path]) => isTest(path)), []);
});

Deno.test("kernels neither wait nor allocate outside the named places, so that a step can be captured", async () => {
  const forbidden =
    /\b(cu(da)?(DeviceSynchronize|StreamSynchronize|EventSynchronize|Memcpy(2D|3D)?|Memset|Malloc\w*|Free\w*|HostAlloc|StreamCreate\w*|DeviceReset|CtxSynchronize))\s*\(/g;
  // The context itself, the measurement of the machine, and the emulator's own runtime.
  const allowed = /^(common\/cuda_context\.cu|machine\/machine\.cu|testing\/emulator\/.*)$/;
  const found: string[] = [];
  for (const [path, text] of await readSources(EMULATED_UNITS)) {
    if (allowed.test(path)) continue;
    for (const [, name] of text.matchAll(forbidden)) found.push(`${path}: ${name}`);
  }
  assertEquals(found, []);
});
