/** From a model's name to a model that runs. */
import type { Backend } from "../backend.ts";
import type { CacheDType } from "../dtype.ts";
import { type ModelConfig, readModelConfig } from "./config.ts";
import { parseGguf } from "./formats/gguf.ts";
import { resolveModel, type ResolveOptions } from "./hub.ts";
import { Model } from "./model.ts";
import { Tokenizer } from "./tokenizer.ts";
import { loadWeights, uploadWeights } from "./weights.ts";

/** A model's file, read and checked, and what to call it in reports. */
export interface ModelFile {
  /** A known name, or the file's own name without its ending. */
  readonly name: string;
  /** SHA-256 of the file in hex. */
  readonly sha256: string;
  /** The model's sizes. */
  readonly config: ModelConfig;
  /** Text to token ids and back. */
  readonly tokenizer: Tokenizer;
  /** Puts the weights on a backend. @param cacheDType element type of KV caches; default `"f32"` */
  open(backend: Backend, options?: { readonly cacheDType?: CacheDType }): Model;
}

/** A model, its tokenizer, and what to call them in reports. */
export interface LoadedModel extends Omit<ModelFile, "open"> {
  /** The model on its backend. */
  readonly model: Model;
}

/** Options of {@linkcode loadModel}. */
export interface LoadOptions extends ResolveOptions {
  /** Element type of KV caches; default `"f32"`. */
  readonly cacheDType?: CacheDType;
}

/**
 * Reads a model's file, so that a plan can be checked before a backend is opened.
 *
 * @throws {UsageError | ModelFormatError} As {@linkcode loadModel}.
 */
export async function readModelFile(nameOrPath: string, options: ResolveOptions = {}): Promise<ModelFile> {
  const { name, path, bytes, sha256 } = await resolveModel(nameOrPath, options);
  const gguf = parseGguf(bytes, path);
  const config = readModelConfig(gguf);
  const tokenizer = Tokenizer.fromGguf(gguf);
  const weights = loadWeights(gguf, config);
  const open: ModelFile["open"] = (backend, options) =>
    new Model(config, uploadWeights(weights, backend), backend, options);
  return { name, sha256, config, tokenizer, open };
}

/**
 * Loads a model: `"tiny"`, `"smollm2-135m"` or the path of a `.gguf` file (see {@linkcode resolveModel}).
 *
 * @throws {UsageError} If there is no such model, or it cannot be obtained.
 * @throws {ModelFormatError} If its file is broken, or holds what this project does not know.
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
  const { open, ...file } = await readModelFile(nameOrPath, options);
  return { ...file, model: open(backend, options) };
}
