/** What `deno task check` runs for changed files. */
import { assert, assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { run } from "../../../ffi/build/command.ts";
import { UsageError } from "../../../lib/errors.ts";
import { withFolder } from "../../commands/testing.ts";
import { command, CONTRACTS, nearestTests, runChecks } from "./main.ts";

const root = new URL("../../../", import.meta.url);
const read = (path: string) => Deno.readTextFile(new URL(path, root));
const listed = await run("git", ["ls-files", "-z"], { cwd: root });
const tree = listed.stdout.split("\0").filter((path) => path !== "");

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

Deno.test("a check that fails is counted, with its output", () =>
  withFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/unformatted.js`, "var  one = 1\n");
    const lines: string[] = [];
    const failed = await runChecks([
      ["format", "fmt", "--check", `${folder}/unformatted.js`],
      ["version", "--version"],
    ], (line) => lines.push(line));
    assertEquals([failed, lines.length], [1, 3]);
    assertMatch(lines[0]!, /^FAILED +\d+\.\d s {2}format$/);
    assertStringIncludes(lines[1]!, "unformatted.js");
    assertMatch(lines[2]!, /^passed +\d+\.\d s {2}version$/);
  }));

Deno.test("check refuses what is no file of the checkout, in one line", async () => {
  await assertRejects(
    () => command.main(["lib/none.ts"]),
    UsageError,
    'Cannot check "lib/none.ts": found no such file',
  );
});
