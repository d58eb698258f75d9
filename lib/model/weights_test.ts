import { assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import type { Backend } from "../backend.ts";
import { ModelFormatError } from "../errors.ts";
import { type HostTensor, hostTensor } from "../tensor.ts";
import { readModelConfig } from "./config.ts";
import { parseGguf } from "./formats/gguf.ts";
import { hfFolder } from "./testdata/checkpoints.ts";
import { buildGguf, type GgufParts, type TensorEntry } from "./testdata/gguf_builder.ts";
import { f32Tensor, SMALL_VOCAB_SIZE, smallLlamaParts } from "./testdata/small_llama.ts";
import { type LayerWeights, loadWeights, uploadWeights } from "./weights.ts";

function weightsOf(parts: GgufParts) {
  const gguf = parseGguf(buildGguf(parts), "m.gguf");
  return loadWeights(gguf, readModelConfig(gguf));
}
const withTensor = (name: string, tensor: TensorEntry | undefined) => smallLlamaParts({}, { [name]: tensor });

Deno.test("loadWeights() finds every tensor's role", () => {
  const { embedding, layers, outputNorm, output } = weightsOf(smallLlamaParts());
  assertEquals(embedding.shape, [SMALL_VOCAB_SIZE, 8]);
  assertEquals(outputNorm.shape, [8]);
  assertStrictEquals(output, embedding);
  const shapes = Object.fromEntries(Object.entries(layers[0]!).map(([role, { shape }]) => [role, shape]));
  assertEquals(shapes, {
    attnNorm: [8],
    q: [8, 8],
    k: [4, 8],
    v: [4, 8],
    o: [8, 8],
    ffnNorm: [8],
    gate: [16, 8],
    up: [16, 8],
    down: [8, 16],
  });
});

Deno.test("loadWeights() takes an output projection of its own", () => {
  const { embedding, output } = weightsOf(
    withTensor("output.weight", f32Tensor("output.weight", [8, SMALL_VOCAB_SIZE])),
  );
  assertEquals(output === embedding, false);
  assertEquals(output.shape, [SMALL_VOCAB_SIZE, 8]);
});

Deno.test("loadWeights() leaves tiny's weights in the file's bytes", async () => {
  const bytes = await Deno.readFile(new URL("./tiny/tiny-llama-4.8m.Q8_0.gguf", import.meta.url));
  const gguf = parseGguf(bytes, "tiny");
  const { layers, output } = loadWeights(gguf, readModelConfig(gguf));
  assertEquals(layers.length, 10);
  assertEquals([layers[9]!.down.dtype, layers[9]!.down.shape], ["q8_0", [192, 512]]);
  assertStrictEquals(output.data.buffer, bytes.buffer);
  assertStrictEquals(layers[3]!.ffnNorm.data.buffer, bytes.buffer);
});

Deno.test("loadWeights() names a tensor that is missing or of another shape or type", () => {
  for (const { name, dims } of smallLlamaParts().tensors!) {
    assertThrows(() => weightsOf(withTensor(name, undefined)), ModelFormatError, `found no tensor "${name}"`);
    const wrong = f32Tensor(name, [Number(dims[0]) + 1, ...dims.slice(1).map(Number)]);
    assertThrows(
      () => weightsOf(withTensor(name, wrong)),
      ModelFormatError,
      `found tensor "${name}" with shape`,
    );
  }
});

Deno.test("loadWeights() widens norms of 16 bits, and refuses quantised ones", () => {
  const folder = hfFolder("llama"), name = "model.norm.weight", config = readModelConfig(folder);
  const withNorm = (norm: HostTensor) =>
    loadWeights({ ...folder, tensors: new Map([...folder.tensors, [name, norm]]) }, config).outputNorm;
  const half = withNorm(hostTensor("f16", [32], new Uint16Array(32).fill(0x3e00)));
  assertEquals([half.dtype, [...new Set(half.data)]], ["f32", [1.5]]);
  const quantised = hostTensor("q8_0", [32], new Uint8Array(34));
  assertThrows(() => withNorm(quantised), ModelFormatError, `"${name}" in q8_0, expected f32, f16 or bf16`);
});

Deno.test("loadWeights() names tensors that it does not know", () => {
  const cases: [string, string][] = [
    ["output.bias", "(a bias)"],
    ["blk.0.ffn_gate_exps.weight", "(experts)"],
    ["blk.0.ffn_gate_inp.weight", "(an expert router)"],
    ["blk.1.attn_q.weight", "expected 1 blocks"],
    ["blk.0.attn_q_norm.weight", "only tensors that this project knows"],
  ];
  for (const [name, message] of cases) {
    const error = assertThrows(
      () => weightsOf(withTensor(name, f32Tensor(name, [8]))),
      ModelFormatError,
      `"${name}"`,
    );
    assertEquals((error as Error).message.includes(message), true, (error as Error).message);
  }
});

Deno.test("uploadWeights() hands every tensor to the backend, tied ones once", () => {
  const uploaded: HostTensor[] = [];
  const backend = {
    upload(tensor: HostTensor) {
      uploaded.push(tensor);
      return { dtype: tensor.dtype, shape: tensor.shape };
    },
  } as unknown as Backend;
  const weights = weightsOf(smallLlamaParts());
  const there = uploadWeights(weights, backend);
  assertEquals(
    new Set(uploaded),
    new Set([weights.embedding, weights.outputNorm, ...Object.values(weights.layers[0]!)]),
  );
  assertEquals(uploaded.length, 11);
  assertStrictEquals(there.output, there.embedding);
  for (const role of Object.keys(weights.layers[0]!) as (keyof LayerWeights)[]) {
    assertEquals(there.layers[0]![role].shape, weights.layers[0]![role].shape);
  }
});
