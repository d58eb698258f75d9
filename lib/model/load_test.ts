import { assertEquals, assertRejects, assertStrictEquals } from "@std/assert";
import { ModelFormatError } from "../errors.ts";
import { ReferenceBackend } from "../reference/mod.ts";
import { loadModel } from "./load.ts";
import { buildGguf } from "./testdata/gguf_builder.ts";
import { smallLlamaParts } from "./testdata/small_llama.ts";

const backend = new ReferenceBackend();

async function withFile(bytes: Uint8Array, test: (path: string) => Promise<void>): Promise<void> {
  const path = await Deno.makeTempFile({ suffix: ".gguf" });
  try {
    await Deno.writeFile(path, bytes);
    await test(path);
  } finally {
    await Deno.remove(path);
  }
}

Deno.test("loadModel() loads tiny", async () => {
  const { name, sha256, config, tokenizer, model } = await loadModel("tiny", backend);
  assertEquals([name, sha256.slice(0, 8)], ["tiny", "5caf80a8"]);
  assertEquals([config.numLayers, tokenizer.vocabSize], [10, 4096]);
  assertStrictEquals(model.config, config);
  assertStrictEquals(model.backend, backend);
  const hidden = model.start().feed(tokenizer.encode("It was"));
  assertEquals(model.logits(hidden).shape, [3, 4096]);
});

Deno.test("loadModel() loads a file by its path", async () => {
  await withFile(buildGguf(smallLlamaParts()), async (path) => {
    const { name, config, tokenizer, model } = await loadModel(path, backend);
    assertEquals(`${name}.gguf`, path.split("/").at(-1));
    const hidden = model.start().feed(tokenizer.encode("ab ab"));
    assertEquals(model.logits(hidden).shape, [5, config.vocabSize]);
  });
});

Deno.test("loadModel() names the file that it cannot read", async () => {
  await withFile(buildGguf(smallLlamaParts({}, { "output_norm.weight": undefined })), async (path) => {
    const error = await assertRejects(() => loadModel(path, backend), ModelFormatError, "output_norm.weight");
    assertEquals(error.file, path);
  });
  await withFile(new TextEncoder().encode("no model"), async (path) => {
    await assertRejects(() => loadModel(path, backend), ModelFormatError, "pass a GGUF file");
  });
});
