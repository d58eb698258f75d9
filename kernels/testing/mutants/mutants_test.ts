import { assert, assertThrows } from "@std/assert";
import { readEmulated } from "../../../ffi/build/emulated_testing.ts";
import { MUTANTS } from "./cases.ts";
import { mutate } from "./run.ts";

Deno.test("MUTANTS fit the sources as they are, and their tests exist", async () => {
  assert(MUTANTS.length >= 6);
  const { texts: sources } = await readEmulated();
  for (const mutant of MUTANTS) {
    const broken = new Map(sources);
    mutate(broken, mutant);
    assert(broken.get(mutant.file) !== sources.get(mutant.file), mutant.name);
    assert((await Deno.stat(new URL(`../../${mutant.test}`, import.meta.url))).isFile, mutant.test);
  }
});

Deno.test("mutate() refuses a text that is not there", async () => {
  const { texts: sources } = await readEmulated();
  const mutant = { ...MUTANTS[0]!, from: "no such text" };
  assertThrows(() => mutate(sources, mutant), RangeError, "found the text 0 times, expected once");
});
