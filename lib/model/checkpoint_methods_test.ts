/** Every method on the reference's models of every architecture, and the batch decoder. */
import { assert } from "@std/assert";
import { METHOD_NAMES } from "../methods/mod.ts";
import { ReferenceBackend } from "../reference/mod.ts";
import {
  assertSame,
  decodeFiltered,
  decodesInBatch,
  ONE_OF_EACH,
  openCheckpoint,
  runFiltered,
} from "./checkpoint_methods_testing.ts";

for (const name of ONE_OF_EACH) {
  Deno.test(`${name}: methods skip as they are to, and a batch decodes as a sequence does`, () => {
    const model = openCheckpoint(name, new ReferenceBackend());
    // Gemma departs from Llama in all that a method could notice; the others take one of each kind.
    const methods = name === "gemma3" ? METHOD_NAMES : ["learned", "oracle"] as const;
    let batches = 0;
    for (const method of methods) {
      const alone = runFiltered(model, method), inBatch = decodesInBatch(model, method);
      assertSame(inBatch ? decodeFiltered(model, method) : alone, alone, method);
      if (inBatch) batches++;
    }
    assert(batches > 0);
  });
}
