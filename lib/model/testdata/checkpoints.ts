/** Small random checkpoints of each architecture, in both formats; see `make_checkpoint_golden.py`. */
import { type HostTensor, hostTensor } from "../../tensor.ts";
import { JsonKeys } from "../formats/_keyed_file.ts";
import { type GgufFile, parseGguf } from "../formats/gguf.ts";
import type { HfFolder } from "../formats/hf_folder.ts";
import golden from "./checkpoint_golden.json" with { type: "json" };
import { buildGguf, type Entry } from "./gguf_builder.ts";

/** Name of a checkpoint. */
export type CheckpointName = keyof typeof golden.cases;

/** A checkpoint, and facts about it. */
export interface Checkpoint {
  /** Its config.json. */
  readonly config: Record<string, unknown>;
  /** How it is to be loaded. */
  readonly options: { readonly contextLength?: number };
  /** Name of its architecture in GGUF files, where it has one. */
  readonly gguf: string | null;
  /** Shape and, where it has one, the name in GGUF files of each tensor outside the blocks and in the first. */
  readonly tensors: { readonly [name: string]: readonly [shape: readonly number[], gguf?: string] };
  /** Logits at the golden positions. */
  readonly logits: string;
}

/** All of them. */
export const CHECKPOINTS = golden.cases as unknown as { readonly [name in CheckpointName]: Checkpoint };
export const NAMES = Object.keys(CHECKPOINTS) as CheckpointName[];
/** Those with a GGUF file. */
export const GGUF_NAMES: readonly CheckpointName[] = NAMES.filter((name) => CHECKPOINTS[name].gguf !== null);

/** CRC-32 of a text. */
function crc32(text: string): number {
  let crc = -1;
  for (const byte of new TextEncoder().encode(text)) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}

/** A tensor's values, as the script makes them. */
function valuesOf(name: CheckpointName, tensor: string, shape: readonly number[]): Float32Array<ArrayBuffer> {
  let state = crc32(`${name} ${tensor}`);
  const isNorm = tensor.includes("norm") && shape.length === 1,
    offset = isNorm && !name.startsWith("gemma3") ? 1 : 0;
  const scale = shape.length === 2 ? Math.sqrt(3 / shape[1]!) * 1.5 : 1;
  return Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const value = (state / 2 ** 31 - 1) * scale;
    return shape.length === 2 ? value : Math.fround(value) / 4 + offset;
  });
}

/** Tensors of all blocks by their names in Hugging Face folders, with those in GGUF files. */
function tensorsOf(
  name: CheckpointName,
): Map<string, { readonly tensor: HostTensor; readonly gguf?: string }> {
  const { config, tensors } = CHECKPOINTS[name], all: [string, { tensor: HostTensor; gguf?: string }][] = [];
  for (const [first, [shape, gguf]] of Object.entries(tensors)) {
    const layers = first.startsWith("model.layers.0.") ? config.num_hidden_layers as number : 1;
    for (let layer = 0; layer < layers; layer++) {
      const at = first.replace(".layers.0.", `.layers.${layer}.`);
      const tensor = hostTensor("f32", shape, valuesOf(name, at, shape));
      all.push([at, { tensor, ...(gguf && { gguf: gguf.replace("blk.0.", `blk.${layer}.`) }) }]);
    }
  }
  return new Map(all);
}

/** A checkpoint as a Hugging Face folder. @param changes of config.json; a key of undefined is left out */
export function hfFolder(name: CheckpointName, changes: Record<string, unknown> = {}): HfFolder {
  const config = JSON.stringify({ ...CHECKPOINTS[name].config, ...changes });
  const tensors = new Map(Array.from(tensorsOf(name), ([at, { tensor }]) => [at, tensor]));
  return { file: name, config: new JsonKeys(`${name}/config.json`, config), tensors, sha256: "" };
}

/** The same with MLPs padded with zeros from 24 to 32: its rows are whole blocks, its logits the golden ones. */
export function paddedFolder(name: CheckpointName): HfFolder {
  const folder = hfFolder(name, { intermediate_size: 32 });
  const padded = ([at, tensor]: [string, HostTensor]): [string, HostTensor] => {
    const part = /mlp\.(down|gate_up|gate|up)_proj/.exec(at)?.[1], { shape: [rows, cols], data } = tensor;
    if (part === undefined) return [at, tensor];
    // Runs of 24 values, or 24 rows of them, to 32 each.
    const run = 24 * (part === "down" ? 1 : cols!), out = new Float32Array(data.length / 24 * 32);
    for (let i = 0; i < data.length / run; i++) {
      out.set(data.subarray(i * run, (i + 1) * run) as Float32Array, i * run / 24 * 32);
    }
    return [at, hostTensor("f32", part === "down" ? [rows!, 32] : [rows! / 24 * 32, cols!], out)];
  };
  return { ...folder, tensors: new Map(Array.from(folder.tensors, padded)) };
}

/** Rows of heads from halves to pairs, as llama.cpp's converter moves those of `llama` and `smollm3`. */
function permuted({ shape, data }: HostTensor, headDim: number): HostTensor {
  const width = data.length / shape[0]!, out = new Float32Array(data.length);
  for (let row = 0; row < shape[0]!; row++) {
    const head = Math.floor(row / headDim) * headDim, i = row % headDim, half = headDim / 2;
    const to = head + (i < half ? 2 * i : 2 * (i - half) + 1);
    out.set((data as Float32Array).subarray(row * width, (row + 1) * width), to * width);
  }
  return hostTensor("f32", shape, out);
}

/** A checkpoint as a GGUF file, written as llama.cpp's converter does. @param changes of keys without their prefix */
export function ggufFile(
  name: CheckpointName,
  changes: { readonly [key: string]: Entry | undefined } = {},
): GgufFile {
  const { config, gguf: architecture } = CHECKPOINTS[name], size = (key: string) => config[key] as number;
  const rope = config.rope_parameters as Record<string, number & number[] & { [key: string]: number }>;
  const global = rope.full_attention ?? rope,
    headDim = size("head_dim") ?? size("hidden_size") / size("num_attention_heads");
  const dims = headDim * (global.partial_rotary_factor ?? 1);
  const u32 = (key: string, value: number): Entry => [`${architecture}.${key}`, "uint32", value];
  const f32 = (key: string, value: number): Entry => [`${architecture}.${key}`, "float32", value];
  const factor = size("max_position_embeddings") / size("original_max_position_embeddings");
  const entries: Entry[] = [
    ["general.architecture", "string", architecture!],
    u32("block_count", size("num_hidden_layers")),
    u32("context_length", size("max_position_embeddings")),
    u32("embedding_length", size("hidden_size")),
    u32("feed_forward_length", size("intermediate_size")),
    u32("attention.head_count", size("num_attention_heads")),
    u32("attention.head_count_kv", size("num_key_value_heads")),
    u32("attention.key_length", headDim),
    u32("attention.value_length", headDim),
    u32("rope.dimension_count", dims),
    f32("rope.freq_base", global.rope_theta!),
    f32("attention.layer_norm_rms_epsilon", size("rms_norm_eps")),
    ["tokenizer.ggml.tokens", ["string"], Array.from({ length: golden.vocabSize }, (_, i) => `${i}`)],
    ...(config.sliding_window ? [u32("attention.sliding_window", size("sliding_window"))] : []),
    ...(global.rope_type as unknown === "linear"
      ? [
        [`${architecture}.rope.scaling.type`, "string", "linear"] as Entry,
        f32("rope.scaling.factor", global.factor!),
      ]
      : []),
    ...(rope.long_factor
      ? [
        u32("rope.scaling.original_context_length", size("original_max_position_embeddings")),
        f32(
          "rope.scaling.attn_factor",
          Math.sqrt(1 + Math.log(factor) / Math.log(size("original_max_position_embeddings"))),
        ),
      ]
      : []),
  ];
  const kept = entries.filter(([key]) => !(key.slice(architecture!.length + 1) in changes));
  const added = Object.values(changes).filter((entry) => entry !== undefined);
  const pairs = architecture === "llama" || architecture === "smollm3";
  const tensors = Array.from(tensorsOf(name).values(), ({ tensor, gguf }) => {
    const turned = pairs && /attn_[qk]\.(weight|bias)$/.test(gguf!) ? permuted(tensor, headDim) : tensor;
    const plus = architecture === "gemma3" && gguf!.includes("norm") ? 1 : 0;
    const values = Float32Array.from(turned.data, (value) => value + plus);
    return [gguf!, tensor.shape, values] as const;
  });
  for (const kind of rope.long_factor ? ["long", "short"] : []) {
    const values = Float32Array.from(rope[`${kind}_factor`]!);
    tensors.push([`rope_factors_${kind}.weight`, [values.length], values]);
  }
  const bytes = buildGguf({
    entries: [...kept, ...added],
    tensors: tensors.map(([name, shape, values]) => ({
      name,
      dims: shape.toReversed(),
      type: 0,
      data: new Uint8Array(values.buffer),
    })),
  });
  return parseGguf(bytes, `${name}.gguf`);
}
