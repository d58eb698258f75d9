import { assertEquals } from "@std/assert";
import { coverageLines, mergeCoverage, plainName, reachedOf } from "./coverage.ts";

Deno.test("coverage of several processes is one row a kernel, and names what nothing launched", () => {
  assertEquals(plainName("_ZN3tkf9attention13decode_kernelIfLi64ELi1EEEvNS0_9DecodeJobE"), "decode_kernel");
  const first = "sm_80 _ZN3tkf3one 2 1000000 +--\nsm_80 _ZN3tkf3twoIfE 0 0 \nsm_80 _ZN3tkf3twoIdE 1 0 --\n";
  const all = mergeCoverage([first, "sm_80 _ZN3tkf3one 1 500000 -+-\n"]);
  assertEquals(coverageLines("sm_80", all.get("sm_80")!).slice(2), [
    "| one | 1 of 1 | 3 | 1.5 | 66.7% |",
    "| two | 1 of 2 | 1 | 0.0 | 0.0% |",
    "| all | 2 of 3 | 4 | 1.5 | 40.0% |",
    "not launched: _ZN3tkf3twoIfE",
  ]);
  assertEquals(reachedOf(all.get("sm_80")!), [100 * 2 / 3, 40]);
});
