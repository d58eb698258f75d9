/** The work of a part of a recipe, counted before it runs: layers and logits of tokens, of the full model and of each method. */
import { attentionFlops, mlpFlops, outputFlops, windowPairs } from "../../../lib/cost.ts";
import { OFFLINE } from "../../../lib/methods/list.ts";
import { filteredLayers } from "../../../lib/methods/protocol/pruner.ts";
import type { ModelConfig } from "../../../lib/model/config/config.ts";
import type { NamedMethod } from "../../../lib/sweep/compare/compared_methods.ts";
import { tryMethod } from "../cli/machine/retrieval.ts";

/** Bytes of the full model's states that are kept from method to method, at most. */
const KEPT_BYTES = 2 ** 30;

/** The sequences of a part. */
export interface Sequences {
  readonly count: number;
  /** Tokens of each. */
  readonly length: number;
  /** Tokens of each whose logits are computed. */
  readonly scored: number;
  /** Whether the full model's states are shared by the methods of a ratio: those of a text are, those of items are not. */
  readonly isText: boolean;
}

/** Work in sequences of one length. */
export interface Workload {
  readonly length: number;
  /** Layers of whole sequences. */
  readonly layers: number;
  /** Tokens whose logits are computed. */
  readonly logits: number;
}

/** The first layer that a method computes by itself: those that alter the model have none that is the full model's. */
const firstLayer = (config: ModelConfig, { options }: NamedMethod) =>
  OFFLINE.some(({ name }) => name === options.fusion)
    ? 0
    : filteredLayers(tryMethod(config, options))[0] ?? 0;

const clip = (fraction: number) => Math.min(1, Math.max(0, fraction));

/** Bytes of the full model's states that are kept at a time, for methods of one ratio. */
function keptShares(config: ModelConfig, { count, length }: Sequences, starts: number) {
  const states = 4 * count * length * config.hiddenSize * (1 + starts),
    logits = 4 * count * length * config.vocabSize;
  return {
    states: clip(KEPT_BYTES / states),
    logits: clip((KEPT_BYTES - states) / logits),
    bytes: Math.min(KEPT_BYTES, states + logits),
  };
}

/**
 * Counts the work of a part: the full model once, then the methods, ratio by ratio. The methods of a ratio share the full
 * model's states as far as they are kept; those of items begin with each item again.
 *
 * @returns The work, and the most bytes of states that are kept at a time.
 */
export function countWork(
  config: ModelConfig,
  methods: readonly NamedMethod[],
  sequences: Sequences,
): Workload & { readonly keptBytes: number } {
  const { count, length, scored, isText } = sequences, { numLayers } = config;
  let layers = (count + 1) * numLayers, logits = count * scored, keptBytes = 0;
  for (const group of Map.groupBy(methods, ({ asked }) => asked).values()) {
    if (!isText) {
      layers += group.length * count * numLayers;
      logits += group.length * count * scored;
      continue;
    }
    const starts = Map.groupBy(group, (method) => firstLayer(config, method));
    const kept = keptShares(config, sequences, [...starts.keys()].filter((start) => start > 0).length);
    /** How often a state is computed that a number of runs need. */
    const times = (runs: number, share: number) => runs * (1 - share) + share;
    layers += count * numLayers * times(group.length, kept.states);
    for (const [start, own] of starts) {
      layers += count * (start * times(own.length, kept.states) + (numLayers - start) * own.length);
    }
    logits += count * scored * (group.length + times(group.length, kept.logits));
    keptBytes = Math.max(keptBytes, kept.bytes);
  }
  return { length, layers, logits, keptBytes };
}

/** Operations of a layer of the full model on a sequence; where layers differ, of the mean one. */
export function layerFlops(config: ModelConfig, length: number): number {
  const counts = { tokens: length, queried: length, kept: length };
  const all = Array.from(
    { length: config.numLayers },
    (_, layer) =>
      attentionFlops(config, { ...counts, pairs: windowPairs(length, config.layers?.[layer]?.window) }),
  );
  return mlpFlops(config, length) + all.reduce((a, b) => a + b) / config.numLayers;
}

/** Operations of a workload. */
export const flopsOf = (config: ModelConfig, { length, layers, logits }: Workload): number =>
  layers * layerFlops(config, length) + outputFlops(config, logits);
