import { assert, assertEquals } from "@std/assert";
import { KERNELS_URL } from "../../ffi/sources.ts";
import { formatTable, parseLaunches, shortName } from "./table.ts";

Deno.test("shortName() leaves the kernel and its template arguments", () => {
  assertEquals(
    shortName("void tkf::attention::decode_kernel<__half, 64, 4>(tkf::attention::DecodeJob)"),
    "attention::decode_kernel<__half, 64, 4>",
  );
  assertEquals(shortName("tkf::copy(void (*)(int), int)"), "copy");
  assertEquals(shortName("plain"), "plain");
});

Deno.test("formatTable() gives registers and occupancy by architecture; parseLaunches() reads launches back", () => {
  const kernel = { symbol: "_k", registers: 32, sharedBytes: 128, stackBytes: 0, spillBytes: 0 };
  const kernels = [
    { ...kernel, arch: "sm_80" },
    { ...kernel, arch: "sm_86", registers: 40, stackBytes: 8 },
    { ...kernel, symbol: "_only", arch: "sm_90a" },
  ];
  const names = new Map([["_k", "k<4>"], ["_only", "only"]]);
  const launches = new Map([["k<4>", { threads: 256, dynamicBytes: 1024 }]]);
  const table = formatTable(kernels, names, launches);
  assertEquals(table.split("\n").slice(2), [
    "| `k<4>` | 256 | 128 + 1024 | 32 · 100% | 40 · 100%, 8 B local |  |  |  |  |",
    "| `only` |  | 128 |  |  |  | 32 |  |  |",
  ]);
  assertEquals(parseLaunches(table), launches);
  assertEquals(formatTable(kernels, names, parseLaunches(table)), table);
  assertEquals(formatTable(kernels, names, launches, ["86"]).split("\n").slice(2), [
    "| `k<4>` | 256 | 128 + 1024 | 40 · 100%, 8 B local |",
    "| `only` |  | 128 |  |",
  ]);
});

Deno.test("the table of kernels/README.md: an emulated test launches every kernel", async () => {
  const table = await Deno.readTextFile(new URL("README.md", KERNELS_URL));
  const kernels = Array.from(table.matchAll(/^\| `([\w:]+)[<`]/gm), ([, name]) => name!);
  const idle = [...table.matchAll(/^\| `([\w:]+)[^`]*` \| {2}\|/gm)].map(([, name]) => name!);
  assert(kernels.length > 200, `${kernels.length} kernels`);
  assertEquals(idle, []);
});
