/** From a model's name to a model that runs. */
import type { Backend } from "../backend.ts";
import type { CacheDType } from "../dtype.ts";
import { type ModelConfig, readModelConfig } from "./config.ts";
import { parseGguf } from "./formats/gguf.ts";
import { resolveModel, type ResolveOptions } from "./hub.ts";
import { Model } from "./model.ts";
import { Tokenizer } from "./tokenizer.ts";
import { loadWeights, uploadWeights } from "./weights.ts";

/** A model, its tokenizer, and what to call them in reports. */
export interface LoadedModel {
  /** A known name, or the file's own name without its ending. */
  readonly name: string;
  /** SHA-256 of the file in hex. */
  readonly sha256: string;
  /** The model's sizes. */
  readonly config: ModelConfig;
  /** Text to token ids and back. */
  readonly tokenizer: Tokenizer;
  /** The model on its backend. */
  readonly llama: Model;
}

/** Options of {@linkcode loadModel}. */
export interface LoadOptions extends ResolveOptions {
  /** Element type of KV caches; default `"f32"`. */
  readonly cacheDType?: CacheDType;
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
  const { name, path, bytes, sha256 } = await resolveModel(nameOrPath, options);
  const gguf = parseGguf(bytes, path);
  const config = readModelConfig(gguf);
  const tokenizer = Tokenizer.fromGguf(gguf);
  const weights = uploadWeights(loadWeights(gguf, config), backend);
  return { name, sha256, config, tokenizer, llama: new Model(config, weights, backend, options) };
}
