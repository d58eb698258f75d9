/** What sets a model architecture apart. */
import type { ConfigReader, KeyValue, ModelConfig } from "../config.ts";
import type { ForwardPass } from "../forward_pass.ts";
import type { LayerWeights, ModelWeights } from "../weights.ts";

/** A tensor of a file. */
export interface TensorSpec {
  /** Its name in GGUF files; of a block's tensor what follows `blk.<layer>.`. */
  readonly gguf: string;
  /** Its shape, outermost dimension first. */
  readonly shape: readonly number[];
  /** Its element type, where only one will do. */
  readonly dtype?: "f32";
}

/** An architecture: keys of its config, names of its tensors, and what its blocks compute. */
export interface Architecture {
  /** As `general.architecture` of a GGUF file says it; its keys begin with it and a dot. */
  readonly name: string;
  /** Reads the sizes. Keys that it asks for count as known; every other one is an error, but for those below. */
  readConfig(reader: ConfigReader): ModelConfig;
  /** Keys, without the prefix, that change what a model computes, and the one value of each that changes nothing. */
  readonly neutralKeys: { readonly [key: string]: KeyValue };
  /** Keys, without the prefix, that say how a model was made, not what it computes. */
  readonly informativeKeys: readonly string[];
  /** Tensors outside the blocks; the output projection is the embedding where the config says so. */
  modelTensors(config: ModelConfig): { readonly [name in Exclude<keyof ModelWeights, "layers">]: TensorSpec };
  /** Tensors of one block. */
  layerTensors(config: ModelConfig): { readonly [name in keyof LayerWeights]: TensorSpec };
  /** Its forward pass. */
  readonly ForwardPass: typeof ForwardPass;
}
