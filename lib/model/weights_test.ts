import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import type { Backend } from "../backend.ts";
import { ModelFormatError } from "../errors.ts";
import { byteSize, WEIGHT_DTYPES } from "../dtype.ts";
import { dequantize } from "../reference/dequantize.ts";
import { quantize } from "../reference/quantize.ts";
import { countOf, type HostTensor, hostTensor, type Tensor } from "../tensor.ts";
import type { ModelSource } from "./config/config_reader.ts";
import { readModelConfig } from "./config/read_config.ts";
import { AllocationCounter } from "./formats/fuzz_testing.ts";
import type { ByteSource } from "./formats/_byte_source.ts";
import { parseGguf, readGguf } from "./formats/gguf.ts";
import { readSafetensors, writeSafetensors } from "./formats/safetensors.ts";
import { hfFolder, paddedFolder } from "./testdata/checkpoints.ts";
import { buildGguf, type GgufParts, type TensorEntry } from "./testdata/gguf_builder.ts";
import { f32Tensor, SMALL_VOCAB_SIZE, smallLlamaParts } from "./testdata/small_llama.ts";
import { checkWeights, loadWeights } from "./load_weights.ts";
import { uploadWeights } from "./upload_testing.ts";
import type { LayerWeights } from "./weights.ts";

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

Deno.test("loadWeights() ties a folder's output to its embedding only where both are the same", () => {
  const folder = hfFolder("llama"), config = readModelConfig(folder);
  const table = folder.tensors.get("model.embed_tokens.weight")! as HostTensor;
  const weightsWith = (output: HostTensor) =>
    loadWeights({ ...folder, tensors: new Map([...folder.tensors, ["lm_head.weight", output]]) }, config);
  const same = weightsWith({ ...table, data: table.data.slice() });
  assertStrictEquals(same.output, same.embedding);
  const other = table.data.slice();
  other[7]! += 1;
  const half = hostTensor("f16", table.shape, new Uint16Array(table.data.length));
  for (const output of [{ ...table, data: other }, hostTensor("f32", [1, 32], new Float32Array(32)), half]) {
    assertThrows(
      () => weightsWith(output),
      ModelFormatError,
      'found tensor "lm_head.weight" with other values than "model.embed_tokens.weight", expected the same, or tie',
    );
  }
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
    ["blk.0.attn_q_norm.weight", "only tensors that this project supports"],
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

/** Bytes whose reading is counted: how many are read into memory of `take` to stay, and how many are borrowed at most. */
class CountedBytes implements ByteSource {
  readonly file = "m";
  readonly size: number;
  kept = 0;
  borrowed = 0;
  readonly taken = new Set<ArrayBuffer>();
  readonly take = (size: number) => {
    const memory = new Uint8Array(size);
    this.taken.add(memory.buffer);
    return memory;
  };
  readonly bytes: Uint8Array<ArrayBuffer>;

  constructor(bytes: Uint8Array<ArrayBuffer>) {
    this.bytes = bytes;
    this.size = bytes.length;
  }
  read(at: number, size: number) {
    return this.bytes.slice(at, at + size);
  }
  borrow(at: number, size: number, take: (size: number) => Uint8Array<ArrayBuffer>) {
    const to = take(size);
    if (this.taken.has(to.buffer)) this.kept += size;
    else this.borrowed = Math.max(this.borrowed, size);
    to.set(this.bytes.subarray(at, at + size));
    return to;
  }
}

Deno.test("loadWeights() reads each tensor once, and has at most one in memory beside those that it gives", () => {
  const sizeOf = ({ dtype, shape }: Tensor) => byteSize(dtype, countOf(shape));
  for (const name of ["llama", "phi3", "gemma3", "q2_k"] as const) {
    let source: ModelSource, inMemory: ModelSource, counted: CountedBytes;
    if (name === "q2_k") {
      // Rows of 256, so that a stored type fits: the MLP's, of an otherwise small model.
      const tensor = (name: string, dims: number[]): TensorEntry => ({
        name,
        dims,
        type: 10,
        data: new Uint8Array(dims[0]! * dims[1]! / 256 * 84),
      });
      const sizes = { "llama.feed_forward_length": ["llama.feed_forward_length", "uint32", 256] as const };
      const parts = smallLlamaParts(sizes, {
        "blk.0.ffn_down.weight": tensor("blk.0.ffn_down.weight", [256, 8]),
        "blk.0.ffn_gate.weight": f32Tensor("blk.0.ffn_gate.weight", [8, 256]),
        "blk.0.ffn_up.weight": f32Tensor("blk.0.ffn_up.weight", [8, 256]),
      });
      counted = new CountedBytes(buildGguf(parts));
      source = readGguf(counted);
      inMemory = parseGguf(counted.bytes, "m");
    } else {
      const folder = inMemory = hfFolder(name);
      counted = new CountedBytes(writeSafetensors(folder.tensors));
      source = { ...folder, tensors: readSafetensors(counted).tensors };
    }
    const config = readModelConfig(source), largest = Math.max(...[...source.tensors.values()].map(sizeOf));
    assertEquals(counted.borrowed, 0);
    for (const dtype of [undefined, "bf16"] as const) {
      counted.kept = 0;
      let placed = 0, peak = 0;
      const loaded = loadWeights(
        source,
        config,
        (tensor) => {
          placed += sizeOf(tensor);
          peak = Math.max(peak, placed + counted.borrowed);
          return tensor;
        },
        dtype,
        counted.take,
      );
      assertEquals(placed, checkWeights(source, config, dtype).bytes);
      // A GGUF file's tensors stay as they are, where no type is asked for.
      const isKept = name === "q2_k" && dtype === undefined, what = `${name}, ${dtype}: ${peak} of ${placed}`;
      assert(isKept ? peak === placed : peak > placed && peak <= placed + largest, what);
      assert(isKept ? counted.kept === placed : counted.kept < placed, what);
      assert(counted.taken.has(loaded.layers[0]!.down.data.buffer as ArrayBuffer), what);
      // The borrowed memory is overwritten by the next tensor: none of the returned tensors may lie there.
      assertEquals(loaded, loadWeights(inMemory, config, (tensor) => tensor, dtype), what);
    }
  }
});

Deno.test("loadWeights() makes no memory but that of the tensors that it gives, when it turns what was read", () => {
  for (const name of ["llama", "phi3"] as const) {
    const folder = paddedFolder(name), bytes = writeSafetensors(folder.tensors);
    const borrow = (at: number, size: number) => bytes.slice(at, at + size);
    const read = Object.assign(new CountedBytes(bytes), { borrow });
    const source = { ...folder, tensors: readSafetensors(read).tensors };
    const config = readModelConfig(source);
    for (const dtype of ["bf16", "f16", "q8_0", "q4_0"] as const) {
      const counter = new AllocationCounter();
      try {
        loadWeights(source, config, (tensor) => tensor, dtype);
      } finally {
        counter[Symbol.dispose]();
      }
      const { bytes } = checkWeights(source, config, dtype);
      assert(counter.bytes > 0 && counter.bytes <= bytes, `${name}, ${dtype}: ${counter.bytes} of ${bytes}`);
    }
  }
});

Deno.test("loadWeights() turns matrices into any type of weights, and leaves the rest in f32", () => {
  for (const name of ["llama", "phi3"] as const) { // halves to pairs; fused tensors
    const folder = paddedFolder(name), config = readModelConfig(folder), stored = loadWeights(folder, config);
    for (const dtype of WEIGHT_DTYPES) {
      const own = loadWeights(folder, config, (tensor) => tensor, dtype);
      assertEquals(own.outputNorm, stored.outputNorm);
      for (const [role, { shape, dtype: found, data }] of Object.entries(own.layers[1]!)) {
        const values = stored.layers[1]![role]!.data as Float32Array<ArrayBuffer>;
        assertEquals(
          [found, shape],
          [shape.length === 2 ? dtype : "f32", stored.layers[1]![role]!.shape],
          role,
        );
        assertEquals(
          data,
          shape.length === 2 ? quantize(values, dtype) : values,
          `${name}.${role} in ${dtype}`,
        );
      }
    }
  }
  const bytes = buildGguf(smallLlamaParts()),
    gguf = parseGguf(bytes, "m.gguf"),
    config = readModelConfig(gguf);
  const { q } = loadWeights(gguf, config, (tensor) => tensor, "bf16").layers[0]!;
  assertEquals(q.data, quantize(dequantize(gguf.tensors.get("blk.0.attn_q.weight")!, 0, 64), "bf16"));
});

Deno.test("loadWeights() leaves matrices that have the type already as they are", async () => {
  const bytes = await Deno.readFile(new URL("./tiny/tiny-llama-4.8m.Q8_0.gguf", import.meta.url));
  const gguf = parseGguf(bytes, "tiny");
  const { layers } = loadWeights(gguf, readModelConfig(gguf), (tensor) => tensor, "q8_0");
  assertStrictEquals(layers[0]!.gate.data.buffer, bytes.buffer);
});

Deno.test("loadWeights() names a tensor that a type cannot hold", () => {
  const gguf = parseGguf(buildGguf(smallLlamaParts()), "m.gguf"), config = readModelConfig(gguf);
  assertThrows(
    () => checkWeights(gguf, config, "q8_0"),
    ModelFormatError,
    'found rows of 8 in tensor "token_embd.weight", expected a multiple of q8_0\'s block of 32',
  );
  const folder = paddedFolder("llama"),
    at = "model.layers.1.mlp.down_proj.weight",
    own = readModelConfig(folder);
  const { shape, data } = folder.tensors.get(at)!,
    large = (data as Float32Array).map((x, i) => i === 5 ? 1e6 : x);
  const tensors = new Map([...folder.tensors, [at, hostTensor("f32", shape, large)]]);
  assertThrows(
    () => loadWeights({ ...folder, tensors }, own, (tensor) => tensor, "f16"),
    ModelFormatError,
    `cannot turn tensor "${at}" into f16: found a value of 1000000, expected a float16: try bf16`,
  );
});
