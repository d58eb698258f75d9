/** Tests a recipe on models of true shapes, two layers of random weights each: every table has a row of each method. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { createWeights, readConfigText, writeSafetensors } from "../../../lib/model/mod.ts";
import { countOf, type HostTensor, hostTensor } from "../../../lib/tensor.ts";
import { listReproductionTables, type Reproduction } from "../../../lib/plot/mod.ts";
import { testSlow } from "../../../lib/testing.ts";
import { runTask, withFolder } from "../testing.ts";
import { readKnownModels } from "./recipe.ts";

/** The mission's families at the sizes of one of their models; the smaller ones where there are several. */
const SHAPES = ["SmolLM2-1.7B", "LLaMA-2-7B", "LLaMA-3-8B", "Mistral-7B", "Phi-4", "Qwen3-8B", "Gemma-3-1B"];

/** Characters of the byte-level alphabet: one per byte. */
const alphabet = () => {
  const plain = (byte: number) =>
    byte >= 33 && byte <= 126 || byte >= 161 && byte <= 172 || byte >= 174 && byte <= 255;
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(plain(byte) ? byte : next++));
};

const TOKENIZER = {
  added_tokens: [],
  normalizer: null,
  post_processor: null,
  decoder: { type: "ByteLevel" },
  pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, use_regex: false },
  model: { type: "BPE", vocab: Object.fromEntries(alphabet().map((char, id) => [char, id])), merges: [] },
};

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

/** Writes a folder as transformers saves a model: two layers, no tokens but those of bytes. */
function writeModel(folder: string, known: { readonly [key: string]: unknown }): void {
  const config = JSON.stringify({
    ...known,
    num_hidden_layers: 2,
    vocab_size: 256,
    tie_word_embeddings: false,
  });
  const tensors = new Map<string, HostTensor>();
  createWeights(readConfigText(folder, config), (spec) => {
    const { hf, shape, fused, dtype } = spec, total = fused?.[1] ?? shape[0]!;
    if (!tensors.has(hf)) tensors.set(hf, randomTensor([total, ...shape.slice(1)], dtype === "f32"));
    return spec as never;
  });
  Deno.mkdirSync(folder);
  Deno.writeTextFileSync(`${folder}/config.json`, config);
  Deno.writeTextFileSync(`${folder}/tokenizer.json`, JSON.stringify(TOKENIZER));
  Deno.writeFileSync(`${folder}/model.safetensors`, writeSafetensors(tensors));
}

const RECIPE = {
  version: 1,
  about: "One row of every table",
  model: "tiny",
  methods: "paper,random",
  ratios: "0.5",
  flags: { seeds: "1", match: "none", recent: "0", tail: "1" },
  lengths: [16],
  protocols: {
    "own-16": { label: "prose at 16", says: "32 tokens", task: "perplexity", context: 16, tokens: 32 },
  },
  sources: { own: "a test" },
  numbers: [{ source: "own", protocol: "own-16", model: "wrong", values: { dense: 1.5 } }],
  parts: { "own-16": { warmup: "4" }, "recall": { items: "1", length: "160", "filter-from": "50%" } },
};

testSlow(
  "a recipe runs on two layers of every shape, and stops where the dense number is another one",
  () =>
    withFolder(async (folder) => {
      const recipe = `${folder}/own.json`, known = await readKnownModels();
      Deno.writeTextFileSync(recipe, JSON.stringify(RECIPE));
      for (const name of SHAPES) {
        const model = `${folder}/${name}`, out = `${folder}/out-${name}`;
        writeModel(model, known[name]!.config);
        const args = [recipe, "--model", model, "--quiet"];
        if (name === SHAPES[0]) {
          const wrong = await runTask("reproduce", ...args, "--published", "wrong", "--out", `${out}-wrong`);
          assertEquals(wrong.code, 2);
          assertMatch(wrong.stderr, /Cannot go on: dense wrong has .* on prose at 16, published 1\.5 /);
        }
        const { code, stderr } = await runTask("reproduce", ...args, "--published", "none", "--out", out);
        assertEquals([code, stderr], [0, ""], name);
        const result: Reproduction = JSON.parse(Deno.readTextFileSync(`${out}/reproduce.json`));
        const tables = listReproductionTables(result), names = ["dense", "paper at 0.5", "random at 0.5"];
        assertEquals(tables.map(({ title }) => title), [
          "Results",
          "Protocols",
          "Time and memory against length",
        ]);
        assertEquals(tables[0]!.table.rows.map(([method]) => method), names);
        assertEquals(new Set(tables[2]!.table.rows.map(([, method]) => method)), new Set(names));
        assert(tables[0]!.table.rows.every((cells) => !cells.includes("-")), name);
        Deno.removeSync(model, { recursive: true });
      }
    }),
);
