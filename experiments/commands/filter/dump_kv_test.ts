import { assert, assertEquals } from "@std/assert";
import type { ScanOutput } from "../../../lib/filter/mod.ts";
import { createPruner } from "../../../lib/methods/mod.ts";
import { loadModel } from "../../../lib/model/mod.ts";
import { ReferenceBackend } from "../../../lib/reference/mod.ts";
import { runTask, withFolder } from "../testing.ts";
import { unless } from "../../../lib/testing.ts";
import { lackOfPython, PACKAGES_OF_TINY, python, runPython, unpackTiny } from "../../tools/testing_python.ts";

/**
 * Stand-ins for the libraries that run a model: three layers of one head, trained on 6 tokens; each character is a
 * token.
 */
const STAND_INS = {
  "torch.py": `
float32 = float16 = bfloat16 = "a type"
class no_grad:
    def __enter__(self): pass
    def __exit__(self, *error): pass
`,
  "transformers.py": `
from types import SimpleNamespace as Some
class Rows:
    shape = (4, 1, 2)
    def __init__(self, name): self.name = name
    def __getitem__(self, at): return self
    def transpose(self, a, b): return self
    def to(self, dtype): return self
    def contiguous(self): return self
class AutoTokenizer:
    def from_pretrained(name):
        if name == "none": raise OSError("none is no model\\nsee the hub")
        if name == "odd": raise ValueError("")
        return lambda text, return_tensors: Some(input_ids=Some(shape=(1, len(text))))
class AutoModelForCausalLM:
    def from_pretrained(name):
        cache = [(Rows(f"k{i}"), Rows(f"v{i}")) for i in range(3)]
        model = lambda ids, use_cache: Some(past_key_values=cache)
        return Some(eval=lambda: Model(model))
class Model:
    config = Some(num_hidden_layers=3, max_position_embeddings=6)
    def __init__(self, run): self.run = run
    def __call__(self, *args, **named): return self.run(*args, **named)
`,
  "safetensors/torch.py": `
import json
def save_file(tensors, out, metadata):
    json.dump([{name: rows.name for name, rows in tensors.items()}, metadata], open(out, "w"))
`,
};

/** A way to attend that no model takes. */
const UNUSED_SDPA = `
class AttentionInterface(dict):
    def __init__(self): self["sdpa"] = None
    def register(name, function): pass
`;

/** Why no Python runs here at all. */
function noPython(): string | undefined {
  try {
    return new Deno.Command(python, { args: ["--version"] }).outputSync().success
      ? undefined
      : `${python} fails`;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    return `there is no ${python} (or TOKENFILTER_PYTHON)`;
  }
}

Deno.test({
  ...unless(
    noPython(),
    "dump_kv.py dumps the layers asked for, and ends with a line and 2 for what it cannot",
  ),
  fn: () =>
    withFolder(async (folder) => {
      Deno.mkdirSync(`${folder}/lib/safetensors`, { recursive: true });
      for (const [file, code] of Object.entries(STAND_INS)) {
        Deno.writeTextFileSync(`${folder}/lib/${file}`, code);
      }
      Deno.writeTextFileSync(`${folder}/text.txt`, "sixsix");
      Deno.writeTextFileSync(`${folder}/long.txt`, "seven67");
      Deno.writeFileSync(`${folder}/latin.txt`, Uint8Array.of(0x66, 0xfc, 0x72));
      const script = `${import.meta.dirname}/../dump_kv.py`, out = `${folder}/out`;
      const dump = async (args: readonly string[], lib = `${folder}/lib`) => {
        const env = { PYTHONPATH: lib, PYTHONDONTWRITEBYTECODE: "1" };
        const { code, stdout, stderr } = await new Deno.Command(python, {
          args: ["-S", script, ...args],
          env,
        }).output();
        const [said, error] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes).trimEnd());
        return { code, said, error: error! };
      };
      const run = (text: string, ...layer: string[]) => dump(["m", `${folder}/${text}`, out, ...layer]);
      const written = () => JSON.parse(Deno.readTextFileSync(out));
      assertEquals(await run("text.txt"), {
        code: 0,
        said: `${out}: 4 tokens, 1 KV heads of 2, layer 0`,
        error: "",
      });
      assertEquals(written(), [{ keys: "k0", values: "v0" }, { model: "m", layer: "0" }]);
      const several = await run("long.txt", "--layer", "2,0,2");
      assertEquals(several.said, `${out}: 4 tokens, 1 KV heads of 2, layers 0,2`);
      assertEquals(several.error, "Warning: 7 tokens; the model was trained on 6");
      assertEquals(written(), [
        { "keys.0": "k0", "values.0": "v0", "keys.2": "k2", "values.2": "v2" },
        { model: "m", layer: "0,2" },
      ]);
      await run("text.txt", "--layer", "all");
      assertEquals(Object.keys(written()[0]).length, 6);

      const text = `${folder}/text.txt`;
      Deno.mkdirSync(`${folder}/eager`);
      Deno.writeTextFileSync(`${folder}/eager/transformers.py`, STAND_INS["transformers.py"] + UNUSED_SDPA);
      assertEquals(await dump(["m", text, out, "--queries"], `${folder}/eager:${folder}/lib`), {
        code: 2,
        said: "",
        error: 'Cannot dump queries: layer 0 of "m" has another attention than "sdpa"',
      });
      const cases: [string[], string][] = [
        [["m", text, out, "--layer", "3"], 'Cannot use --layer 3: the layers of "m" are 0 to 2'],
        [["m", text, out, "--layer", "0,3"], 'Cannot use --layer 0,3: the layers of "m" are 0 to 2'],
        [
          ["m", text, out, "--layer", "-1"],
          "Cannot use --layer -1: expected 0-based indices such as 0,3, or all",
        ],
        [
          ["m", text, out, "--layer", "1,x"],
          "Cannot use --layer 1,x: expected 0-based indices such as 0,3, or all",
        ],
        [["m", `${folder}/none`, out], `Cannot read "${folder}/none": No such file or directory`],
        [
          ["m", `${folder}/latin.txt`, out],
          `Cannot read "${folder}/latin.txt": found bytes that are not UTF-8`,
        ],
        [["m", text, folder], `Cannot write "${folder}": expected a file in a folder`],
        [["m", text, `${folder}/none/x`], `Cannot write "${folder}/none/x": expected a file in a folder`],
        [["none", text, out], 'Cannot load the model "none": none is no model'],
        [["odd", text, out], 'Cannot load the model "odd": ValueError'],
        [
          ["m", text, out, "--queries"],
          "Cannot dump queries: found transformers of no version, expected one with",
        ],
      ];
      for (const [args, expected] of cases) {
        const { code, said, error } = await dump(args);
        assertEquals([code, said, error.split("\n").length], [2, "", 1], error);
        assert(error.startsWith(expected), error);
      }
      const bare = await dump(["m", text, out], `${folder}/nothing`);
      assertEquals([bare.code, bare.error], [
        2,
        'Cannot run a model: found no module "torch", expected torch, transformers and safetensors',
      ]);
    }),
});

Deno.test({
  ...unless(
    lackOfPython(PACKAGES_OF_TINY),
    "dump_kv.py writes a dump that filter decides as the model's own layer",
  ),
  fn: () =>
    withFolder(async (folder) => {
      const text = "It was a dark night, and the rain fell upon the roofs of the town without ceasing. "
        .repeat(6);
      Deno.writeTextFileSync(`${folder}/text.txt`, text);
      const model = `${folder}/model`, dump = `${folder}/dump.safetensors`;
      await unpackTiny(model);
      const script = `${import.meta.dirname}/../dump_kv.py`;
      const said = await runPython(script, model, `${folder}/text.txt`, dump, "--layer", "2", "--queries");
      assert(!said.includes("%|"), "a bar of progress, where there is no terminal");
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

      // The same layer inside the toolkit. It stores the keys' rotary pairs in another order, which changes no cosine.
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

      // By the attention received, from the dump's queries.
      const judged = await runTask("filter", ...args, "--side", "key", "--kv-method", "received");
      assertEquals([judged.code, judged.stderr], [0, ""]);
      const side = { side: "key", kvFusion: "received", skipRatios } as const;
      const keys = loaded.start(createPruner("token-filtering", config, side));
      keys.feed(ids);
      assertEquals(JSON.parse(judged.stdout).kvKeep, [...keys.kvKeep.get(2)!]);

      // By how much outputs would change, from the dump's queries and head weights.
      const without = await runTask("filter", ...args, "--preset", "retrieval", "--recent", "32");
      assertEquals([without.code, without.stderr], [0, ""]);
      const preset = { preset: "retrieval", whole: "none", recent: 32, skipRatios } as const;
      const evicting = loaded.start(createPruner("token-filtering", config, preset));
      evicting.feed(ids);
      const expected = [...evicting.kvKeep.get(2)!];
      assertEquals(JSON.parse(without.stdout).kvKeep, expected);
      // Half of those between the warm-up and the recent window.
      assertEquals(expected.filter((kept) => kept === 0).length, (expected.length - 64 - 32) / 2);
    }),
});
