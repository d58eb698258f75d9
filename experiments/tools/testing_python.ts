/** Scripts in Python, for tests. */
import { fileURLToPath } from "node:url";
import { assert } from "@std/assert";

/** The interpreter: `TOKENFILTER_PYTHON`, or the first one in the path. */
export const python = Deno.env.get("TOKENFILTER_PYTHON") || "python3";

/** The reason why a script that imports these packages cannot run here; undefined if it can. */
export function lackOfPython(packages: readonly string[]): string | undefined {
  const code = "import importlib.util as u, sys; sys.exit(any(u.find_spec(m) is None for m in sys.argv[1:]))";
  try {
    if (new Deno.Command(python, { args: ["-c", code, ...packages] }).outputSync().success) return undefined;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return `${python} (or TOKENFILTER_PYTHON) lacks one of ${packages.join(", ")}`;
}

/**
 * Runs python, without a GPU or a network, and fails if it fails. It leaves nothing next to the scripts.
 *
 * @returns What it wrote to stderr.
 */
export async function runPython(...args: string[]): Promise<string> {
  const env = { CUDA_VISIBLE_DEVICES: "", HF_HUB_OFFLINE: "1", PYTHONDONTWRITEBYTECODE: "1" };
  const { success, stderr } = await new Deno.Command(python, { args, env }).output();
  const said = new TextDecoder().decode(stderr);
  assert(success, said);
  return said;
}

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
/** Packages that {@linkcode unpackTiny} needs. */
export const PACKAGES_OF_TINY: readonly string[] = [
  "torch",
  "transformers",
  "safetensors",
  "gguf",
  "accelerate",
];

/** Writes the model `tiny` as a folder that transformers loads. */
export async function unpackTiny(out: string): Promise<void> {
  const folder = fileURLToPath(new URL("../../lib/model/tiny", import.meta.url));
  await runPython("-c", UNPACK, folder, "tiny-llama-4.8m.Q8_0.gguf", out);
}
