/** Scripts in Python, for tests. */
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

/** Runs python, without a GPU or a network, and fails if it fails. It leaves nothing next to the scripts. */
export async function runPython(...args: string[]): Promise<void> {
  const env = { CUDA_VISIBLE_DEVICES: "", HF_HUB_OFFLINE: "1", PYTHONDONTWRITEBYTECODE: "1" };
  const { success, stderr } = await new Deno.Command(python, { args, env }).output();
  assert(success, new TextDecoder().decode(stderr));
}
