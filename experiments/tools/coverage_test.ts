/** `deno task coverage`: reading reports, and judging folders. The measurement itself runs all fast tests. */
import { assertEquals, assertMatch } from "@std/assert";
import { runTask } from "../commands/testing.ts";
import { readLcov, tabulate } from "./coverage.ts";

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
