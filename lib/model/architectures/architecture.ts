/** The definition of a model architecture. */
import type { ModelConfig } from "../config/config.ts";
import type { ConfigReader, KeyValue } from "../config/config_reader.ts";
import type { ForwardPass } from "../run/forward_pass.ts";
import type { LayerWeights } from "../weights.ts";

/** Rows of a larger tensor of a file: where they begin, and its rows in all. */
type FusedRows = readonly [first: number, total: number];

export interface TensorSpec {
  /** Its name in GGUF files; for a block's tensor the part after `blk.<layer>.`. */
  readonly gguf: string;
  /** Its name in Hugging Face folders; for a block's tensor the part after `model.layers.<layer>.`. */
  readonly hf: string;
  /** Its shape, outermost dimension first. */
  readonly shape: readonly number[];
  /** Its element type, where only one will do; files may have 16-bit floats instead. */
  readonly dtype?: "f32";
  /** Where the file's tensor holds others as well: its rows there. */
  readonly fused?: FusedRows;
  /** Where rotary embedding turns its first dimension: the heads that lie there. Files may have pairs or halves. */
  readonly rotaryHeads?: number;
  /** Constant to add to a Hugging Face folder's values: 1 for norms that are stored as the difference from 1. */
  readonly hfOffset?: number;
}

interface FileForm {
  /** The architecture's name there: `general.architecture` or an entry of `architectures`. */
  readonly name: string;
  /** Keys, without a prefix, that change a model's computation, and the one value of each that changes nothing. */
  readonly neutralKeys: { readonly [key: string]: KeyValue };
  /** Keys, without a prefix, that describe how a model was made and do not affect its computation. */
  readonly informativeKeys: readonly string[];
}

/** An architecture: keys of its config, names of its tensors, and the computation of its blocks. */
export interface Architecture {
  readonly name: string;
  /**
   * Its GGUF files, where it has any. `rotary` is the order of their rows of queries and keys: rotary pairs side by
   * side, or first all first halves of a head's pairs.
   */
  readonly gguf?: (FileForm & { readonly rotary: "pairs" | "halves" }) | undefined;
  readonly hf: FileForm;
  /** Reads the sizes. Keys that it asks for count as known; every other one is an error, but for those listed. */
  readConfig(reader: ConfigReader): ModelConfig;
  /** Tensors outside the blocks. The output projection is the embedding if the config ties them. */
  modelTensors(config: ModelConfig): { readonly [name in "embedding" | "outputNorm" | "output"]: TensorSpec };
  layerTensors(config: ModelConfig): { readonly [name in keyof LayerWeights]: TensorSpec };
  readonly ForwardPass: typeof ForwardPass;
}
