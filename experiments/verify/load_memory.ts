/**
 * Holds the peak memory of loading to the size of the weights plus the largest tensor of the file (Linux).
 *
 * usage: deno run -A $(deno run -A --no-config --no-lock .std/flags.ts) experiments/verify/load_memory.ts [MODEL.gguf ...]
 *
 * Loads, each in a process of its own: a folder of a random Llama of 130 million values that it writes, in f32 as
 * it is and turned into q8_0, in bf16 turned into q4_0; and each GGUF file as it is and turned into bf16. One line
 * each, in MB: the weights, the largest tensor, the peak of resident memory (VmHWM) above what the process held just
 * before, and what it held by then of the file's header and vocabulary. SPARE is for what the engine has not
 * collected yet. Exits with 1 if a peak is above the sum.
 */
import { openCpu } from "../../ffi/mod.ts";
import { byteSize } from "../../lib/dtype.ts";
import { loadModel, parseGguf, readHfFolder, readModelFile } from "../../lib/model/mod.ts";
import { countOf } from "../../lib/tensor.ts";
import { readStdFlags } from "../cli/deno.ts";

const SPARE = 16e6;
const SIZES = { hidden_size: 768, intermediate_size: 3072, num_hidden_layers: 12, vocab_size: 32000 };
const HEADS = { num_attention_heads: 12, num_key_value_heads: 4 };
/** Bytes of file that are written at once. */
const WRITTEN = 1 << 20;

const status = (name: string) =>
  Number(new RegExp(`${name}:\\s*(\\d+)`).exec(Deno.readTextFileSync("/proc/self/status"))![1]) * 1024;

/** Names and shapes of a Llama's tensors. */
function tensorsOf(): [string, number[]][] {
  const { hidden_size: hidden, intermediate_size: mlp, num_hidden_layers: layers, vocab_size: vocab } = SIZES;
  const keys = hidden / HEADS.num_attention_heads * HEADS.num_key_value_heads;
  const block: [string, number[]][] = [
    ["input_layernorm", [hidden]],
    ["self_attn.q_proj", [hidden, hidden]],
    ["self_attn.k_proj", [keys, hidden]],
    ["self_attn.v_proj", [keys, hidden]],
    ["self_attn.o_proj", [hidden, hidden]],
    ["post_attention_layernorm", [hidden]],
    ["mlp.gate_proj", [mlp, hidden]],
    ["mlp.up_proj", [mlp, hidden]],
    ["mlp.down_proj", [hidden, mlp]],
  ];
  return [
    ["model.embed_tokens.weight", [vocab, hidden]],
    ...Array.from(
      { length: layers },
      (_, layer) =>
        block.map(([name, shape]): [string, number[]] => [`model.layers.${layer}.${name}.weight`, shape]),
    ).flat(),
    ["model.norm.weight", [hidden]],
  ];
}

/** Writes a folder, piece by piece. */
async function writeFolder(folder: string, dtype: "f32" | "bf16"): Promise<void> {
  const width = dtype === "f32" ? 4 : 2, header: Record<string, unknown> = {};
  let at = 0;
  for (const [name, shape] of tensorsOf()) {
    const end = at + countOf(shape) * width;
    header[name] = { dtype: dtype.toUpperCase(), shape, data_offsets: [at, end] };
    at = end;
  }
  const values = Float32Array.from({ length: WRITTEN / 4 }, (_, i) => Math.sin(i * i));
  const piece = dtype === "f32"
    ? new Uint8Array(values.buffer)
    : new Uint8Array(Uint16Array.from(new Uint32Array(values.buffer), (bits) => bits >>> 16).buffer);
  const text = new TextEncoder().encode(JSON.stringify(header).padEnd(8192 * 4));
  await Deno.mkdir(folder);
  using file = await Deno.open(`${folder}/model.safetensors`, { write: true, createNew: true });
  const write = async (bytes: Uint8Array) => {
    for (let done = 0; done < bytes.length;) done += await file.write(bytes.subarray(done));
  };
  await write(new Uint8Array(BigUint64Array.of(BigInt(text.length)).buffer));
  await write(text);
  for (let left = at; left > 0; left -= piece.length) {
    await write(piece.subarray(0, Math.min(left, piece.length)));
  }
  const config = {
    ...{ architectures: ["LlamaForCausalLM"], model_type: "llama", hidden_act: "silu", rms_norm_eps: 1e-5 },
    ...{ max_position_embeddings: 2048, tie_word_embeddings: true, rope_theta: 1e4, ...SIZES, ...HEADS },
  };
  await Deno.writeTextFile(`${folder}/config.json`, JSON.stringify(config));
  const bytes = [...Array(94).keys()].map((i) => String.fromCharCode(33 + i));
  const tokenizer = {
    ...{ version: "1.0", truncation: null, padding: null, added_tokens: [], normalizer: null },
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: { type: "BPE", vocab: Object.fromEntries(bytes.map((byte, id) => [byte, id])), merges: [] },
  };
  await Deno.writeTextFile(`${folder}/tokenizer.json`, JSON.stringify(tokenizer));
}

/** Loads a model in this process, and prints bytes. */
async function measure(path: string, dtype?: string): Promise<void> {
  const backend = await openCpu({ build: true }),
    options = dtype === undefined ? {} : { dtype: dtype as "bf16" };
  // What is compiled at the first use is no part of it.
  await loadModel("tiny", backend, options);
  const begin = status("VmRSS"), file = await readModelFile(path, options);
  await Deno.writeTextFile("/proc/self/clear_refs", "5");
  const before = status("VmRSS");
  file.open(backend);
  console.log(JSON.stringify([file.weights.bytes, status("VmHWM") - before, before - begin]));
}

/** Bytes of a file's largest tensor. */
async function largestTensor(path: string): Promise<number> {
  const { tensors } = path.endsWith(".gguf")
    ? parseGguf(await Deno.readFile(path), path)
    : await readHfFolder(path);
  return Math.max(...tensors.values().map(({ dtype, shape }) => byteSize(dtype, countOf(shape))));
}

if (Deno.args[0] === "--one") {
  await measure(Deno.args[1]!, Deno.args[2]);
} else {
  const folder = await Deno.makeTempDir(), megabytes = (bytes: number) => (bytes / 1e6).toFixed(1);
  const std = await readStdFlags();
  try {
    await writeFolder(`${folder}/f32`, "f32");
    await writeFolder(`${folder}/bf16`, "bf16");
    const cases: [string, string?][] = [
      [`${folder}/f32`],
      [`${folder}/f32`, "q8_0"],
      [`${folder}/bf16`, "q4_0"],
      ...Deno.args.flatMap((path): [string, string?][] => [[path], [path, "bf16"]]),
    ];
    for (const [path, dtype] of cases) {
      const args = ["run", "-A", "--no-check", ...std, import.meta.filename!, "--one", path];
      const child = new Deno.Command(Deno.execPath(), {
        args: [...args, ...dtype === undefined ? [] : [dtype]],
        cwd: `${import.meta.dirname}/../..`,
        stderr: "inherit",
      });
      const [weights, peak, read] = JSON.parse(new TextDecoder().decode((await child.output()).stdout));
      const largest = await largestTensor(path), isOver = peak > weights + largest + SPARE;
      if (isOver) Deno.exitCode = 1;
      console.log(
        `${path.split("/").at(-1)}${dtype === undefined ? "" : ` as ${dtype}`}: weights ${
          megabytes(weights)
        }, ` +
          `largest tensor ${megabytes(largest)}, peak ${megabytes(peak)}, before that ${megabytes(read)}${
            isOver ? ": too much" : ""
          }`,
      );
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
