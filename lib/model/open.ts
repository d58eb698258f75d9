/** From the bytes of a model to a model that runs, on any runtime: no module on its way needs Deno or Node. */
import type { Backend } from "../backend.ts";
import { byteSize, CACHE_DTYPES, type CacheDType, WEIGHT_DTYPES, type WeightDType } from "../dtype.ts";
import {
  expectInstance,
  expectInteger,
  expectName,
  expectOptions,
  expectTypeOf,
  ModelFormatError,
  UsageError,
} from "../errors.ts";
import { sha256 } from "../sha256.ts";
import { escapeLine } from "../printable.ts";
import { countOf } from "../tensor.ts";
import type { ModelConfig } from "./config/config.ts";
import type { ConfigOptions, ModelSource } from "./config/config_reader.ts";
import { readModelConfig } from "./config/read_config.ts";
import { type Folder, memoryFolder, type ModelProgress } from "./formats/_byte_source.ts";
import { parseGguf } from "./formats/gguf.ts";
import { readHfFolder } from "./formats/hf_folder.ts";
import { checkWeights, loadWeights } from "./load_weights.ts";
import { Model } from "./model.ts";
import { tekkenAsHf } from "./tokenizer/_tekken.ts";
import { readTokenizerSettings } from "./tokenizer/_tokenizer_settings.ts";
import { Tokenizer } from "./tokenizer/tokenizer.ts";

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
  open(backend: Backend, options?: PlaceOptions): Model;
}

type PlaceOptions = Pick<OpenOptions, "cacheDType" | "onProgress">;

/** @internal Options of {@linkcode openModel}. */
export interface OpenOptions extends ConfigOptions {
  /** Element type of KV caches; default `"f32"`. */
  readonly cacheDType?: CacheDType;
  /**
   * Element type that matrices are turned into as they are loaded, rounded as ggml rounds; norms and biases stay f32.
   * Left out: each as the file has it.
   */
  readonly dtype?: WeightDType;
  /** Called after each tensor, with stage `load`. */
  readonly onProgress?: (progress: ModelProgress) => void;
  /** The model's name in reports and errors; default `"model"`. */
  readonly name?: string;
}

const OPTIONS: Record<keyof OpenOptions, true> = {
  cacheDType: true,
  dtype: true,
  onProgress: true,
  name: true,
  contextLength: true,
};

/** @throws {TypeError | RangeError} If one is of the wrong type, or out of range. */
export function checkOptions({ cacheDType, dtype, contextLength }: OpenOptions): void {
  if (cacheDType !== undefined) expectName("cacheDType", cacheDType, CACHE_DTYPES);
  if (dtype !== undefined) expectName("dtype", dtype, WEIGHT_DTYPES);
  if (contextLength !== undefined) expectInteger("contextLength", contextLength, 1);
}

/** A model's parts, as its file or folder has them. */
export interface ModelParts extends Pick<LoadedModel, "name" | "sha256" | "config" | "tokenizer"> {
  readonly source: ModelSource;
}

/** The parts of a folder as transformers saves it. */
export async function readFolder(
  folder: Folder,
  options: ConfigOptions,
): Promise<Omit<ModelParts, "name">> {
  const source = await readHfFolder(folder), config = readModelConfig(source, options);
  return { source, sha256: source.sha256, config, tokenizer: await readTokenizer(folder, config.vocabSize) };
}

/** The tokenizer of a folder: its tokenizer.json, else its tokenizer.model, else its tekken.json. */
async function readTokenizer(folder: Folder, vocabSize: number): Promise<Tokenizer> {
  const settings = await readTokenizerSettings(folder, vocabSize);
  const json = `${folder.path}/tokenizer.json`, text = await folder.text("tokenizer.json");
  if (text !== undefined) return Tokenizer.fromHf(json, text, settings);
  const model = `${folder.path}/tokenizer.model`, bytes = await folder.bytes("tokenizer.model");
  if (bytes !== undefined) return Tokenizer.fromSentencePiece(model, bytes, settings);
  const tekken = `${folder.path}/tekken.json`, own = await folder.text("tekken.json");
  if (own !== undefined) return Tokenizer.fromHf(tekken, tekkenAsHf(tekken, own), settings);
  throw new ModelFormatError(
    folder.path,
    "found no tokenizer.json, tokenizer.model or tekken.json, expected one: transformers writes it with AutoTokenizer.from_pretrained(…).save_pretrained(…)",
  );
}

/** Checks a model's parts against each other. @throws {ModelFormatError} If they do not fit. */
export function createModelFile(
  { name, sha256, source, config, tokenizer }: ModelParts,
  dtype?: WeightDType,
): ModelFile {
  if (tokenizer.vocabSize > config.vocabSize) {
    throw new ModelFormatError(
      source.file,
      `found ${tokenizer.vocabSize} tokens, expected at most the ${config.vocabSize} of the config's vocab_size`,
    );
  }
  const weights = checkWeights(source, config, dtype);
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
    return new Model(config, placed, backend, { ...options, textOf: (id) => tokenizer.texts([id])[0]! });
  };
  return { name: escapeLine(name), sha256, config, tokenizer, weights, open, ...(dtype && { dtype }) };
}

/** Puts a model on a backend and tries it; throws as {@linkcode openModel}. */
export function placeModel(
  { open, ...file }: ModelFile,
  backend: Backend,
  options: PlaceOptions,
): LoadedModel {
  expectTypeOf("backend", backend, "object");
  expectTypeOf("upload of the backend", backend.upload, "function");
  const model = open(backend, options);
  expectFinite({ name: file.name, model }, Int32Array.of(file.tokenizer.bosId ?? 0));
  return { ...file, model };
}

/**
 * Opens a model from bytes: those of a GGUF file, or of the files of a folder as Hugging Face transformers saves models
 * (config.json, safetensors, tokenizer.json, ...). It runs wherever TypeScript does; `loadModel` finds and reads files too.
 *
 * @param bytes The file's bytes, or those of each file by its name. Do not write to them while the model is in use.
 * @param backend Where it runs, such as `openWasm()` of `./wasm`. Weights are copied to it.
 * @throws {TypeError | RangeError} If an argument is of the wrong type, an option unknown or out of range, or the weights
 * do not fit into the backend's memory.
 * @throws {UsageError} If the model's logits are not finite.
 * @throws {ModelFormatError} If the bytes are no model, broken, or contain something that this project does not support.
 *
 * @example
 * ```ts
 * import { ReferenceBackend } from "@tokenfilter/tokenfilter";
 * import { openModel, resolveModel } from "@tokenfilter/tokenfilter/model";
 * const { bytes } = await resolveModel("tiny"); // in a browser: from a file, or fetched
 * const { config } = await openModel(bytes, new ReferenceBackend(), { name: "tiny" });
 * console.assert(config.numLayers === 10);
 * ```
 */
export async function openModel(
  bytes: Uint8Array<ArrayBuffer> | Readonly<Record<string, Uint8Array<ArrayBuffer>>>,
  backend: Backend,
  options: OpenOptions = {},
): Promise<LoadedModel> {
  expectTypeOf("bytes", bytes, "object");
  expectOptions(options, OPTIONS);
  checkOptions(options);
  const { name = "model", dtype } = options;
  let parts: Omit<ModelParts, "name">;
  if (bytes instanceof Uint8Array) {
    const source = parseGguf(bytes, name), config = readModelConfig(source, options);
    parts = { source, sha256: await sha256(bytes), config, tokenizer: Tokenizer.fromGguf(source) };
  } else {
    for (const [name, content] of Object.entries(bytes)) expectInstance(name, content, Uint8Array);
    parts = await readFolder(memoryFolder(name, bytes), options);
  }
  return placeModel(createModelFile({ name, ...parts }, dtype), backend, options);
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
