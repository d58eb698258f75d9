import { assert, assertEquals } from "@std/assert";
import { countLines, reportSizes } from "./size.ts";
import { listTree } from "./machine/checkout.ts";
import { runTask } from "../commands/testing.ts";

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

Deno.test("reportSizes() sets each count beside its budget, and counts what is over", () => {
  const budgets = { lines: { lib: 20, kernels: 7 }, names: 3 };
  const found = new Map([["lib", 20], ["kernels", 8], ["", 1]]);
  assertEquals(reportSizes(budgets, found, 3), {
    lines: [
      "    20 of     20  lib",
      "     8 of      7  kernels  over budget",
      "     1 of      0  in no room  over budget",
      "    29 of     27  lines in all  over budget",
      "     3 of      3  public names",
    ],
    over: 3,
  });
});

Deno.test("size counts the tree, and every room is within its budget", async () => {
  const { code, stdout } = await runTask("size");
  assertEquals(code, 0, stdout);
  const [, counted] = stdout.match(/^ *(\d+) of +\d+ {2}ffi, build\.ts$/m)!;
  let lines = 0;
  for (const file of await listTree(new URL("../..", import.meta.url).pathname.replace(/\/$/, ""))) {
    if (
      !/^(ffi\/|build\.ts$)/.test(file.to) || !/\.(ts|h)$/.test(file.to) ||
      /test(ing)?\.ts$|testdata/.test(file.to)
    ) continue;
    lines += Array.from((await Deno.readTextFile(file.from)).matchAll(/\n/g)).length;
  }
  assertEquals(Number(counted), lines);
  assert(Number(stdout.match(/(\d+) of +\d+ {2}public names$/m)![1]) > 100, stdout);
});
