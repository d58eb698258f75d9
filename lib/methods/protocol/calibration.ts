/** Inputs and results of offline pruning: a model on a calibration text, and the changes to the model. */
import type { CostShape } from "../../cost.ts";
import type { HostTensor } from "../../tensor.ts";

/** @internal A text that methods are fitted on. */
export interface Calibration {
  /** Whether it is of the test text's kind. */
  readonly domain: "same domain" | "other";
  readonly sha256: string;
  /** Its token ids, in pieces that are run apart, each at least two. */
  readonly chunks: readonly Int32Array<ArrayBuffer>[];
  /** Called between the steps of a fit, during which the event loop has no turn; an error of it ends the fit. */
  readonly onStep?: () => void;
}

/** @internal Parts of a model that are left out. */
export interface DroppedParts {
  /** 0-based indices of layers without attention: they hold no keys and values either. */
  readonly attention: readonly number[];
  readonly mlp: readonly number[];
  /** The first token for which they are left out; those before it run dense. Default 0. */
  readonly from?: number;
}

/** One number per layer: 1 less the mean cosine, over calibration tokens, of the stream before and after the part. */
export interface PartImportance {
  /** Importance of attention with its norm ("What Matters in Transformers"). */
  readonly attention: readonly number[];
  /** Importance of the MLP with its norm, on the stream that the layer's attention leaves. */
  readonly mlp: readonly number[];
  /** Importance of the whole layer: block influence (ShortGPT). */
  readonly block: readonly number[];
}

export interface LayerAlteration {
  /** KV heads that stay with their query heads, ascending, at least one. Default: all. */
  readonly groups?: readonly number[];
  /** Channels of the MLP that stay, ascending, at least one. Default: all. */
  readonly channels?: readonly number[];
  /** Tensors by name that replace the model's, or are added; heads and channels are removed after that. */
  readonly tensors?: { readonly [name: string]: HostTensor };
}

export interface Alteration {
  readonly drops?: Partial<Pick<DroppedParts, "attention" | "mlp">>;
  /** One entry per layer; default: nothing. */
  readonly layers?: readonly LayerAlteration[];
}

/** Called with the rows that enter a matrix of a layer, [count, columns] f32, a copy. */
export type SeeRows = (layer: number, name: string, rows: Float32Array, count: number) => void;

/** A layer on the output of the altered layers before it. */
interface LayerVisit {
  /** Takes rows that enter one of its matrices, [count, columns] f32, a copy. */
  see(name: string, rows: Float32Array, count: number): void;
  close(): LayerAlteration;
}

export interface CalibratedModel {
  readonly config: CostShape;
  /** How much each part turns the residual stream. */
  readonly importance: PartImportance;
  /**
   * Mean losses on the calibration text without the removed layers and one candidate more, for each; nats per token.
   */
  lossesWithout(gone: readonly number[], candidates: readonly number[]): number[];
  /** A matrix of a layer, [rows, columns] f32, a copy. */
  matrix(layer: number, name: string): HostTensor;
  /** The bias next to such a matrix, where there is one. */
  bias(layer: number, name: string): Float32Array | undefined;
  /** Runs the calibration text. @param names matrices whose inputs are to be seen */
  run(names: readonly string[], see: SeeRows): void;
  /** Visits the layers in their order, each on the output of the altered ones before it. @param names as of `run` */
  walk(names: readonly string[], open: (layer: number) => LayerVisit): Alteration;
}

/** @internal How a pruner alters a model. */
export interface Alters {
  /** Pruners with the same one alter a model alike. */
  readonly key: string;
  readonly calibration: Calibration;
  alter(model: CalibratedModel): Alteration;
}

/** A record's fields about the process's own calibration text; none where there is no such text. */
export function recordCalibration(): { readonly calibrationSha256?: string; readonly calibration?: string } {
  if (own === undefined) return {};
  const tokens = own.chunks.reduce((sum, { length }) => sum + length, 0);
  return { calibrationSha256: own.sha256, calibration: `${own.domain}, ${tokens} tokens` };
}

/** Statistics of a sequence's own first tokens. */
export interface SeenPrompt extends Pick<CalibratedModel, "config" | "matrix"> {
  moments(layer: number, name: string): { readonly meanSquares: Float64Array };
}

/** @internal How a pruner alters the model for the tokens of a sequence behind its warm-up: heads stay, as the cache has them. */
export interface Adapts {
  readonly names: readonly string[];
  alter(seen: SeenPrompt): readonly LayerAlteration[];
}

let own: Calibration | undefined;

export function ownCalibration(): Calibration | undefined {
  return own;
}

/** Sets the calibration text of offline methods that are given none; none takes it away. For a process that runs one command. */
export function setCalibration(next: Calibration | undefined): void {
  own = next;
}
