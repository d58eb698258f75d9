/** The CPU library's models of every architecture against Hugging Face transformers, and filtered as the reference's. */
import { buildCpu } from "../build.ts";
import { assertCheckpoint } from "../lib/model/checkpoint_golden_testing.ts";
import {
  assertSame,
  decodeFiltered,
  ONE_OF_EACH,
  openCheckpoint,
  runFiltered,
} from "../lib/model/checkpoint_methods_testing.ts";
import { NAMES } from "../lib/model/testdata/checkpoints.ts";
import { ReferenceBackend } from "../lib/reference/mod.ts";
import { openCpu } from "./mod.ts";

await buildCpu();
const backend = await openCpu({ threads: 1 });

Deno.test("the CPU library has transformers' logits of every architecture, in pieces too", () => {
  for (const name of NAMES) {
    const model = openCheckpoint(name, backend);
    for (const piece of [undefined, 11, 1]) assertCheckpoint(name, model, piece);
  }
});

Deno.test("the CPU library filters every architecture as the reference does, in a batch too", () => {
  for (const name of ONE_OF_EACH) {
    const model = openCheckpoint(name, backend);
    const expected = runFiltered(openCheckpoint(name, new ReferenceBackend()), "variance");
    assertSame(runFiltered(model, "variance"), expected, name);
    assertSame(decodeFiltered(model, "variance"), expected, `${name}, batch`);
  }
});
