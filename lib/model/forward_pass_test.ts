/** What a forward pass says of the rows that it multiplies; {@linkcode CheckedReference} holds it to that in every test. */
import { assertEquals } from "@std/assert";
import { Model } from "./model.ts";
import { CheckedReference, CONFIG, filtering, ids, weights } from "./small_testing.ts";

Deno.test("products of the rows of the one before say so: values, all queries, and the MLP's second matrix", () => {
  const backend = new CheckedReference(), model = new Model(CONFIG, weights, backend), { numLayers } = CONFIG;
  const since = (work: () => void) => {
    const before = backend.same;
    work();
    return backend.same - before;
  };
  assertEquals(since(() => model.start().feed(ids(40))), 3 * numLayers);
  // Rows that are kept are copies, but where that is all of them.
  assertEquals(
    since(() => model.start(filtering({ pruneRatio: 0.5, recent: 0 })).feed(ids(40))),
    2 * numLayers,
  );
  assertEquals(since(() => model.start(filtering({ pruneRatio: 0.5 })).feed(ids(8))), 3 * numLayers);
  const queries = filtering({
    fusion: "learned",
    features: ["similarity", "norm", "query"],
    pruneRatio: 0.5,
  });
  assertEquals(since(() => model.start(queries).feed(ids(40))), 3 * numLayers);
  assertEquals(
    since(() => model.startBatch(undefined, { batch: 2, capacity: 8 }).step(ids(2))),
    3 * numLayers,
  );
});
