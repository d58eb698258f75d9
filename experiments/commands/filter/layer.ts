/** What a method decides on one layer of a dump. */
import type { Backend } from "../../../lib/backend.ts";
import type { Spans } from "../../../lib/filter/blocks.ts";
import type { HeadParts } from "../../../lib/filter/option.ts";
import type { ScoreSource } from "../../../lib/heads/decisions.ts";
import { dequantize } from "../../../lib/reference/mod.ts";
import { countOf, type HostTensor, hostTensor, type Tensor } from "../../../lib/tensor.ts";
import type { Dump } from "./dump.ts";

/** Numbers by token; null where there is none. */
export type Values = readonly (number | null)[];

/** The decisions of one layer. */
export interface Decided {
  readonly layer: number;
  /** 1 = kept, of queries or of keys and values; where KV heads have rows of their own, the share of them that keeps it. */
  readonly keep: readonly number[];
  /** Tokens past the warm-up that were decided. */
  readonly decided: number;
  readonly columns: { readonly [name: string]: Values };
  /** By KV heads that share rows, the position at which a token's key and value go; where these are decided. */
  readonly kvEnds?: readonly Int32Array[];
  /** KV heads that have rows of their own. */
  readonly parts?: HeadParts | undefined;
  /** Scores of a method that ranks its tokens again and again. */
  readonly ranksOf?: (unit: number) => ReturnType<ScoreSource["ranksOf"]>;
}

/** A layer of a dump that is to be decided. */
export interface PlannedLayer extends Spans {
  /** The dump's number of the layer. */
  readonly layer: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  /** Decides the first `count` tokens. */
  decide(count: number, backend: Backend): Decided;
}

/** The first tokens of a dump on a backend, f32. */
export function uploadDump({ keys, values, queries, headWeights }: Dump, count: number, backend: Backend) {
  const upload = (x: HostTensor) => {
    const shape = [count, ...x.shape.slice(1)];
    return backend.upload(hostTensor("f32", shape, dequantize(x, 0, countOf(shape))));
  };
  const tensors = {
    ...{ keys: upload(keys), values: upload(values) },
    ...(queries && { queries: upload(queries) }),
    ...(headWeights && { headWeights: backend.upload(headWeights) }),
  };
  return {
    ...tensors,
    scale: 1 / Math.sqrt(keys.shape[2]!),
    free: () => Object.values<Tensor>(tensors).forEach((x) => backend.free(x)),
  };
}
