import { assertEquals } from "@std/assert";
import { findKernelTests, findTests } from "./dependents.ts";

Deno.test("findTests() puts the nearest first, and findKernelTests() those of the folder", () => {
  const importers = new Map([
    ["lib/a.ts", new Set(["lib/b.ts", "ffi/a_test.ts", "lib/c_test.ts", "lib/a_test.ts"])],
    ["lib/b.ts", new Set(["lib/b_test.ts"])],
    ["ffi/a.ts", new Set(["ffi/b.ts", "lib/c_test.ts"])],
    ["ffi/b.ts", new Set(["kernels/a_test.ts", "kernels/testing/emulator/emulator_test.ts"])],
  ]);
  assertEquals(findTests("ffi/a.ts", importers, 9), ["kernels/a_test.ts", "lib/c_test.ts"]);
  assertEquals(findTests("lib/a.ts", importers, 9), [
    "lib/a_test.ts",
    "lib/c_test.ts",
    "lib/b_test.ts",
    "ffi/a_test.ts",
  ]);
  assertEquals(
    findTests("lib/a.ts", importers, 9, new Map([["lib/c_test.ts", 60]])),
    ["lib/a_test.ts", "lib/b_test.ts", "ffi/a_test.ts", "lib/c_test.ts"],
  );
  assertEquals(findTests("lib/a.ts", importers, 2, new Map([["lib/a_test.ts", 60]])), [
    "lib/a_test.ts",
    "lib/c_test.ts",
  ]);
  const paths = [
    "ffi/x_test.ts",
    "kernels/a/a_test.ts",
    "kernels/b/b_test.ts",
    "kernels/b/b_cuda_test.ts",
    "kernels/testing/emulator/emulator_test.ts",
    "ffi/y_test.ts",
  ];
  assertEquals(findKernelTests("kernels/b/b.cpp", paths, 3), [
    "kernels/b/b_test.ts",
    "kernels/a/a_test.ts",
    "ffi/x_test.ts",
  ]);
  assertEquals(findKernelTests("kernels/b/b.cu", paths, 2, new Map(), "emulated"), [
    "kernels/b/b_cuda_test.ts",
    "kernels/b/b_test.ts",
  ]);
  const slow = new Map([["kernels/a/a_test.ts", 9], ["ffi/x_test.ts", 2]]);
  assertEquals(findKernelTests("kernels/common/simd.h", paths, 4, slow), [
    "kernels/b/b_test.ts",
    "kernels/a/a_test.ts",
    "ffi/y_test.ts",
    "ffi/x_test.ts",
  ]);
});
