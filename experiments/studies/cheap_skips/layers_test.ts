import { assert, assertEquals } from "@std/assert";
import { loadModel, Model } from "../../../lib/model/mod.ts";
import { ReferenceBackend } from "../../../lib/reference/mod.ts";
import { measureLayers } from "./layers.ts";

Deno.test("a layer that loses its far keys diverges, one whose keys are all near does not", async () => {
  const backend = new ReferenceBackend(), tiny = (await loadModel("tiny", backend)).model;
  const config = { ...tiny.config, numLayers: 3 }, model = new Model(config, tiny.weights, backend);
  const ids = Int32Array.from({ length: 40 }, (_, i) => 5 + (i * 37) % 200),
    measured = { model, config, backend };
  const found = await measureLayers(measured, ids, { recent: 4, warmup: 4 });
  assertEquals(found.length, config.numLayers);
  assert(found.every((kl) => kl > 0), `${found}`);
  assertEquals(await measureLayers(measured, ids, { recent: 40, warmup: 4 }), found.map(() => 0));
});
