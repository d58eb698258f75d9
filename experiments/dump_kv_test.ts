import { assert, assertEquals } from "@std/assert";
import type { ScanOutput } from "../lib/filter/mod.ts";
import { createPruner } from "../lib/methods/mod.ts";
import { loadModel } from "../lib/model/mod.ts";
import { ReferenceBackend } from "../lib/reference/mod.ts";
import { runTask, withFolder } from "./testing.ts";

const python = Deno.env.get("TOKENFILTER_PYTHON") || "python3";
/** Turns a GGUF file of a folder into a Hugging Face folder: FOLDER FILE OUT. */
const UNPACK = `
import sys
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
folder, file, out = sys.argv[1:]
AutoTokenizer.from_pretrained(folder, gguf_file=file).save_pretrained(out)
weights = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file).state_dict()
model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder, gguf_file=file))
model.load_state_dict(weights)
model.save_pretrained(out)
`;
import { unless } from "../lib/testing.ts";
const PACKAGES = ["torch", "transformers", "safetensors", "gguf", "accelerate"];

/** Why the script cannot run here; undefined where it can. */
function obstacle(): string | undefined {
  const code = "import importlib.util as u, sys; sys.exit(any(u.find_spec(m) is None for m in sys.argv[1:]))";
  try {
    if (new Deno.Command(python, { args: ["-c", code, ...PACKAGES] }).outputSync().success) return undefined;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return `${python} (or TOKENFILTER_PYTHON) lacks one of ${PACKAGES.join(", ")}`;
}

/** Runs python without a GPU or a network. */
async function runPython(...args: string[]): Promise<void> {
  const env = { CUDA_VISIBLE_DEVICES: "", HF_HUB_OFFLINE: "1" };
  const { success, stderr } = await new Deno.Command(python, { args, env }).output();
  assert(success, new TextDecoder().decode(stderr));
}

Deno.test({
  ...unless(obstacle(), "dump_kv.py writes a dump that filter decides as the model's own layer"),
  fn: () =>
    withFolder(async (folder) => {
      const text = "It was a dark night, and the rain fell upon the roofs of the town without ceasing. "
        .repeat(6);
      Deno.writeTextFileSync(`${folder}/text.txt`, text);
      const model = `${folder}/model`, dump = `${folder}/dump.safetensors`;
      const tiny = `${import.meta.dirname}/../lib/model/tiny`;
      await runPython("-c", UNPACK, tiny, "tiny-llama-4.8m.Q8_0.gguf", model);
      const script = `${import.meta.dirname}/dump_kv.py`;
      await runPython(script, model, `${folder}/text.txt`, dump, "--layer", "2");
      const args = [
        "--kv",
        dump,
        "--skip-ratio",
        "0.5",
        "--layer",
        "2",
        "--json",
        "--quiet",
      ];
      const filtered = await runTask("filter", ...args);
      assertEquals([filtered.code, filtered.stderr], [0, ""]);
      const rows = JSON.parse(filtered.stdout) as Record<string, (number | null)[]>;

      // The same layer inside the toolkit. The keys' rotary pairs lie in another order there, which no cosine sees.
      const { model: loaded, tokenizer, config } = await loadModel("tiny", new ReferenceBackend());
      const ids = tokenizer.encode(text, { bos: true });
      const traced: Partial<ScanOutput>[] = [];
      const skipRatios = Array.from({ length: config.numLayers }, (_, layer) => layer === 2 ? 0.5 : 0);
      const trace = (decisions: ScanOutput) =>
        traced.push({ muK: decisions.muK.slice(), muV: decisions.muV.slice() });
      const sequence = loaded.start(createPruner("token-filtering", config, { skipRatios }, { trace }));
      sequence.feed(ids);
      assertEquals([rows.keep!.length, traced.length], [ids.length, 1]);
      assertEquals(rows.keep, [...sequence.keep.get(2)!]);
      for (const name of ["muK", "muV"] as const) {
        const furthest = Math.max(
          ...rows[name]!.slice(1).map((x, t) => Math.abs(x! - traced[0]![name]![t + 1]!)),
        );
        assert(furthest < 2e-6, `${name} differs by ${furthest}`);
      }
    }),
});
