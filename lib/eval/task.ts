/**
 * An evaluation task: on a text, on items from a file, or on generated items. It opens on a model and data, and scores
 * them unit by unit (chunks of a text, or items), dense and with any method.
 */
import type { Pruner } from "../methods/protocol/pruner.ts";
import type { Tokenizer } from "../model/tokenizer/tokenizer.ts";
import type { SequenceUsage } from "../model/run/usage.ts";
import type { BlockSums } from "../stats/paired.ts";
import type { EncodedItem } from "./items/encoded_item.ts";
import type { ItemSource } from "./items/item_source.ts";
import type { EvaluatedModel } from "./language_model.ts";
import type { TaskMeasures, UnitMetrics } from "./metrics.ts";
import type { DropCounts, SkipCounts, SkipRatios } from "./skip_ratio.ts";

/** @internal A method on a model: one for every context, or one for each context length in tokens. */
export type Filter = Pruner | ((contextTokens: number) => Pruner);

/** The results of a run for one chunk, in a form that can be written to a file; the run's result follows from them. */
export interface ChunkRecord {
  /** 0-based index of the chunk. */
  readonly chunk: number;
  /** Losses of the scored units and the task's other numbers of them, by name. */
  readonly scores: { readonly [name: string]: readonly number[] };
  readonly skips: SkipCounts;
  /** Keys and values that a rule of their own dropped; left out where there is none. */
  readonly drops?: DropCounts;
  readonly usage: SequenceUsage;
  /**
   * Wall time of its forward pass, without logits. Parts that other runs have computed count with the time they took
   * then.
   */
  readonly timeMs: number;
}

/** How a run may be watched and stopped. A chunk, of a text or an item, is computed without a break. */
export interface RunControl {
  /** Stops the run between two chunks; the run then throws the signal's reason. */
  readonly signal?: AbortSignal | undefined;
  /** Called after each chunk. */
  readonly onChunk?: (done: number, total: number) => void;
  /**
   * Called with each chunk's losses, one per scored unit (a token, or an item), and the full model's of the same units.
   * The order is that in which chunks are read. Paired statistics are made of them. `metrics` are the task's others
   * that every unit has, by name; for the full model those that are no distances from it.
   */
  readonly onLosses?: (
    chunk: number,
    losses: Float64Array,
    denseLosses: Float64Array,
    metrics: UnitMetrics,
  ) => void;
  /** Chunks that were finished before, by index: they are taken as they are. */
  readonly finished?: ReadonlyMap<number, ChunkRecord>;
  /** Called with each other chunk's record as it ends. */
  readonly onRecord?: (record: ChunkRecord) => void;
  /** The order in which a pruner's run reads the chunks, each once; default ascending. The result does not depend on it. */
  readonly order?: readonly number[];
}

/** The results of any task for the full model. Its own metrics are next to it: the headline and the mean loss. */
export interface DenseTaskResult {
  /** Tokens fed. */
  readonly tokens: number;
  /** Units whose loss counts: tokens, or items. */
  readonly scoredTokens: number;
  readonly chunks: number;
  /** Tokens per chunk; of the longest where they differ. */
  readonly context: number;
  /** Wall time of the forward passes of all chunks, without logits. */
  readonly timeMs: number;
  /** Bytes of keys and values that one chunk's cache holds at its end; mean over chunks. */
  readonly kvBytesHeld: number;
  /** Bytes that are allocated for them, likewise. */
  readonly kvBytesAllocated: number;
  /** FLOPs of attention over all chunks. */
  readonly attentionFlops: number;
  /** FLOPs of everything over all chunks. */
  readonly totalFlops: number;
  /** Main metric of random guessing; for items with choices. */
  readonly chance?: number;
  /** Its losses, as of {@linkcode TaskResult.lossBlocks}. */
  readonly lossBlocks: BlockSums;
}

/**
 * The results of any task for a filtered model. In the usage, bytes are those of one chunk's cache at its end (mean over
 * chunks), and operations are summed over all chunks. Further fields have the task's own names: the headline
 * (`perplexity`), the full model's (`densePerplexity`), the paired difference of the mean loss (`nllDelta`), its standard
 * error (`nllDeltaSe`), and further metrics. The standard error is null where there are fewer than two blocks.
 */
export interface TaskResult
  extends SkipRatios, SequenceUsage, Pick<DenseTaskResult, "tokens" | "scoredTokens"> {
  /**
   * Compression ratio: keys and values evicted by a rule of their own, of those decided after the warm-up, over all layers; null
   * where there is no such rule, or none was decided.
   */
  readonly kvAchievedRatio: number | null;
  /** The same of each layer, [numLayers]; left out where there is no such rule. */
  readonly dropRatioPerLayer?: readonly (number | null)[];
  /**
   * Layers that kept every key and value, ascending: those that the option `whole` lists or, where it is auto, those that
   * the probe has found. Left out where there is none.
   */
  readonly wholeLayers?: readonly number[];
  /** KV heads of other layers that did, `layer.head`. */
  readonly wholeHeads?: readonly string[];
  /**
   * Wall time of the filtered forward passes, without logits. It includes the dense layers below the first filtered one
   * and the rows of warm-ups, which are timed once and reused by every run.
   */
  readonly timeMs: number;
  /** The full model's wall time on the same chunks. */
  readonly denseTimeMs: number;
  /** Losses summed over blocks of {@linkcode BLOCK_UNITS}, to eight digits, for pairing two runs. */
  readonly lossBlocks: BlockSums;
}

/** The label of a result of a task: see {@linkcode Task.label}. */
export function labelOf({ name, label }: Pick<Task, "name" | "label">, context: number): string {
  return label?.(context) ?? `${name} at ${context}`;
}

/** @internal The data that a task is opened on. */
export interface TaskData {
  readonly text: string;
  /** Token ids of the whole text, [N], BOS at the front where the tokenizer adds one. */
  readonly ids: Int32Array;
  readonly context: number;
  /** The model's tokenizer, for a task that brings its own texts. */
  readonly tokenizer: Tokenizer;
  /** The items, of a task that has some. */
  readonly items?: readonly EncodedItem[];
  /** Bytes of the full model's states and logits that may be kept from run to run; default: 1 GiB. */
  readonly cacheBytes?: number;
}

/** @internal The types of a task's records. */
export interface TaskTypes {
  readonly dense: DenseTaskResult;
  readonly filtered: TaskResult;
  /** Fields that the task adds to a method's row in a comparison. */
  readonly compared: object;
}

/** @internal A task on a model and data. */
export interface Evaluation<T extends TaskTypes = TaskTypes> {
  /**
   * Runs the full model, once; later calls return the first result, and call `onLosses` with its losses again.
   *
   * @throws {RangeError} If a loss is not finite: the model's weights are broken.
   */
  dense(control?: RunControl): Promise<T["dense"]>;
  /**
   * Runs a method on every unit and compares it with the full model.
   *
   * @throws {DOMException} The signal's reason, if it is aborted between two units.
   * @throws {RangeError} If a loss is not finite.
   */
  run(filter: Filter, control?: RunControl): Promise<T["filtered"]>;
}

/** An evaluation task. Adding one is a file in `tasks/` and a line in `tasks/mod.ts`. */
export interface Task<T extends TaskTypes = TaskTypes> extends TaskMeasures {
  /** Its name: that of `--task`, and of `task` in records. */
  readonly name: string;
  /** One line of help. */
  readonly help: string;
  /** How its numbers come about, in words. */
  readonly protocol: string;
  /**
   * The protocol in few words, for chunks of `context` tokens: only results of one label can be compared with each other.
   * Default: name and tokens.
   */
  readonly label?: (context: number) => string;
  /** Whether a text is one chunk, whatever the tokens per chunk that were asked for. */
  readonly isWhole?: boolean;
  /** The source of its items, and the metrics of each; left out: it reads a text. */
  readonly items?: ItemSource;
  /**
   * Prepares an evaluation; nothing is computed yet. Items need a model whose sequences branch.
   *
   * @throws {RangeError} If the data do not suffice.
   */
  open(model: EvaluatedModel, data: TaskData): Evaluation<T>;
}
