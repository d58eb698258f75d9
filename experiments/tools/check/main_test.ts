/** What `deno task check` runs for changed files. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { run } from "../../../ffi/build/command.ts";
import { CONTRACTS, nearestTests } from "./main.ts";

const root = new URL("../../../", import.meta.url);
const read = (path: string) => Deno.readTextFile(new URL(path, root));
const listed = await run("git", ["ls-files", "-z"], { cwd: root });
const tree = listed.stdout.split("\0").filter((path) =>
  path !== "" && !path.startsWith("experiments/tools/digest")
);

Deno.test("contracts that check runs are there", async () => {
  for (const [, ...tests] of CONTRACTS) for (const test of tests) await Deno.stat(new URL(test, root));
});

Deno.test("a new rule runs the contract of methods first, then its own test and those that name it", async () => {
  const files = new Map([
    ["lib/methods/rules/harmonic_test.ts", 'import { harmonic } from "./harmonic.ts";'],
    ["lib/methods/rules/rules_test.ts", 'import { harmonic } from "../rules/harmonic.ts";'],
    ["lib/methods/rules/other_test.ts", 'import { other } from "./other.ts";'],
  ]);
  const { tests, left } = await nearestTests(
    ["lib/methods/rules/harmonic.ts"],
    ["lib/methods/rules/harmonic.ts", ...files.keys()],
    (path) => Promise.resolve(files.get(path)!),
  );
  assertEquals(tests[0], "lib/methods/contract_test.ts");
  assertEquals(tests.slice(-2), [...files.keys()].slice(0, 2));
  assertEquals(left, []);
});

Deno.test("a kernel runs the tests of its op; tests beyond the limit are named", async () => {
  const { tests } = await nearestTests(["kernels/rope/rope.cpp"], tree, read);
  assert(tests.includes("kernels/rope/rope_test.ts"), `${tests}`);
  const wide = await nearestTests(["lib/errors.ts"], tree, read);
  assert(wide.left.length > 0 && wide.left.every((test) => !wide.tests.includes(test)));
});

Deno.test("check fails where a check does, and never counts what it has not run", async () => {
  const check = (...args: string[]) =>
    run(Deno.execPath(), ["run", "-A", new URL("main.ts", import.meta.url).pathname, ...args], { cwd: root });
  const { code, stderr } = await check("lib/none.ts");
  assertEquals([code, stderr], [
    2,
    'Cannot check "lib/none.ts": found no such file in the checkout, expected files or folders\n',
  ]);
  const path = new URL("unformatted.js", import.meta.url);
  await Deno.writeTextFile(path, "var  one = 1\n");
  try {
    const { code, stdout } = await check("experiments/tools/check/unformatted.js");
    assertEquals(code, 1, stdout);
    assertMatch(stdout, /^FAILED +\d+\.\d s {2}format$/m);
    assertStringIncludes(stdout, "failed; deno task ok runs all checks and tests\n");
  } finally {
    await Deno.remove(path);
  }
});
