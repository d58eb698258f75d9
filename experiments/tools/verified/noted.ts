/**
 * The inputs of each script of `.ci/`, and the scripts that have passed with the present sources. Scripts that test
 * kernels are verified op by op: `mutants:linear` is the part of `.ci/mutants` about `kernels/linear`, and
 * `emulated:others` is the part about all other tests.
 */
import { readEmulated } from "../../../ffi/build/emulated_testing.ts";
import { includesOf, type LibrarySources, readSources, sourceKey } from "../../../ffi/sources.ts";
import { UsageError } from "../../../lib/errors.ts";
import { sha256 } from "../../../lib/sha256.ts";
import { listTree, type PackedFile } from "../machine/checkout.ts";
import { readJson, writeWhole } from "../../commands/cli/files.ts";

const ROOT = new URL("../../..", import.meta.url).pathname.replace(/\/$/, "");
/** The committed digests, by script or part. */
const NOTED = ".ci/verified.json";
/** The part of a script about everything outside the folders of ops. */
const OTHERS = "others";

/** Inputs of a script besides its own text. */
interface Covered {
  /** Tracked files, by path from the root. */
  readonly files: RegExp;
  /** Digests of inputs that are more than files: a library's sources with their flags. */
  readonly keys?: () => Promise<readonly string[]>;
  /** The native sources of a script that is verified op by op. */
  readonly kernels?: () => Promise<readonly LibrarySources[]>;
  /** Whether all of it concerns ops. */
  readonly hasNoOthers?: true;
}

const emulated = async () => [await readEmulated()];

/** Scripts of `.ci/`. */
const COVERED: Readonly<Record<string, Covered>> = {
  cuda: {
    files:
      /^ffi\/(sources\.ts|build\/(cuda|nvcc|resources)\.ts)$|^experiments\/tools\/build\/(table|compile)\.ts$/,
    kernels: async () => [await readSources("cuda")],
  },
  emulated: {
    // Tests of the emulated kernels compare them with the reference, and run the model on them.
    files: new RegExp(
      "^(kernels|ffi)/(?!build/).*\\.ts$|^ffi/build/emulated_testing\\.ts$|" +
        "^lib/(model/run|reference|filter)/(?!.*_test\\.ts$)|^lib/(backend|batch_ops|dtype|tensor)\\.ts$|" +
        "^experiments/tools/(bench_gpu|test_gpu)|^\\.ci/fused$",
    ),
    kernels: emulated,
  },
  mutants: {
    files: /^kernels\/.*\.ts$|^ffi\/cuda\/(?!.*_test\.ts$).*\.ts$|^ffi\/build\/emulated_testing\.ts$/,
    kernels: emulated,
    hasNoOthers: true,
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
    kernels: async () => [await readSources("cpu"), await readEmulated()],
  },
};

/** The folder in `kernels/` that holds a file, by its path from the root. */
const folderOf = (path: string) => /^kernels\/(\w+)\//.exec(path)?.[1];

/** The tree that digests are of. */
interface Tree {
  readonly files: readonly PackedFile[];
  /** Folders of ops, each with those whose tests and helpers its own import, directly or not. */
  readonly ops: ReadonlyMap<string, ReadonlySet<string>>;
}

async function readTree(root: string): Promise<Tree> {
  const files = await listTree(root);
  const ops = files.flatMap(({ to }) => /^kernels\/(\w+)\/\1\.def$/.exec(to)?.[1] ?? []);
  const imported = new Map<string, Set<string>>(ops.map((op) => [op, new Set([op])]));
  for (const { from, to } of files) {
    const own = imported.get(folderOf(to) ?? "");
    if (own === undefined || !to.endsWith(".ts")) continue;
    const text = await Deno.readTextFile(from);
    for (const [, op] of text.matchAll(/from "\.\.\/(\w+)\//g)) if (imported.has(op!)) own.add(op!);
  }
  // A set grows while it is walked through.
  for (const own of imported.values()) {
    for (const op of own) imported.get(op)!.forEach((next) => own.add(next));
  }
  return { files, ops: imported };
}

/** The parts of a script that are verified by themselves; of most scripts one, the whole. */
function partsOf(script: string, { ops }: Tree): string[] {
  const { kernels, hasNoOthers } = COVERED[script]!;
  if (kernels === undefined || ops.size === 0) return [script];
  return [...ops.keys(), ...(hasNoOthers ? [] : [OTHERS])].map((part) => `${script}:${part}`);
}

/** Native sources of an op: its folder, and what its units include; of everything else all sources. */
function nativeSources({ units, texts }: LibrarySources, op: string | undefined): [string, string][] {
  if (op === undefined) return [...texts];
  const own = units.filter((unit) => unit.startsWith(`${op}/`));
  const included = new Set(own.flatMap((unit) => includesOf(texts, unit)));
  return [...texts].filter(([path]) => path.startsWith(`${op}/`) || included.has(path));
}

/** Digest of the inputs of a script or part, as they are in the tree. */
async function digestOf(name: string, { files, ops }: Tree): Promise<string> {
  const [script, part] = name.split(":") as [string, string?],
    { files: pattern, keys, kernels } = COVERED[script]!;
  const op = part === OTHERS ? undefined : part, imported = ops.get(op ?? "");
  const texts: [string, string][] = [];
  for (const { from, to } of files) {
    const folder = folderOf(to) ?? "",
      isOther = imported !== undefined && ops.has(folder) && !imported.has(folder);
    const isCovered = pattern.test(to) && !isOther || to === `.ci/${script}`;
    if (isCovered) texts.push([to, await sha256(await Deno.readFile(from))]);
  }
  const more = await keys?.() ?? (await kernels!()).map((sources) => nativeSources(sources, op));
  return (await sha256(JSON.stringify([texts, more]))).slice(0, 16);
}

/**
 * Scripts, or parts of them, whose sources differ from the committed digests. A script stands for all of its parts.
 *
 * @example `["cuda", "mutants:linear"]`
 */
export async function findUnverified(root = ROOT): Promise<string[]> {
  const noted = await readJson(`${root}/${NOTED}`) as Record<string, unknown>, tree = await readTree(root);
  const found: string[] = [];
  for (const script of Object.keys(COVERED)) {
    const parts = partsOf(script, tree), due: string[] = [];
    for (const part of parts) if (noted[part] !== await digestOf(part, tree)) due.push(part);
    found.push(...due.length === parts.length ? [script] : due);
  }
  return found;
}

/**
 * Notes scripts or parts of them with their sources as they are.
 *
 * @param out Where the notes go; default: `.ci/verified.json`.
 * @throws {UsageError} If there is no such script or part.
 */
export async function noteVerified(names: readonly string[], root = ROOT, out = `${root}/${NOTED}`) {
  const noted = await readJson(`${root}/${NOTED}`) as Record<string, string>, tree = await readTree(root);
  const parts = new Map(Object.keys(COVERED).map((script) => [script, partsOf(script, tree)]));
  const known = new Set([...parts.values()].flat());
  for (const name of names) {
    const own = parts.get(name) ?? [name], unknown = own.find((part) => !known.has(part));
    if (unknown !== undefined) {
      const expected = `${
        [...parts.keys()].join(", ")
      }, or parts such as mutants:linear, separated by spaces`;
      throw new UsageError(`Cannot note "${unknown}": expected some of ${expected}`);
    }
    for (const part of own) noted[part] = await digestOf(part, tree);
  }
  const sorted = Object.entries(noted).filter(([part]) => known.has(part)).sort(([a], [b]) => a < b ? -1 : 1);
  await writeWhole(out, `${JSON.stringify(Object.fromEntries(sorted), null, 2)}\n`);
}
