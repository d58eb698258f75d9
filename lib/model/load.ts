/** From a model's name to a model that runs. */
import type { Backend } from "../backend.ts";
import { expectOptions, expectTypeOf } from "../errors.ts";
import { readPlainText } from "../files.ts";
import type { ConfigOptions } from "./config/config_reader.ts";
import { readModelConfig } from "./config/read_config.ts";
import { diskFolder, watchFile } from "./formats/_disk.ts";
import { readGgufParts } from "./formats/gguf.ts";
import { locateModel, locatePath, MODEL_NAMES, type ResolveOptions } from "./hub/hub.ts";
import {
  checkOptions,
  createModelFile,
  type LoadedModel,
  type ModelFile,
  type ModelParts,
  type OpenOptions,
  placeModel,
  readFolder,
} from "./open.ts";
import { tekkenAsHf } from "./tokenizer/_tekken.ts";
import { Tokenizer, type TokenizerOrigin } from "./tokenizer/tokenizer.ts";

/** Options of {@linkcode loadModel}. */
export interface LoadOptions extends ResolveOptions, Omit<OpenOptions, "name"> {}

const OPTIONS: Record<keyof LoadOptions, true> = {
  cacheDType: true,
  dtype: true,
  contextLength: true,
  onProgress: true,
  mapFile: true,
  cacheDir: true,
  run: true,
  onNotice: true,
  endpoint: true,
  fetch: true,
  offline: true,
  hubCache: true,
  stallMs: true,
  retryMs: true,
};

/** Reads a model's file, so that a plan can be checked before a backend is opened; throws as {@linkcode loadModel}. */
export async function readModelFile(
  nameOrPath: string,
  options: Omit<LoadOptions, "cacheDType"> = {},
): Promise<ModelFile> {
  expectTypeOf("nameOrPath", nameOrPath, "string");
  expectOptions(options, OPTIONS);
  checkOptions(options);
  const path = await locatePath(nameOrPath, options), { mapFile, ...unmapped } = options;
  const checks: (() => void)[] = [];
  const map = mapFile && ((path: string) => (checks.push(watchFile(path)), mapFile(path)));
  // A tensor that is converted to another type is not shared, and mapped pages would stay in memory next to it.
  const reading = map && options.dtype === undefined ? { ...unmapped, mapFile: map } : unmapped;
  const isModelFolder = !MODEL_NAMES.includes(path) && await isFolder(path);
  const parts = await (isModelFolder ? openFolder(path, reading) : openFile(path, reading));
  const expectUnchanged = () => checks.forEach((check) => check());
  return { ...createModelFile(parts, options.dtype), ...(checks.length > 0 && { expectUnchanged }) };
}

async function openFile(nameOrPath: string, options: ResolveOptions & ConfigOptions): Promise<ModelParts> {
  const { name, source: first, more = [], sha256 } = await locateModel(nameOrPath, options);
  const source = readGgufParts([first, ...more]);
  const tokenizer = Tokenizer.fromGguf(source), config = readModelConfig(source, options);
  return { name, source, sha256, tokenizer, config };
}

async function openFolder(path: string, options: ResolveOptions & ConfigOptions): Promise<ModelParts> {
  const folder = path.replace(/[/\\]+$/, "");
  // In the hub's cache a folder has the name of a commit.
  const name = /models--[^/]*--([^/]+)\/snapshots\/[^/]+$/.exec(folder)?.[1] ?? folder.split(/[/\\]/).at(-1)!;
  return { name, ...await readFolder(diskFolder(folder, options), options) };
}

/** @internal Opens the tokenizer of a tokenizer.json or tekken.json, as another thread needs it. */
export async function reopenTokenizer({ file, settings }: TokenizerOrigin): Promise<Tokenizer> {
  const text = await readPlainText(file), isTekken = /[/\\]tekken\.json$/.test(file);
  return Tokenizer.fromHf(file, isTekken ? tekkenAsHf(file, text) : text, settings);
}

/** Whether a path is a folder. A path that cannot be examined is none, and is refused when it is read. */
function isFolder(path: string): Promise<boolean> {
  return Deno.stat(path).then(({ isDirectory }) => isDirectory, () => false);
}

/**
 * Loads a model: `"tiny"`, `"smollm2-135m"`, `"gemma3-270m"`, the path of a `.gguf` file (see
 * {@linkcode resolveModel}), or `org/name[@revision][:file]` of the Hugging Face hub. It also loads the path of a
 * folder as Hugging Face transformers saves models (config.json, safetensors, tokenizer.json).
 *
 * @throws {TypeError | RangeError} If an argument is of the wrong type, or an option unknown or out of range.
 * @throws {UsageError} If there is no such model, it cannot be obtained, or its logits are not finite.
 * @throws {ModelFormatError} If its file is broken, or contains something that this project does not support.
 *
 * @example
 * ```ts
 * import { loadModel, ReferenceBackend } from "@tokenfilter/tokenfilter";
 * const { tokenizer, config } = await loadModel("tiny", new ReferenceBackend());
 * console.assert(tokenizer.vocabSize === config.vocabSize);
 * ```
 */
export async function loadModel(
  nameOrPath: string,
  backend: Backend,
  options: LoadOptions = {},
): Promise<LoadedModel> {
  expectTypeOf("backend", backend, "object");
  return placeModel(await readModelFile(nameOrPath, options), backend, options);
}
