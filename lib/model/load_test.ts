import { assertEquals, assertRejects, assertStrictEquals, assertThrows } from "@std/assert";
import { assertCheckpoint } from "./checkpoint_golden_testing.ts";
import { writeSafetensors } from "./formats/safetensors.ts";
import { CHECKPOINTS, hfFolder } from "./testdata/checkpoints.ts";
import { ModelFormatError, UsageError } from "../errors.ts";
import { ReferenceBackend } from "../reference/mod.ts";
import { NEEDS_LINUX, unless } from "../testing.ts";
import type { ModelProgress } from "./hub/hub.ts";
import { loadModel, readModelFile } from "./load.ts";
import chats from "./tokenizer/testdata/chat_golden.json" with { type: "json" };
import { buildGguf, type Entry } from "./testdata/gguf_builder.ts";
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

Deno.test("loadModel() turns matrices into a type, and says so", async () => {
  const { dtype, model, weights } = await loadModel("tiny", backend, { dtype: "q4_0" });
  assertEquals(
    [dtype, model.weights.embedding.dtype, model.weights.layers[9]!.down.dtype],
    Array(3).fill("q4_0"),
  );
  const matrices = 4096 * 192 + 10 * (2 * 192 * 192 + 2 * 96 * 192 + 3 * 192 * 512);
  assertEquals(weights.bytes, matrices / 32 * 18 + 21 * 192 * 4);
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

const encoder = new TextEncoder();
const tokenizerJson = {
  added_tokens: [],
  normalizer: null,
  post_processor: null,
  decoder: { type: "ByteLevel" },
  pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, use_regex: false },
  model: { type: "BPE", vocab: { a: 0, b: 1, ab: 2 }, merges: [["a", "b"]] },
};

/** A checkpoint's files: its tensors in two, which an index names. @param changes by name; undefined leaves one out */
async function withFolder(
  changes: { readonly [name: string]: string | Uint8Array | undefined },
  test: (path: string) => Promise<void>,
): Promise<void> {
  const tensors = [...hfFolder("mistral").tensors], halves = [tensors.slice(0, 9), tensors.slice(9)];
  const names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
  const map = halves.flatMap((half, i) => half.map(([name]) => [name, names[i]!]));
  const files = {
    "config.json": JSON.stringify(CHECKPOINTS.mistral.config),
    "model.safetensors.index.json": JSON.stringify({ metadata: {}, weight_map: Object.fromEntries(map) }),
    "tokenizer.json": JSON.stringify(tokenizerJson),
    ...Object.fromEntries(halves.map((half, i) => [names[i]!, writeSafetensors(new Map(half))])),
    ...changes,
  };
  const path = await Deno.makeTempDir();
  try {
    for (const [name, content] of Object.entries(files)) {
      if (content === undefined) continue;
      await Deno.writeFile(
        `${path}/${name}`,
        typeof content === "string" ? encoder.encode(content) : content,
      );
    }
    await test(path);
  } finally {
    await Deno.remove(path, { recursive: true });
  }
}

Deno.test("loadModel() loads a folder as transformers saves it, in one file or several", async () => {
  const digests = new Set<string>();
  const settings = {
    "tokenizer_config.json": JSON.stringify({ eos_token: "b" }),
    "generation_config.json": JSON.stringify({ eos_token_id: 2 }),
    "chat_template.jinja": "{{ 1 }}",
  };
  await withFolder(settings, async (path) => {
    const seen: string[] = [];
    const loaded: number[] = [];
    const onProgress = ({ stage, source, doneBytes, totalBytes }: ModelProgress) =>
      void (stage === "load" ? loaded.push(doneBytes / totalBytes) : seen.push(source.split("/").at(-1)!));
    const { name, sha256, tokenizer, model } = await loadModel(`${path}/`, backend, { onProgress });
    assertEquals(name, path.split("/").at(-1));
    assertEquals([...tokenizer.encode("abba")], [2, 1, 0]);
    assertEquals([tokenizer.eosId, [...tokenizer.endIds], tokenizer.chatTemplate], [1, [1, 2], "{{ 1 }}"]);
    assertEquals(new Set(seen).size, 2);
    assertEquals([loaded, loaded.at(-1), loaded.length], [
      loaded.toSorted(),
      1,
      hfFolder("mistral").tensors.size,
    ]);
    assertCheckpoint("mistral", model);
    digests.add(sha256);
  });
  const all = {
    "model.safetensors": writeSafetensors(hfFolder("mistral").tensors),
    "model.safetensors.index.json": undefined,
  };
  await withFolder(all, async (path) => {
    const { sha256, model } = await loadModel(path, backend);
    assertCheckpoint("mistral", model);
    digests.add(sha256);
  });
  await withFolder({
    ...all,
    "config.json": JSON.stringify({ ...CHECKPOINTS.mistral.config, sliding_window: 9 }),
  }, async (path) => {
    digests.add((await loadModel(path, backend)).sha256);
  });
  assertEquals([...digests].map((digest) => digest.length), [64, 64, 64]);
});

Deno.test("loadModel() names the file of a folder that is missing or broken, and the key or tensor", async () => {
  const index = (map: unknown) => ({ "model.safetensors.index.json": JSON.stringify({ weight_map: map }) });
  const first = "model-00001-of-00002.safetensors", lost = "model.layers.0.input_layernorm.weight";
  const cases: [Record<string, string | Uint8Array | undefined>, string, string][] = [
    [{ "config.json": undefined }, "", "found no config.json"],
    [{ "config.json": "{" }, "config.json", "found no JSON text"],
    [{ "config.json": "[]" }, "config.json", "found no JSON object"],
    [{ "tokenizer.json": undefined }, "", "found no tokenizer.json, tokenizer.model or tekken.json"],
    [
      { "tokenizer.json": undefined, "tokenizer.model": Uint8Array.fromBase64(chats.models[0]!.model) },
      "",
      "found 540 tokens, expected at most the",
    ],
    [
      { "tokenizer.json": undefined, "tokenizer.model": "?" },
      "tokenizer.model",
      "found no SentencePiece model",
    ],
    [{ "tokenizer_config.json": "[]" }, "tokenizer_config.json", "found no JSON object"],
    [{ [first]: undefined }, first, "found no such file"],
    [index(undefined), "model.safetensors.index.json", '"weight_map": found no object'],
    [{ "model.safetensors.index.json": "x" }, "model.safetensors.index.json", "found no JSON text"],
    [index({ a: "../x.safetensors" }), "model.safetensors.index.json", 'found "../x.safetensors"'],
    [index({ a: 1 }), "model.safetensors.index.json", '"weight_map": found 1'],
    // The file has tensors that the index does not place there.
    [index({ [lost]: first }), first, 'found tensor "'],
    [
      index(Object.fromEntries(Array.from({ length: 1025 }, (_, i) => [`${i}`, `${i}.safetensors`]))),
      "model.safetensors.index.json",
      "found 1025 files, expected at most 1024",
    ],
    [
      { "config.json": JSON.stringify({ ...CHECKPOINTS.mistral.config, vocab_size: 2 }) },
      "",
      "found 3 tokens, expected at most the 2",
    ],
  ];
  for (const [changes, file, message] of cases) {
    await withFolder(changes, async (path) => {
      const error = await assertRejects(() => loadModel(path, backend), ModelFormatError, message);
      assertEquals(error.file, file === "" ? path : `${path}/${file}`);
    });
  }
  const map = Object.fromEntries(
    [...hfFolder("mistral").tensors.keys()].slice(0, 9).map((name) => [name, first]),
  );
  await withFolder(index({ ...map, "more.weight": first }), async (path) => {
    await assertRejects(() => loadModel(path, backend), ModelFormatError, 'found no tensor "more.weight"');
  });
});

Deno.test("loadModel() gives ids that only pad a folder's tables no text", async () => {
  await withFolder({}, async (path) => {
    const { tokenizer, config } = await loadModel(path, backend);
    assertEquals([tokenizer.vocabSize, config.vocabSize], [3, 48]);
    assertEquals([tokenizer.decode([2, 47, 0]), tokenizer.piece(3)], ["aba", ""]);
    assertEquals(tokenizer.texts([1, 40]), ["b", ""]);
    assertThrows(() => tokenizer.decode([48]), RangeError, "expected an id from 0 to 47");
  });
});

/** A small model in two parts; `changes` gives entries of the second one instead of its own. */
async function withParts(
  changes: Parameters<typeof smallLlamaParts>[0],
  test: (first: string, whole: Uint8Array<ArrayBuffer>) => Promise<void>,
): Promise<void> {
  const { entries, tensors } = smallLlamaParts(), folder = await Deno.makeTempDir();
  const split = (no: number): Entry[] => [["split.no", "uint16", no], ["split.count", "uint16", 2]];
  const all: Entry = ["split.tensors.count", "int32", tensors!.length];
  const second = [
    ...new Map([...split(1), ...Object.values(changes!) as Entry[]].map((e) => [e[0], e])).values(),
  ];
  try {
    const first = `${folder}/small-00001-of-00002.gguf`;
    await Deno.writeFile(
      first,
      buildGguf({ entries: [...entries!, ...split(0), all], tensors: tensors!.slice(0, 4) }),
    );
    await Deno.writeFile(
      `${folder}/small-00002-of-00002.gguf`,
      buildGguf({ entries: second, tensors: tensors!.slice(4) }),
    );
    await test(first, buildGguf({ entries, tensors }));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("loadModel() joins a GGUF model of several parts", async () => {
  await withParts({}, async (first, whole) => {
    const logits = async (path: string) => {
      const { name, model, sha256 } = await loadModel(path, backend);
      return { name, sha256, logits: model.logits(model.start().feed(Int32Array.of(1, 5, 9))) };
    };
    const parts = await logits(first);
    assertEquals([parts.name, parts.sha256.length], ["small", 64]);
    await withFile(whole, async (path) => assertEquals((await logits(path)).logits, parts.logits));
    const second = first.replace("00001-of", "00002-of");
    await assertRejects(() => loadModel(second, backend), ModelFormatError, `expected the first: "${first}"`);
    await Deno.rename(second, `${second}.away`);
    await assertRejects(() => loadModel(first, backend), UsageError, "found no such file");
    await Deno.copyFile(first, second);
    await assertRejects(() => loadModel(first, backend), ModelFormatError, '"split.no": found 0, expected 1');
    const tensors = smallLlamaParts().tensors!, { length } = tensors;
    const entries: Entry[] = [["split.no", "uint16", 1], ["split.count", "uint16", 2]];
    await Deno.writeFile(second, buildGguf({ entries, tensors: tensors.slice(5) }));
    await assertRejects(
      () => loadModel(first, backend),
      ModelFormatError,
      `"split.tensors.count": found ${length}, expected ${length - 1} as the parts have`,
    );
    await withFile(await Deno.readFile(first), async (path) => {
      await assertRejects(
        () => loadModel(path, backend),
        ModelFormatError,
        '"split.count": found 2, expected 1',
      );
    });
  });
  await withParts({ "split.count": ["split.count", "uint16", 3] }, async (first) => {
    await assertRejects(
      () => loadModel(first, backend),
      ModelFormatError,
      '"split.count": found 3, expected 2',
    );
  });
});

Deno.test("readModelFile() refuses a file that has changed before its weights are read", async () => {
  await withFile(buildGguf(smallLlamaParts()), async (path) => {
    const file = await readModelFile(path);
    await Deno.writeFile(path, new Uint8Array(10_000));
    assertThrows(() => file.open(backend), ModelFormatError, "found another file than before");
  });
});

Deno.test("readModelFile() refuses a file that has changed between its digest and its mapping", async () => {
  await withFile(buildGguf(smallLlamaParts()), async (path) => {
    const mapFile = (path: string) => {
      Deno.writeFileSync(path, new Uint8Array(10_000));
      return Deno.readFileSync(path);
    };
    await assertRejects(
      () => readModelFile(path, { mapFile }),
      ModelFormatError,
      "found another file than before",
    );
    await Deno.writeFile(path, buildGguf(smallLlamaParts()));
    const mapped = await readModelFile(path, { mapFile: (path) => Deno.readFileSync(path) });
    assertEquals(mapped.sha256, (await readModelFile(path)).sha256);
  });
});

Deno.test("readModelFile() notices a mapped file that was written to or cut short, and not one that was replaced", async () => {
  const content = buildGguf(smallLlamaParts()), mapFile = (path: string) => Deno.readFileSync(path);
  await withFile(content, async (path) => {
    assertEquals((await readModelFile(path)).expectUnchanged, undefined);
    assertEquals((await readModelFile(path, { mapFile, dtype: "f16" })).expectUnchanged, undefined);
    const replaced = (await readModelFile(path, { mapFile })).expectUnchanged!;
    replaced();
    await Deno.writeFile(`${path}.new`, content.toReversed());
    await Deno.rename(`${path}.new`, path);
    replaced();
    await Deno.writeFile(path, content);
    for (const change of [() => Deno.truncate(path, 100), () => Deno.utime(path, 1, 1)]) {
      const changed = (await readModelFile(path, { mapFile })).expectUnchanged!;
      changed();
      await change();
      assertThrows(changed, ModelFormatError, "found another file than before");
      await Deno.writeFile(path, content);
    }
  });
});

Deno.test("loadModel() refuses a model whose logits are not finite", async () => {
  const tensors = hfFolder("mistral").tensors, norm = tensors.get("model.norm.weight")!;
  const broken = new Map(tensors).set("model.norm.weight", { ...norm, data: norm.data.slice().fill(NaN) });
  const changes = {
    "model.safetensors": writeSafetensors(broken),
    "model.safetensors.index.json": undefined,
  };
  await withFolder(changes, async (path) => {
    await assertRejects(() => loadModel(path, backend), UsageError, "found a logit of NaN after token 0");
  });
});

Deno.test({
  ...unless(
    NEEDS_LINUX,
    "readModelFile() waits for no pipe and reads no device, whichever file of a folder is one",
  ),
  async fn() {
    const names = [
      ...[
        "config.json",
        "model.safetensors.index.json",
        "model-00001-of-00002.safetensors",
        "tokenizer.json",
      ],
      ...["tokenizer_config.json", "generation_config.json", "added_tokens.json", "chat_template.jinja"],
      ...["tokenizer.model", "tekken.json"],
    ];
    for (const name of names) {
      const lacking = { "tokenizer.model": ["tokenizer.json"], "tekken.json": ["tokenizer.json"] }[name] ??
        [];
      const changes = Object.fromEntries([...lacking, name].map((lost) => [lost, undefined]));
      await withFolder(changes, async (path) => {
        const refused = () =>
          assertRejects(
            () => readModelFile(path),
            UsageError,
            `${name}": found a pipe or a device, expected a file`,
          );
        assertEquals((await new Deno.Command("mkfifo", { args: [`${path}/${name}`] }).output()).code, 0);
        await refused();
        await Deno.remove(`${path}/${name}`);
        await Deno.symlink("/dev/zero", `${path}/${name}`);
        await refused();
      });
    }
  },
});
