/** `deno task coverage`: reading reports, and judging folders. The measurement itself runs all fast tests. */
import { assertEquals, assertMatch } from "@std/assert";
import { run } from "../../ffi/build/command.ts";
import { readStdFlags } from "../commands/cli/machine/deno.ts";
import { runTask, withFolder } from "../commands/testing.ts";
import { CHILDREN, readLcov, tabulate } from "./coverage.ts";

const REPORT = `SF:/root/lib/a.ts
FN:1,f
DA:1,3
DA:2,0
DA:5,1
DA:6,1
LH:3
LF:4
end_of_record
SF:/root/ffi/b.ts
DA:1,0
DA:9,12
end_of_record
SF:/root/ffi/types.ts
end_of_record
`;

Deno.test("coverage counts lines that ran, by file and folder, and names what is below the limit", () => {
  const files = readLcov(REPORT, "/root/");
  assertEquals(files, [{ path: "lib/a.ts", lines: 4, ran: 3 }, { path: "ffi/b.ts", lines: 2, ran: 1 }]);
  const { table, below } = tabulate(files, ["lib", "ffi"], 75);
  assertEquals(below, ["ffi"]);
  assertEquals(table.split("\n").slice(2), [
    "| `lib` | 4 | 75.0 |",
    "| `ffi` | 2 | 50.0 |",
    "| `ffi/b.ts` | 2 | 50.0 |",
  ]);
  assertEquals(tabulate(files, ["lib", "ffi"], 50).below, []);
  assertEquals(tabulate([], ["lib"], 0).below, ["lib"]); // nothing was measured
});

Deno.test("coverage refuses a limit that is no percentage", async () => {
  const { code, stderr } = await runTask("coverage", "--least", "101");
  assertEquals(code, 2);
  assertMatch(stderr, /^Cannot use --least 101: expected an integer from 0 to 100\n$/);
});

Deno.test("coverage counts the lines that code of a test's child process runs", () =>
  withFolder(async (folder) => {
    const root = new URL("../../", import.meta.url), test = `${folder}/child_test.ts`, raw = `${folder}/raw`;
    await Deno.writeTextFile(
      test,
      `import { inChild } from "${root}kernels/testing/child.ts";
Deno.test("child", async () => {
  const found = await inChild({ SET: "1" }, \`const { plural } = await load("lib/plural.ts"); return plural(2, Deno.env.get("SET"));\`);
  if (found !== "2 1s") throw new Error(found);
});`,
    );
    const preloads = ["--preload=.std/strict_assert.ts", `--preload=${CHILDREN}`];
    const flags = ["-A", "--no-check", ...preloads, `--coverage=${raw}`, "--coverage-raw-data-only"];
    const tested = await run(Deno.execPath(), ["test", ...flags, ...await readStdFlags(), test], {
      cwd: root,
      env: { DENO_COVERAGE_DIR: raw },
    });
    assertEquals(tested.success, true, tested.stdout + tested.stderr);
    const { stdout } = await run(Deno.execPath(), ["coverage", "--lcov", `--include=^${root}lib/`, raw]);
    assertEquals(readLcov(stdout, root.pathname).map(({ path, ran }) => [path, ran > 0]), [
      ["lib/plural.ts", true],
    ]);
  }));
