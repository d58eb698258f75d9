/** The paper's recipe in small, for tests: models of true shapes with two layers of random weights, and a hub with all data. */
import { parquetWriteBuffer } from "hyparquet-writer";
import { createWeights, readConfigText, writeSafetensors } from "../../../lib/model/mod.ts";
import { countOf, type HostTensor, hostTensor } from "../../../lib/tensor.ts";
import { dataOfTasks, type HubContents } from "../hub_testing.ts";
import texts from "./data.json" with { type: "json" };
import paper from "./recipes/paper.json" with { type: "json" };
import published from "./published.json" with { type: "json" };

/** Models of the mission's families at their true sizes; the smaller ones where there are several. */
export const SHAPES = [
  "SmolLM2-1.7B",
  "LLaMA-2-7B",
  "LLaMA-3-8B",
  "Mistral-7B",
  "Phi-4",
  "Qwen3-8B",
  "Gemma-3-1B",
] as const;

/** Characters of the byte-level alphabet: one per byte. */
const alphabet = () => {
  const plain = (byte: number) =>
    byte >= 33 && byte <= 126 || byte >= 161 && byte <= 172 || byte >= 174 && byte <= 255;
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(plain(byte) ? byte : next++));
};

const BOS = "<s>";

/** A tokenizer with a token per byte and one for the beginning of a text, as files of a model. */
const BYTE_TOKENIZER: ReadonlyMap<string, string> = new Map([[
  "tokenizer.json",
  JSON.stringify({
    added_tokens: [{ id: 256, content: BOS, special: true }],
    normalizer: null,
    post_processor: null,
    decoder: { type: "ByteLevel" },
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, use_regex: false },
    model: { type: "BPE", vocab: Object.fromEntries(alphabet().map((char, id) => [char, id])), merges: [] },
  }),
], ["tokenizer_config.json", JSON.stringify({ bos_token: BOS })]]);

/** Entries of its table of embeddings: a multiple of what kernels take at once. */
export const BYTE_VOCABULARY = 320;

/** Numbers in bf16 of both signs between 1/64 and 1/32 in size, repeated. */
const BLOCK = Uint16Array.from({ length: 4099 }, (_, i) => {
  const bits = Math.imul(i + 1, 2654435761) >>> 16;
  return 0x3c80 + (bits & 0x7f) + ((bits & 0x80) << 8);
});

function randomTensor(shape: readonly number[], isNorm: boolean): HostTensor {
  const data = new Uint16Array(countOf(shape));
  if (isNorm) return hostTensor("bf16", shape, data.fill(0x3f80));
  for (let at = 0; at < data.length; at += BLOCK.length) {
    data.set(BLOCK.subarray(0, Math.min(BLOCK.length, data.length - at)), at);
  }
  return hostTensor("bf16", shape, data);
}

/** Writes a folder as transformers saves a model, with random weights. @param files Further files by name: its tokenizer. */
export function writeModel(
  folder: string,
  known: { readonly [key: string]: unknown },
  files: ReadonlyMap<string, string | Uint8Array> = BYTE_TOKENIZER,
): void {
  const config = JSON.stringify(known), tensors = new Map<string, HostTensor>();
  createWeights(readConfigText(folder, config), (spec) => {
    const { hf, shape, fused, dtype } = spec, total = fused?.[1] ?? shape[0]!;
    if (!tensors.has(hf)) tensors.set(hf, randomTensor([total, ...shape.slice(1)], dtype === "f32"));
    return spec as never;
  });
  Deno.mkdirSync(folder);
  Deno.writeTextFileSync(`${folder}/config.json`, config);
  for (const [name, content] of files) {
    const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
    Deno.writeFileSync(`${folder}/${name}`, bytes);
  }
  Deno.writeFileSync(`${folder}/model.safetensors`, writeSafetensors(tensors));
}

/** Sizes of narrow layers, which tokenizer and tables do not depend on. */
export const narrowSizes = (width: number) => ({
  ...{ hidden_size: width, intermediate_size: width, head_dim: width / 4 },
  ...{ num_attention_heads: 4, num_key_value_heads: 2 },
});

/** The files of a folder as those of a repository of the hub. */
export const repositoryOf = (name: string, folder: string): [place: string, path: string][] =>
  [...Deno.readDirSync(folder)].map((
    { name: file },
  ) => [`${name}@${"c".repeat(40)}/${file}`, `${folder}/${file}`]);

/** All data of the recipe as the hub has them: a few rows of each task, and one short text for all long ones. */
export async function dataOfPaper(text: string): Promise<HubContents> {
  const contents = new Map(await dataOfTasks());
  const rows = text.split("\n").slice(0, -1).map((line) => line === " " ? "" : `${line}\n`);
  const parquet = parquetWriteBuffer({ columnData: [{ name: "text", data: rows, type: "STRING" }] });
  const lines = new Blob([JSON.stringify({ text })]).stream().pipeThrough(new CompressionStream("gzip"));
  const forms = {
    wikitext: new Uint8Array(parquet),
    c4: new Uint8Array(await new Response(lines).arrayBuffer()),
  };
  for (
    const { form, hub } of Object.values(texts) as {
      form: keyof typeof forms;
      hub?: typeof texts.wikitext2.hub;
    }[]
  ) {
    if (hub !== undefined) {
      contents.set(`datasets/${hub.repository}@${hub.revision}/${hub.file}`, forms[form]);
    }
  }
  return contents;
}

type Protocols = {
  readonly [name: string]: { readonly label: string; readonly task?: string; readonly context?: number };
};

/**
 * The recipe with short chunks, all of C4: the texts of WikiText-2 have a digest, which a test's own would not have. Each
 * protocol of a text gets the beginning `short-`.
 *
 * @param dense The dense number of a model "other" by `short-wikitext2-2048`, as if it were published.
 */
export function shortPaper(dense: number): object {
  const known = published.protocols as Protocols, protocols: { [name: string]: object } = {};
  const parts = Object.entries(paper.parts).map(([part, flags]) => {
    const [name = part] = part.split(" ("), { context, label, ...protocol } = known[name]!;
    if (context === undefined) return [part, flags];
    const short = 8 * Math.log2(context) - 40;
    protocols[`short-${name}`] = {
      ...{ ...protocol, label: `${label} (short)`, data: "c4-validation", context: short },
      ...(protocol.task !== "perplexity_word" && { tokens: 2 * short }),
    };
    return [`short-${part}`, { warmup: "4", ...flags }];
  });
  return {
    ...paper,
    lengths: [4, 32],
    sources: { own: "a test" },
    numbers: [{ source: "own", protocol: "short-wikitext2-2048", model: "other", values: { dense } }],
    ...{ protocols, parts: Object.fromEntries(parts) },
  };
}
