/** Broken files of models. */
import { assert } from "@std/assert";
import { fuzz, KINDS } from "./fuzz_testing.ts";

const kinds = Object.keys(KINDS);

for (const kind of kinds) {
  Deno.test(`broken files load or are refused with their place, in little time and memory: ${kind}`, async () => {
    const { files, refused } = await fuzz(kind, Math.ceil(1200 / kinds.length), 1);
    assert(refused > files / 10 && refused < files, `${refused} of ${files} refused`);
  });
}
