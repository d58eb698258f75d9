/**
 * Model files, and texts that a model makes: names, GGUF and safetensors, sampling, conversations.
 *
 * ```ts
 * import { parseGguf, readModelConfig, resolveModel } from "@tokenfilter/tokenfilter/model";
 * const { bytes, path } = await resolveModel("tiny");
 * const { numLayers, numHeads } = readModelConfig(parseGguf(bytes, path));
 * console.assert(numLayers === 10 && numHeads % 2 === 0);
 * ```
 * @module
 */
export {
  type ChatMessage,
  generateTokens,
  MODEL_NAMES,
  openModel,
  parseGguf,
  parseSafetensors,
  readModelConfig,
  renderChat,
  resolveModel,
  Sampler,
  type SamplingOptions,
  writeSafetensors,
} from "../model/mod.ts";
