/** From a model's name to a model that runs. */
import type { Backend } from "../backend.ts";
import { byteSize, CACHE_DTYPES, type CacheDType, WEIGHT_DTYPES, type WeightDType } from "../dtype.ts";
import { ifThere } from "../cache.ts";
import {
  expectInteger,
  expectName,
  expectOptions,
  expectTypeOf,
  ModelFormatError,
  UsageError,
} from "../errors.ts";
import { readPlainFile, readPlainText } from "../files.ts";
import { countOf } from "../tensor.ts";
import type { ModelConfig } from "./config/config.ts";
import type { ConfigOptions } from "./config/config_reader.ts";
import { readModelConfig } from "./config/read_config.ts";
import { watchFile } from "./formats/_byte_source.ts";
import { readGgufParts } from "./formats/gguf.ts";
import { readHfFolder } from "./formats/hf_folder.ts";
import { locateModel, locatePath, MODEL_NAMES, type ResolveOptions } from "./hub/hub.ts";
import { Model } from "./model.ts";
import { tekkenAsHf } from "./tokenizer/_tekken.ts";
import { readTokenizerSettings } from "./tokenizer/_tokenizer_settings.ts";
import { Tokenizer } from "./tokenizer/tokenizer.ts";
import { checkWeights, loadWeights } from "./load_weights.ts";

/** A model, its tokenizer, and their names in reports. */
export interface LoadedModel {
  /** A known name, or the file's own name without its ending. */
  readonly name: string;
  /** SHA-256 of the file in hex. */
  readonly sha256: string;
  /** The model's sizes. */
  readonly config: ModelConfig;
  /** Text to token ids and back. */
  readonly tokenizer: Tokenizer;
  /** Element type that matrices are turned into; left out: as the file has them. */
  readonly dtype?: WeightDType;
  /** How many values the weights have, and the bytes that they take. */
  readonly weights: { readonly values: number; readonly bytes: number };
  /** The model on its backend. */
  readonly model: Model;
  /**
   * @internal Checks that the files are as they were read, where they stay mapped into memory.
   * @throws {ModelFormatError} If one was written to or cut short: later results may come from other weights.
   */
  readonly expectUnchanged?: () => void;
}

/** @internal A model's file, read and checked, and its name in reports. */
export interface ModelFile extends Omit<LoadedModel, "model"> {
  /** Reads the weights, one tensor after the other, and puts them on a backend. */
  open(backend: Backend, options?: OpenOptions): Model;
}

/** `onProgress` is called after each tensor, with stage `load`. */
export type OpenOptions = Pick<LoadOptions, "cacheDType" | "onProgress">;

/** Options of {@linkcode loadModel}. */
export interface LoadOptions extends ResolveOptions, ConfigOptions {
  /** Element type of KV caches; default `"f32"`. */
  readonly cacheDType?: CacheDType;
  /**
   * Element type that matrices are turned into as they are loaded, rounded as ggml rounds; norms and biases stay f32.
   * Left out: each as the file has it.
   */
  readonly dtype?: WeightDType;
}

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

/** @throws {TypeError | RangeError} If an option is unknown, of the wrong type, or out of range. */
function checkOptions(options: LoadOptions): void {
  expectOptions(options, OPTIONS);
  const { cacheDType, dtype, contextLength } = options;
  if (cacheDType !== undefined) expectName("cacheDType", cacheDType, CACHE_DTYPES);
  if (dtype !== undefined) expectName("dtype", dtype, WEIGHT_DTYPES);
  if (contextLength !== undefined) expectInteger("contextLength", contextLength, 1);
}

/** Reads a model's file, so that a plan can be checked before a backend is opened; throws as {@linkcode loadModel}. */
export async function readModelFile(
  nameOrPath: string,
  options: Omit<LoadOptions, "cacheDType"> = {},
): Promise<ModelFile> {
  expectTypeOf("nameOrPath", nameOrPath, "string");
  checkOptions(options);
  const path = await locatePath(nameOrPath, options), { mapFile, ...unmapped } = options;
  const checks: (() => void)[] = [];
  const map = mapFile && ((path: string) => (checks.push(watchFile(path)), mapFile(path)));
  // A tensor that is converted to another type is not shared, and mapped pages would stay in memory next to it.
  const reading = map && options.dtype === undefined ? { ...unmapped, mapFile: map } : unmapped;
  const { name, source, config, tokenizer, sha256 } = !MODEL_NAMES.includes(path) && await isFolder(path)
    ? await openFolder(path, reading)
    : await openFile(path, reading);
  if (tokenizer.vocabSize > config.vocabSize) {
    throw new ModelFormatError(
      source.file,
      `found ${tokenizer.vocabSize} tokens, expected at most the ${config.vocabSize} of the config's vocab_size`,
    );
  }
  const { dtype } = options, weights = checkWeights(source, config, dtype);
  const open: ModelFile["open"] = (backend, options) => {
    let doneBytes = 0;
    const placed = loadWeights(
      source,
      config,
      (tensor) => {
        doneBytes += byteSize(tensor.dtype, countOf(tensor.shape));
        options?.onProgress?.({ stage: "load", source: name, doneBytes, totalBytes: weights.bytes });
        return backend.upload(tensor);
      },
      dtype,
      backend.hostMemory,
    );
    return new Model(config, placed, backend, options);
  };
  const expectUnchanged = () => checks.forEach((check) => check());
  return {
    ...{ name, sha256, config, tokenizer, weights, open },
    ...(dtype && { dtype }),
    ...(checks.length > 0 && { expectUnchanged }),
  };
}

async function openFile(nameOrPath: string, options: ResolveOptions & ConfigOptions) {
  const { name, source: first, more = [], sha256 } = await locateModel(nameOrPath, options);
  const source = readGgufParts([first, ...more]);
  const tokenizer = Tokenizer.fromGguf(source), config = readModelConfig(source, options);
  return { name, source, sha256, tokenizer, config };
}

async function openFolder(path: string, options: ResolveOptions & ConfigOptions) {
  const folder = path.replace(/[/\\]+$/, ""), source = await readHfFolder(folder, options);
  const config = readModelConfig(source, options);
  const tokenizer = await readTokenizer(folder, config.vocabSize);
  // In the hub's cache a folder has the name of a commit.
  const name = /models--[^/]*--([^/]+)\/snapshots\/[^/]+$/.exec(folder)?.[1] ?? folder.split(/[/\\]/).at(-1)!;
  return { name, source, sha256: source.sha256, tokenizer, config };
}

/** The tokenizer of a folder: its tokenizer.json, else its tokenizer.model, else its tekken.json. */
async function readTokenizer(folder: string, vocabSize: number): Promise<Tokenizer> {
  const settings = await readTokenizerSettings(folder, vocabSize);
  const json = `${folder}/tokenizer.json`, text = await ifThere(readPlainText(json));
  if (text !== undefined) return Tokenizer.fromHf(json, text, settings);
  const model = `${folder}/tokenizer.model`, bytes = await ifThere(readPlainFile(model));
  if (bytes !== undefined) return Tokenizer.fromSentencePiece(model, bytes, settings);
  const tekken = `${folder}/tekken.json`, own = await ifThere(readPlainText(tekken));
  if (own !== undefined) return Tokenizer.fromHf(tekken, tekkenAsHf(tekken, own), settings);
  throw new ModelFormatError(
    folder,
    "found no tokenizer.json, tokenizer.model or tekken.json, expected one: transformers writes it with AutoTokenizer.from_pretrained(…).save_pretrained(…)",
  );
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
  expectTypeOf("upload of the backend", backend.upload, "function");
  const { open, ...file } = await readModelFile(nameOrPath, options), model = open(backend, options);
  expectFinite({ name: file.name, model }, Int32Array.of(file.tokenizer.bosId ?? 0));
  return { ...file, model };
}

/**
 * Tries a model on tokens.
 *
 * @throws {UsageError} If a logit is not finite: all other results of the model would be meaningless.
 */
export function expectFinite(
  { name, model }: Pick<LoadedModel, "name" | "model">,
  ids: Int32Array<ArrayBuffer>,
): void {
  const { backend, config } = model, sequence = model.start();
  const hidden = sequence.feed(ids), logits = model.logits(hidden);
  const { data } = backend.read(logits), broken = data.findIndex((logit) => !Number.isFinite(logit));
  backend.free(logits);
  backend.free(hidden);
  sequence.free();
  if (broken < 0) return;
  const token = Math.floor(broken / config.vocabSize), found = `a logit of ${data[broken]}`;
  throw new UsageError(
    `Cannot use the model "${name}": found ${found} after token ${token}, expected finite numbers ` +
      "(are its weights whole?)",
  );
}
