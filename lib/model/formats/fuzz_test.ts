/** `TOKENFILTER_FUZZ=200000,1` reads so many broken files in all, by that seed, and prints what they came to. */
import { assert } from "@std/assert";
import { fuzz, KINDS } from "./fuzz_testing.ts";

const asked = Deno.env.get("TOKENFILTER_FUZZ"),
  [total = 1200, seed = 1] = asked?.split(",").map(Number) ?? [];
const kinds = Object.keys(KINDS);

for (const kind of kinds) {
  Deno.test(`broken files load or are refused with their place, in little time and memory: ${kind}`, () => {
    const outcome = fuzz(kind, Math.ceil(total / kinds.length), seed), { files, refused } = outcome;
    assert(refused > files / 10 && refused < files, `${refused} of ${files} refused`);
    if (asked !== undefined) console.log(JSON.stringify({ kind, seed, ...outcome }));
  });
}
