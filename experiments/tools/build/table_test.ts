import { assertEquals } from "@std/assert";
import { buildEmulated } from "../../../ffi/build/emulated_testing.ts";
import { testEmulated } from "../../../ffi/cuda/testing.ts";
import { inChild } from "../../../kernels/testing/child.ts";
import { formatTable, occupancy, readTrace, shortName } from "./table.ts";

Deno.test("shortName() leaves the kernel and its template arguments", () => {
  assertEquals(
    shortName("void tkf::attention::decode_kernel<__half, 64, 4>(tkf::attention::DecodeJob)"),
    "attention::decode_kernel<__half, 64, 4>",
  );
  assertEquals(shortName("tkf::copy(void (*)(int), int)"), "copy");
  assertEquals(shortName("plain"), "plain");
});

Deno.test("formatTable() gives registers and occupancy by architecture; of what a build is for", () => {
  const kernel = { symbol: "_k", registers: 32, sharedBytes: 128, stackBytes: 0, spillBytes: 0 };
  const kernels = [
    { ...kernel, arch: "sm_80" },
    { ...kernel, arch: "sm_86", registers: 40, sharedBytes: 64, stackBytes: 8 },
    { ...kernel, symbol: "_only", arch: "sm_90a" },
  ];
  const names = new Map([["_k", "k<4>"], ["_only", "only"]]);
  const launches = new Map([["k<4>", { threads: 256, dynamicBytes: 1024 }]]);
  const table = formatTable(kernels, names, launches);
  assertEquals(table.split("\n").slice(2), [
    "| `k<4>` | 256 | 128 + 1024 | 32 · 100% | 40 · 100%, 8 B local |  |  |  |  |",
    "| `only` |  | 128 |  |  |  | 32 |  |  |",
  ]);
  assertEquals(formatTable(kernels, names, launches, ["86"]).split("\n").slice(2), [
    "| `k<4>` | 256 | 128 + 1024 | 40 · 100%, 8 B local |",
    "| `only` |  | 128 |  |",
  ]);
});

testEmulated("readTrace() names the kernels that a library launched, with their largest blocks", async () => {
  const trace = await Deno.makeTempFile();
  try {
    await inChild(
      { TKF_EMULATOR_TRACE: trace },
      `const { openEmulated } = await load("ffi/cuda/testing.ts");
       const { backend } = await openEmulated();
       for (const cols of [42, 1002]) {
         const x = backend.alloc("f32", [2, cols]);
         backend.rmsNorm(x, backend.alloc("f32", [cols]), 1e-5, x);
       }`,
    );
    const text = await Deno.readTextFile(trace), { path } = await buildEmulated();
    const launches = await readTrace(`${text}10 1 1 /another/library.so\n`, path);
    assertEquals(launches, new Map([["rms_norm_kernel", { threads: 256, dynamicBytes: 0 }]]));
  } finally {
    await Deno.remove(trace);
  }
});

Deno.test("occupancy() is what the first resource to run out leaves", () => {
  assertEquals(occupancy("sm_80", 32, 256, 0), 1);
  assertEquals(occupancy("sm_80", 255, 128, 0), 8 / 64); // registers: 8192 a warp
  assertEquals(occupancy("sm_80", 32, 128, 48 * 1024), 12 / 64); // 49 KiB a block, 164 KiB in all
  assertEquals(occupancy("sm_90a", 32, 128, 48 * 1024), 16 / 64);
  assertEquals(occupancy("sm_86", 32, 32, 0), 16 / 48); // 16 blocks of one warp
  assertEquals(occupancy("sm_80", 40, 1024, 0), 32 / 64);
  assertEquals(occupancy("sm_80", 128, 1024, 0), 0);
  assertEquals(occupancy("sm_120", 64, 128, 0), 32 / 48);
  assertEquals(occupancy("sm_75", 32, 32, 0), undefined);
});
