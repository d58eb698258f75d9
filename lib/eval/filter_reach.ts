/** Effects of a filter on the scored positions: short items under a long warm-up are in effect dense runs. */
import type { Pruner } from "../methods/protocol/pruner.ts";
import type { ModelConfig } from "../model/config/config.ts";
import { judgedAt } from "../filter/blocks.ts";
import { unitsOf } from "../filter/option.ts";
import type { EvaluatedSequence } from "./language_model.ts";

/** Counts over scored positions: those whose hidden state gives the distribution of a scored token. */
export interface FilterReach {
  readonly positions: number;
  /** Those of them where a computed query of some layer did not attend to an earlier key because it was filtered. */
  readonly missedKeys: number;
  /** Those of them whose own attention was filtered in some layer. */
  readonly ownFiltered: number;
  /** Attentions of scored positions that were filtered, over all layers. */
  readonly ownSkips: number;
}

export type ReachMasks = Pick<EvaluatedSequence, "keep" | "kvKeep">;

/**
 * Counts the effects of a filter on positions [from, to) of one sequence.
 *
 * @example
 * ```ts
 * import { createDense } from "@tokenfilter/tokenfilter/methods";
 * const dense = createDense(), pruner = { ...dense, spans: { ...dense.spans, recent: 1 } };
 * const keep = new Map([[0, Uint8Array.of(1, 0, 1, 1)]]);
 * const { positions, missedKeys } = reachOf({ numLayers: 1 }, pruner, { keep }, 2, 4);
 * console.assert(positions === 2 && missedKeys === 1); // token 2 still sees token 1, token 3 does not
 * ```
 */
export function reachOf(
  config: Pick<ModelConfig, "numLayers" | "layers">,
  pruner: Pick<Pruner, "spans" | "skipped" | "keySide" | "prepare">,
  { keep, kvKeep = new Map() }: ReachMasks,
  from: number,
  to: number,
): FilterReach {
  const { spans, skipped, keySide, prepare } = pruner;
  const skippedStay = skipped.cached || keySide !== undefined;
  if (prepare?.kind === "alter" || prepare?.kind === "adapt") {
    const own = Math.max(0, to - Math.max(from, prepare.kind === "alter" ? 0 : spans.warmup));
    return { positions: to - from, missedKeys: 0, ownFiltered: own, ownSkips: own * config.numLayers };
  }
  const missed = new Uint8Array(to - from), own = new Uint8Array(to - from);
  let ownSkips = 0;
  for (let layer = 0; layer < config.numLayers; layer++) {
    const queries = keep.get(layer), keys = kvKeep.get(layer);
    const reach = config.layers?.[layer]?.window ?? Infinity, units = unitsOf(keySide?.heads?.get(layer));
    // From this position on no query attends to the key of token j.
    const goneAt = (j: number) =>
      Math.min(
        !skippedStay && queries?.[j] === 0 ? j + spans.recent + 1 : Infinity,
        keys !== undefined && keys[j]! < units ? judgedAt(j, spans) : Infinity,
      );
    const gone = queries === undefined && keys === undefined
      ? []
      : Array.from({ length: to }, (_, j) => goneAt(j));
    for (let position = from; position < to; position++) {
      if (queries?.[position] === 0) {
        own[position - from] = 1;
        ownSkips++;
      } else if (gone.some((at, j) => at <= position && j < position && position - j < reach)) {
        missed[position - from] = 1;
      }
    }
  }
  const count = (flags: Uint8Array) => flags.reduce((sum, flag) => sum + flag, 0);
  return { positions: to - from, missedKeys: count(missed), ownFiltered: count(own), ownSkips };
}
