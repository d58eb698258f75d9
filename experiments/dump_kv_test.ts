import { assert, assertEquals } from "@std/assert";
import type { ScanOutput } from "../lib/filter/mod.ts";
import { createTokenFiltering } from "../lib/methods/mod.ts";
import { loadModel } from "../lib/model/mod.ts";
import { ReferenceBackend } from "../lib/reference/mod.ts";
import { exists } from "./cli/files.ts";
import { runTask, withFolder } from "./testing.ts";

const python = Deno.env.get("TOKENFILTER_PYTHON") || "python3";
const model = `${import.meta.dirname}/../../shared/models/tiny-llama-hf`;

/** Why the script cannot run here; undefined where it can. */
function obstacle(): string | undefined {
  if (!exists(model)) return "needs ../shared/models/tiny-llama-hf";
  const code = "import importlib.util as u, sys; " +
    "sys.exit(any(u.find_spec(m) is None for m in ('torch', 'transformers', 'safetensors')))";
  try {
    if (new Deno.Command(python, { args: ["-c", code] }).outputSync().success) return undefined;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return `${python} (or TOKENFILTER_PYTHON) lacks torch, transformers or safetensors`;
}

const why = obstacle();

Deno.test({
  name: `dump_kv.py writes a dump that filter decides as the model's own layer${
    why === undefined ? "" : ` (${why})`
  }`,
  ignore: why !== undefined,
  fn: () =>
    withFolder(async (folder) => {
      const text = "It was a dark night, and the rain fell upon the roofs of the town without ceasing. "
        .repeat(6);
      Deno.writeTextFileSync(`${folder}/text.txt`, text);
      const script = `${import.meta.dirname}/dump_kv.py`;
      const { success, stderr } = await new Deno.Command(python, {
        args: [script, model, `${folder}/text.txt`, `${folder}/dump.safetensors`, "--layer", "2"],
        env: { CUDA_VISIBLE_DEVICES: "", HF_HUB_OFFLINE: "1" },
      }).output();
      assert(success, new TextDecoder().decode(stderr));
      const args = [
        "--kv",
        `${folder}/dump.safetensors`,
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

      // The same layer inside the toolkit, on the GGUF of the same weights (rounded to 8 bits there).
      const { llama, tokenizer, config } = await loadModel("tiny", new ReferenceBackend());
      const ids = tokenizer.encode(text, { bos: true });
      const traced: Partial<ScanOutput>[] = [];
      const skipRatios = Array.from({ length: config.numLayers }, (_, layer) => layer === 2 ? 0.5 : 0);
      const trace = (decisions: ScanOutput) =>
        traced.push({ muK: decisions.muK.slice(), muV: decisions.muV.slice() });
      llama.start(createTokenFiltering(config, { skipRatios }, { trace })).feed(ids);
      assertEquals([rows.keep!.length, traced.length], [ids.length, 1]);
      for (const name of ["muK", "muV"] as const) {
        const furthest = Math.max(
          ...rows[name]!.slice(1).map((x, t) => Math.abs(x! - traced[0]![name]![t + 1]!)),
        );
        assert(furthest < 0.03, `${name} differs by ${furthest}`);
      }
    }),
});
