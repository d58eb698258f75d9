/** The inputs of each script of `.ci/`, and the scripts that have passed with the present sources. */
import { readEmulated } from "../../../ffi/build/emulated_testing.ts";
import { sourceKey } from "../../../ffi/sources.ts";
import { UsageError } from "../../../lib/errors.ts";
import { sha256 } from "../../../lib/sha256.ts";
import { listTree } from "../machine/checkout.ts";
import { readJson, writeWhole } from "../../commands/cli/files.ts";

const ROOT = new URL("../../..", import.meta.url).pathname.replace(/\/$/, "");
/** The committed digests, by script. */
const NOTED = ".ci/verified.json";

/** Inputs of a script besides its own text. */
interface Covered {
  /** Tracked files, by path from the root. */
  readonly files: RegExp;
  /** Digests of inputs that are more than files: a library's sources with their flags. */
  readonly keys?: () => Promise<readonly string[]>;
}

const emulatedKey = async () => await sha256(JSON.stringify([...(await readEmulated()).texts]));

/** Scripts of `.ci/`. */
const COVERED: Readonly<Record<string, Covered>> = {
  cuda: {
    files: /^ffi\/build\/(cuda|nvcc|resources)\.ts$|^experiments\/tools\/build\/table\.ts$/,
    keys: async () => [await sourceKey("cuda")],
  },
  emulated: {
    // Tests of the emulated kernels compare them with the reference, and run the model on them.
    files: new RegExp(
      "^(kernels|ffi)/(?!build/).*\\.ts$|^ffi/build/emulated_testing\\.ts$|" +
        "^lib/(model/run|reference|filter)/(?!.*_test\\.ts$)|^lib/(backend|batch_ops|dtype|tensor)\\.ts$|" +
        "^experiments/tools/(bench_gpu|test_gpu)|^\\.ci/fused$",
    ),
    keys: async () => [await emulatedKey()],
  },
  mutants: {
    files: /^kernels\/.*\.ts$|^ffi\/cuda\/(?!.*_test\.ts$).*\.ts$|^ffi\/build\/emulated_testing\.ts$/,
    keys: async () => [await emulatedKey()],
  },
  notebook: {
    files: /^notebooks\/01_.*|^experiments\/tools\/notebooks\/(?!.*_test\.ts$).*\.(py|ts|txt)$/,
    keys: () => Promise.resolve([Deno.version.deno]),
  },
  packages: {
    files:
      /^experiments\/tools\/(release(\/.*)?\.ts$|native_test|embed_testing|gpu_pack\/pack\.py)|^ffi\/(build\/|prebuilt)/,
    keys: async () => [await sourceKey("cpu")],
  },
  sanitize: {
    files:
      /^kernels\/(?!testing\/mutants\/).*\.ts$|^ffi\/(build\/emulated_testing\.ts$|(?!build\/|.*_cuda_test\.ts$).*\.ts$)/,
    keys: async () => [await sourceKey("cpu"), await emulatedKey()],
  },
};

/** Digest of a script's inputs, as they are in the tree. */
async function digestOf(script: string, root: string): Promise<string> {
  const { files, keys } = COVERED[script]!, texts: [string, string][] = [];
  for (const { from, to } of await listTree(root)) {
    if (files.test(to) || to === `.ci/${script}`) texts.push([to, await sha256(await Deno.readFile(from))]);
  }
  return (await sha256(JSON.stringify([texts, await keys?.()]))).slice(0, 16);
}

/** Names of the scripts whose sources differ from the committed digests. */
export async function findUnverified(root = ROOT): Promise<string[]> {
  const noted = await readJson(`${root}/${NOTED}`) as Record<string, unknown>, found: string[] = [];
  for (const script of Object.keys(COVERED)) {
    if (noted[script] !== await digestOf(script, root)) found.push(script);
  }
  return found;
}

/**
 * Notes scripts with their sources as they are.
 *
 * @param out Where the notes go; default: `.ci/verified.json`.
 * @throws {UsageError} If there is no such script.
 */
export async function noteVerified(scripts: readonly string[], root = ROOT, out = `${root}/${NOTED}`) {
  const noted = await readJson(`${root}/${NOTED}`) as Record<string, string>;
  for (const script of scripts) {
    if (!Object.hasOwn(COVERED, script)) {
      const known = Object.keys(COVERED).join(", ");
      throw new UsageError(`Cannot note "${script}": expected some of ${known}, separated by spaces`);
    }
    noted[script] = await digestOf(script, root);
  }
  const sorted = Object.fromEntries(Object.entries(noted).sort(([a], [b]) => a < b ? -1 : 1));
  await writeWhole(out, `${JSON.stringify(sorted, null, 2)}\n`);
}
