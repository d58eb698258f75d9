import { readdirSync } from "node:fs";
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { includesOf, KERNELS_URL, readSources, sourceKey, unitFlags } from "../library/sources.ts";
import { readPtx } from "./ptx_testing.ts";
import { bestLevel } from "./cpu.ts";
import { unitKey } from "./objects.ts";

const SOURCES = new Map([
  ["a/a.cu", '#include "a.cuh"\n#include <vector>\n  #  include "../common/x.h"\n// #include "b.h"\n'],
  ["a/a.cuh", '#include "a.cuh"\n#include "missing.h"\n'],
  ["b/b.cu", '#include "../common/x.h"\n'],
  ["common/x.h", "#pragma once\n"],
  ["all.cpp", '#include "ops.def"\n#define TKF_CHECKS\n#include "ops.def"\n'],
  ["ops.def", '#include "a/a.cpp"\n#include "a/a.def"\n'],
  ["a/a.def", "TKF_UNITS(a_cpu.cpp, a.cu)\nTKF_OP(a)\n"],
  ["a/a.cpp", '#include "../common/x.h"\n'],
  ["a/a_cpu.cpp", ""],
]);

Deno.test("includesOf() follows local includes, from the file's own folder, once each", () => {
  assertEquals(includesOf(SOURCES, "a/a.cu"), ["a/a.cu", "a/a.cuh", "common/x.h"]);
  assertEquals(includesOf(SOURCES, "b/b.cu"), ["b/b.cu", "common/x.h"]);
  assertEquals(includesOf(SOURCES, "none.cu"), []);
  const missing = new Set<string>();
  includesOf(SOURCES, "a/a.cu", missing);
  assertEquals([...missing], ["a/missing.h"]);
});

Deno.test("includesOf() follows the list of ops to the checks where the unit asks for them", () => {
  assertEquals(includesOf(SOURCES, "ops.def"), ["a/a.def", "ops.def"]);
  assertEquals(includesOf(SOURCES, "all.cpp"), ["a/a.cpp", "a/a.def", "all.cpp", "common/x.h", "ops.def"]);
});

Deno.test("unitKey() changes with a header for the units that include it alone, and with the flags", async () => {
  const changed = new Map(SOURCES).set("a/a.cuh", "other");
  assertNotEquals(await unitKey(changed, "a/a.cu", 0), await unitKey(SOURCES, "a/a.cu", 0));
  assertEquals(await unitKey(changed, "b/b.cu", 0), await unitKey(SOURCES, "b/b.cu", 0));
  assertNotEquals(await unitKey(SOURCES, "b/b.cu", 1), await unitKey(SOURCES, "b/b.cu", 0));
});

Deno.test("sourceKey() hashes the texts that it is given, and reads them where there are none", async () => {
  const { texts } = await readSources("cpu"), own = await sourceKey("cpu");
  assertEquals(await sourceKey("cpu", texts), own);
  assertNotEquals(await sourceKey("cpu", new Map([...texts, ["other.h", ""]])), own);
});

Deno.test("the list of ops names every .cu file once; only the library of tests holds the interpreter", async () => {
  const found = readdirSync(KERNELS_URL, { recursive: true, encoding: "utf8" }).filter((path) =>
    path.endsWith(".cu")
  );
  const cuda = await readSources("cuda"), cpu = await readSources("cpu");
  assertEquals(cuda.units.filter((path) => path.endsWith(".cu")).toSorted(), found.sort());
  const isTest = (path: string) => path.startsWith("testing/");
  assert([...(await readPtx()).texts.keys()].some(isTest));
  assertEquals([...cpu.texts.keys(), ...cuda.texts.keys()].filter(isTest), []);
  // A change on one side does not make the other's library old.
  assertEquals([...cpu.texts.keys()].filter((path) => /\.cuh?$/.test(path)), []);
  const isBody = (path: string) => path.endsWith("_cpu.cpp");
  assertEquals([...cuda.texts.keys()].filter(isBody), []);
  assertEquals(cpu.units.filter(isBody).toSorted(), [...cpu.texts.keys()].filter(isBody));
});

Deno.test("kernels neither wait nor allocate outside the named places, so that a step can be captured", async () => {
  const forbidden =
    /\b(cu(da)?(DeviceSynchronize|StreamSynchronize|EventSynchronize|Memcpy(2D|3D)?|Memset|Malloc\w*|Free\w*|HostAlloc|StreamCreate\w*|DeviceReset|CtxSynchronize))\s*\(/g;
  const found: string[] = [];
  for (const [path, text] of (await readSources("cuda")).texts) {
    if (path === "common/cuda/context.cu") continue;
    for (const [, name] of text.matchAll(forbidden)) found.push(`${path}: ${name}`);
  }
  assertEquals(found, []);
});

Deno.test("every kernel waits for those before it first of all, so that launches may overlap", async () => {
  const found: string[] = [], late: string[] = [];
  for (const [path, text] of (await readSources("cuda")).texts) {
    for (const { index } of text.matchAll(/\b__global__\b/g)) {
      // Its body begins at the first brace outside parentheses.
      let at = index!;
      for (let depth = 0; depth > 0 || text[at] !== "{"; at++) {
        depth += text[at] === "(" ? 1 : text[at] === ")" ? -1 : 0;
      }
      const name = text.slice(index, at).match(/(\w+)\([^()]*(\([^()]*\)[^()]*)*\) $/)?.[1] ?? "?";
      found.push(name);
      if (!/^\{\s*wait_for_earlier_kernels\(\);/.test(text.slice(at))) late.push(`${path}: ${name}`);
    }
  }
  assertEquals(late, []);
  assert(found.length > 40 && found.includes("prefill_wgmma_kernel"), `${found}`);
});

Deno.test("units of the filter's formulas and of products in int8 fuse no product with an addition", async () => {
  const { units, texts } = await readSources("cpu");
  const holdsFilter = (unit: string) =>
    includesOf(texts, unit).some((path) => /^(kv_filter_.*\.(h|cpp)|linear\/int8.*)$/.test(path));
  const exact = units.filter(holdsFilter);
  assertEquals(exact.toSorted(), [
    "common/entries.cpp", // the decisions: compiled once, so that only arm64 would show it
    "kv_filter_scan/kv_filter_scan_cpu.cpp",
    "linear/int8/dots_cpu.cpp",
    "linear/int8/int8_cpu.cpp",
  ]);
  for (const unit of exact) assertEquals(unitFlags(unit), ["-ffp-contract=off"], unit);
});

Deno.test("kernels load by way of the read-only cache what no kernel writes: weights and tables", async () => {
  // PTX asks that such data stay as they are while a kernel lives, and its life may overlap that of the one before.
  const found: string[] = [],
    weights = /^(reinterpret_cast<[^>]+>\()?(block|at|half|whole|weight|w\[|w_rows|turns)\b/;
  for (const [path, text] of (await readSources("cuda")).texts) {
    for (const [, what] of text.matchAll(/\b__ldg\((.*)/g)) found.push(`${path}: ${what}`);
  }
  assert(found.length > 20);
  assertEquals(found.filter((line) => !weights.test(line.slice(line.indexOf(": ") + 2))), []);
});

Deno.test("bestLevel() takes the last level whose macros the compiler defines, all of them", async () => {
  const levels = ["base", "avx2", "avx512"].map((name, code) => ({
    name,
    code,
    flags: [],
    macros: [`${name}_A`, `${name}_B`],
  }));
  const best = (...defined: string[]) => {
    const said = defined.map((macro) => `#define ${macro} 1`).join("\n");
    return bestLevel({ command: "sh", args: ["-c", `echo '${said}'`], version: "" }, levels);
  };
  assertEquals(await best("base_A", "base_B", "avx2_A", "avx2_B", "avx512_A"), "avx2");
  assertEquals(await best("avx512_A", "avx512_B", "avx2_A"), "avx512");
  assertEquals(await best(), "base");
});
