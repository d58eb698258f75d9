import { assert, assertEquals } from "@std/assert";
import { countLines } from "./size.ts";
import { runTask } from "./testing.ts";

Deno.test("countLines() counts sources by the first room that holds them, without tests, helpers and data", () => {
  const files = new Map([
    ["lib/a/one.ts", 10],
    ["lib/a/one_test.ts", 99],
    ["lib/a/testing.ts", 99],
    ["lib/a/testdata/two.ts", 99],
    ["lib/a.md", 99],
    ["lib/three.ts", 5],
    ["lib/abc/four.ts", 7],
    ["kernels/op/cases.ts", 99],
    ["kernels/op/op.cu", 3],
    ["other.ts", 2],
  ]);
  const found = countLines(["lib/a, lib/three.ts", "lib", "kernels"], files);
  assertEquals([...found], [["lib/a, lib/three.ts", 15], ["lib", 7], ["kernels", 3], ["", 2]]);
});

Deno.test("size prints every room beside its budget, and each is within", async () => {
  const { code, stdout } = await runTask("size");
  assertEquals(code, 0, stdout);
  const lines = stdout.trim().split("\n");
  assert(lines.every((line) => /^ *\d+ of +\d+ {2}[\w./, ]+$/.test(line)), stdout);
  assert(lines.some((line) => line.endsWith("  public names")) && lines.length > 15, stdout);
});
