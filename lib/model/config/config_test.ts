import { assert, assertEquals, assertThrows } from "@std/assert";
import { ModelFormatError } from "../../errors.ts";
import { ARCHITECTURES } from "../architectures/mod.ts";
import { readModelConfig } from "./read_config.ts";
import { parseGguf } from "../formats/gguf.ts";
import { buildGguf, type Entry } from "../testdata/gguf_builder.ts";
import { f32Tensor, SMALL_VOCAB_SIZE, smallLlamaParts } from "../testdata/small_llama.ts";

const configOf = (parts: Parameters<typeof buildGguf>[0]) =>
  readModelConfig(parseGguf(buildGguf(parts), "m.gguf"));
const withEntry = (...entry: Entry) => smallLlamaParts({ [entry[0]]: entry as Entry });

function expectRefusal(parts: Parameters<typeof buildGguf>[0], ...messages: string[]): void {
  const error = assertThrows(() => configOf(parts), ModelFormatError);
  for (const message of messages) {
    assert(error.message.includes(message), `${error.message} lacks ${message}`);
  }
}

Deno.test("readModelConfig() reads a model's sizes", () => {
  assertEquals(configOf(smallLlamaParts()), {
    architecture: "llama",
    numLayers: 1,
    numHeads: 2,
    numKvHeads: 1,
    headDim: 4,
    hiddenSize: 8,
    intermediateSize: 16,
    vocabSize: SMALL_VOCAB_SIZE,
    rope: { theta: 5000 },
    rmsNormEps: 2 ** -16,
    contextLength: 64,
    tieWordEmbeddings: true,
  });
});

Deno.test("readModelConfig() knows the defaults of keys that may be missing", () => {
  const config = configOf(smallLlamaParts({
    "llama.attention.head_count_kv": undefined,
    "llama.rope.dimension_count": undefined,
    "llama.rope.freq_base": undefined,
    "llama.vocab_size": undefined,
  }, { "output.weight": f32Tensor("output.weight", [8, SMALL_VOCAB_SIZE]) }));
  assertEquals([config.numKvHeads, config.headDim, config.rope], [2, 4, { theta: 10_000 }]);
  assertEquals([config.vocabSize, config.tieWordEmbeddings], [SMALL_VOCAB_SIZE, false]);
});

Deno.test("readModelConfig() takes the head size from key_length where it is said", () => {
  const config = configOf(smallLlamaParts({
    "llama.attention.key_length": ["llama.attention.key_length", "uint32", 6],
    "llama.attention.value_length": ["llama.attention.value_length", "uint32", 6],
    "llama.rope.dimension_count": ["llama.rope.dimension_count", "uint32", 6],
  }));
  assertEquals(config.headDim, 6);
});

Deno.test("readModelConfig() reads tiny", async () => {
  const file = new URL("../tiny/tiny-llama-4.8m.Q8_0.gguf", import.meta.url);
  const config = readModelConfig(parseGguf(await Deno.readFile(file), "tiny"));
  assertEquals(
    [config.numLayers, config.numHeads, config.numKvHeads, config.headDim, config.hiddenSize],
    [10, 6, 3, 32, 192],
  );
  assertEquals([config.intermediateSize, config.vocabSize, config.contextLength], [512, 4096, 512]);
});

Deno.test("readModelConfig() refuses other architectures", () => {
  const names = ARCHITECTURES.flatMap(({ gguf }) => gguf === undefined ? [] : [`"${gguf.name}"`]).join(", ");
  assert(names.startsWith('"llama", ') && names.includes('"qwen3"'), names);
  expectRefusal(
    withEntry("general.architecture", "string", "bert"),
    `"general.architecture": found "bert", expected one that runs here: ${names}`,
  );
  expectRefusal(withEntry("general.type", "string", "adapter"), '"general.type": found "adapter"');
});

Deno.test("readModelConfig() refuses keys that would change the result, and names them", () => {
  const cases: Entry[] = [
    ["llama.rope.scaling.type", "string", "longrope"],
    ["llama.rope.scaling.yarn_log_multiplier", "float32", 0.1],
    ["llama.expert_count", "uint32", 8],
    ["llama.attention.sliding_window", "uint32", 4096],
    ["llama.logit_scale", "float32", 0.5],
    ["llama.attention.causal", "bool", false],
    ["llama.attention.clamp_kqv", "float32", 8],
    ["llama.something_new", "uint8", 0],
    ["split.count", "uint16", 2],
  ];
  for (const entry of cases) expectRefusal(withEntry(...entry), `"${entry[0]}": found`);
});

Deno.test("readModelConfig() takes the same keys at values that change nothing", () => {
  const cases: Entry[] = [
    ["llama.rope.scaling.type", "string", "none"],
    ["llama.rope.scaling.factor", "float32", 1],
    ["llama.expert_count", "uint32", 0],
    ["llama.attention.sliding_window", "uint64", 0n],
    ["llama.logit_scale", "float32", 1],
    ["general.type", "string", "model"],
    ["quantize.imatrix.file", "string", "x"],
  ];
  for (const entry of cases) assertEquals(configOf(withEntry(...entry)).numLayers, 1);
});

Deno.test("readModelConfig() refuses sizes that do not fit together, and names the key", () => {
  const cases: [Entry, string][] = [
    [["llama.block_count", "uint32", 0], "found 0, expected 1 to"],
    [["llama.embedding_length", "uint32", 0xffffffff], "found 4294967295"],
    [["llama.attention.head_count", "uint32", 3], "expected a divisor of embedding_length 8"],
    [["llama.attention.head_count", "uint32", 8], "found heads of 1, expected an even size"],
    [["llama.attention.head_count", ["uint32"], [2]], "found a list of uint32, expected an integer"],
    [["llama.attention.head_count_kv", "uint32", 4], "expected a divisor of the 2 heads"],
    [["llama.attention.value_length", "uint32", 8], "found 8, expected the head size 4"],
    [["llama.rope.dimension_count", "uint32", 3], "found 3, expected an even part of the head size 4"],
    [["llama.rope.dimension_count", "uint32", 6], "found 6, expected an even part of the head size 4"],
    [["llama.rope.freq_base", "float32", 0], "found 0, expected a positive number"],
    [["llama.attention.layer_norm_rms_epsilon", "float32", -1], "expected a positive number"],
    [["llama.vocab_size", "uint32", 100], "of tokenizer.ggml.tokens"],
    [["llama.context_length", "string", "long"], "found string, expected an integer"],
  ];
  for (const [entry, message] of cases) expectRefusal(withEntry(...entry), `"${entry[0]}"`, message);
});

Deno.test("readModelConfig() names a key that is missing", () => {
  const keys = [
    "general.architecture",
    "llama.block_count",
    "llama.context_length",
    "llama.embedding_length",
    "llama.feed_forward_length",
    "llama.attention.head_count",
    "llama.attention.layer_norm_rms_epsilon",
    "tokenizer.ggml.tokens",
  ];
  for (const key of keys) {
    const parts = smallLlamaParts({ [key]: undefined, "llama.vocab_size": undefined });
    expectRefusal(parts, `"${key}": found no such key`);
  }
});
