/** State of a layer of a batch: its cache, the filter's states, and the last decisions. */
import type { Backend } from "../../../backend.ts";
import type { BatchCache, BatchChanges, BatchDecisions, BatchKeys, BatchStates } from "../../../batch_ops.ts";
import type { CacheDType } from "../../../dtype.ts";
import { type LayerSpec, stateSizes } from "../../../filter/layer.ts";
import { hostTensor, type Tensor } from "../../../tensor.ts";

interface BatchCacheSizes {
  readonly batch: number;
  readonly capacity: number;
  /** Tokens for which a skipped token's key and value stay visible. */
  readonly recent: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  readonly dtype: CacheDType;
}

export function createBatchCache(
  backend: Backend,
  { batch, capacity, recent, numKvHeads, headDim, dtype }: BatchCacheSizes,
): BatchCache {
  const rows = (count: number) => backend.alloc(dtype, [batch, count, numKvHeads, headDim]);
  const none = new Int32Array(batch * recent).fill(-1);
  return {
    keys: rows(capacity),
    values: rows(capacity),
    positions: backend.alloc("i32", [batch, capacity]),
    counts: backend.alloc("i32", [batch]),
    recentKeys: rows(recent),
    recentValues: rows(recent),
    recentPositions: backend.upload(hostTensor("i32", [batch, recent], none)),
  };
}

/** States of a filtered layer before the first token of every sequence. */
export function createBatchStates(backend: Backend, spec: LayerSpec, batch: number): BatchStates {
  const sizes = stateSizes(spec);
  const anchors = [batch, spec.numKvHeads, spec.headDim];
  return {
    spec,
    anchorK: backend.alloc("f32", anchors),
    anchorV: backend.alloc("f32", anchors),
    numbers: backend.alloc("f64", [batch, sizes.numbers]),
    scores: backend.alloc("f64", [batch, sizes.scores]),
    learned: backend.alloc("f64", [batch, sizes.learned]),
    signs: backend.kvFilterSigns(spec),
  };
}

/** Room for decisions; no sequence is kept. @param keep `[batch]` u8, where it is part of a larger tensor */
export function createBatchDecisions(
  backend: Backend,
  batch: number,
  keep: Tensor = backend.alloc("u8", [batch]),
): BatchDecisions {
  return { keep, kept: backend.alloc("i32", [batch]), keptCount: backend.alloc("i32", [2]) };
}

/** KV heads of a layer that have rows of their own. */
export interface BatchHeads {
  readonly cache: BatchCache;
  /** Which these are, [heads] i32; and their rows among all KV heads of a batch's tokens, [batch * heads] i32. */
  readonly places: Tensor;
  readonly rows: Tensor;
}

export interface BatchLayer {
  /** Where not all KV heads have the same rows, that of those that evict. */
  readonly cache: BatchCache;
  /** The KV heads that keep everything, then those that evict, where there are such. */
  readonly heads: readonly BatchHeads[] | undefined;
  /** What the host judges keys by. */
  readonly changes: BatchChanges | undefined;
  readonly states: BatchStates | undefined;
  readonly keys: BatchKeys | undefined;
  readonly decisions: BatchDecisions;
}

/** All tensors of a layer of a batch, to be freed. */
export function tensorsOfLayer({ cache, heads, changes, states, keys, decisions }: BatchLayer): Tensor[] {
  const caches = heads?.map((own) => own.cache) ?? [cache];
  const ofHeads = heads?.map(({ places, rows }) => ({ places, rows })) ?? [];
  const ofChanges = changes && { out: changes.out, first: changes.first }; // weights are the model's
  const own = [
    ...caches,
    ...ofHeads,
    ofChanges,
    states,
    { ...keys, states: undefined },
    keys?.states,
    decisions,
  ];
  const parts = own.flatMap((part): unknown[] => Object.values({ ...part, spec: undefined }));
  return parts.filter((part) => part !== undefined) as Tensor[];
}
