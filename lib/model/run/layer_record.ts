/** What one layer of a sequence begins with. */
import type { CacheDType } from "../../dtype.ts";
import type { Pruner } from "../../methods/pruner.ts";
import type { LayerRecord } from "./compute_rows.ts";
import { layerConfig } from "../config.ts";
import { LayerCache } from "./kv_cache.ts";
import type { Model } from "../model.ts";
import { OutputMemory } from "./output_memory.ts";
import { LayerTally } from "./usage.ts";

/** The empty cache, counts and memory of outputs of a layer. */
export function openRecord(
  { backend, config }: Model,
  pruner: Pruner | undefined,
  layer: number,
  cacheDType: CacheDType,
): LayerRecord {
  const { numKvHeads, headDim, hiddenSize, window } = { ...config, ...layerConfig(config, layer) };
  const cache = new LayerCache(backend, cacheDType, numKvHeads * headDim, pruner?.recent ?? 0);
  const { kind, block } = (pruner?.layers.includes(layer) ? pruner.substitute : undefined) ?? {};
  const outputs = kind === "mean" || kind === "last"
    ? new OutputMemory(kind, { warmup: pruner!.warmup, block: block! }, hiddenSize)
    : undefined;
  return { cache, keep: [], tally: new LayerTally(pruner, window), ...(outputs && { outputs }) };
}
