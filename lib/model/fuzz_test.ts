import { assert } from "@std/assert";
import { fuzz, KINDS } from "./fuzz_testing.ts";

for (const kind of Object.keys(KINDS)) {
  Deno.test(`broken files load or are refused with their place, in little time and memory: ${kind}`, () => {
    const { files, refused } = fuzz(kind, 200, 1);
    assert(refused > files / 10 && refused < files, `${refused} of ${files} refused`);
  });
}
