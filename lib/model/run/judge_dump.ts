/** The key side on keys, values and queries that another engine has dumped: rules of signals that queries give. */
import type { AttentionArgs, Backend } from "../../backend.ts";
import type { Spans } from "../../filter/blocks.ts";
import type { KeySequence } from "../../methods/protocol/pruner.ts";
import type { LayerAsk } from "../../methods/protocol/signals.ts";
import { countOf, hostTensor, type Tensor } from "../../tensor.ts";
import { LayerCache } from "./cache/kv_cache.ts";
import { KeyJudge } from "./key_judge.ts";
import { attendShowing } from "./signals.ts";
import { range } from "./cache/row_indices.ts";

/** Tokens of one layer of one sequence, on a backend. */
interface DumpedLayer {
  /** Keys after rotary embedding, [T, numKvHeads, headDim] f32. */
  readonly keys: Tensor;
  readonly values: Tensor;
  /** Queries after rotary embedding, [T, numHeads, headDim] f32. */
  readonly queries: Tensor;
  /** Factor on the products of queries and keys. */
  readonly scale: number;
  /** Where changes of outputs are asked for: by how much each head's squared output counts, [numHeads] f32. */
  readonly headWeights?: Tensor;
}

/**
 * Decides a layer's keys and values where every query is computed, block by block as a model does: queries attend to
 * the keys that were not dropped before their block. The side's trace receives its decisions.
 *
 * @param sequence of a side of this layer only, which needs nothing of the weights besides `headWeights`.
 * @param ask What the side reads of queries about keys that are not decided.
 * @returns tokens decided, the first of the sequence
 */
export function judgeDump(
  backend: Backend,
  { layer, ...spans }: Spans & { readonly layer: number },
  sequence: KeySequence,
  { keys, values, queries, scale, headWeights }: DumpedLayer,
  ask: Pick<LayerAsk, "keys" | "distance">,
): number {
  const judge = new KeyJudge(spans, sequence, [layer]);
  const [count, ...heads] = keys.shape as [number, number, number];
  const cache = new LayerCache(backend, "f32", countOf(heads), 0);
  judge.take({ layer, count, keys, values });
  const rows = (x: Tensor, from: number, length: number) => {
    const out = backend.alloc("f32", [length, countOf(x.shape.slice(1))]);
    const take = backend.upload(hostTensor("i32", [length], range(from, length)));
    backend.gatherRows({ ...x, shape: [x.shape[0]!, out.shape[1]!] }, take, out);
    return out;
  };
  const cuts = [0, ...judge.starts(0, count), count];
  for (const [i, from] of cuts.slice(0, -1).entries()) {
    const length = cuts[i + 1]! - from, positions = range(from, length);
    cache.drop(judge.judge(layer, from + 1).gone.map(({ position }) => position));
    const own = [keys, values, queries].map((x) => rows(x, from, length));
    cache.append(own[0]!, own[1]!, positions);
    const { kept } = cache, byHead = (x: Tensor) => ({ ...x, shape: [x.shape[0]!, ...heads] });
    const asked = { ...own[2]!, shape: [length, ...queries.shape.slice(1)] };
    const args: AttentionArgs = {
      queries: asked,
      queryPositions: backend.upload(hostTensor("i32", [length], positions)),
      keys: byHead(kept.keys),
      values: byHead(kept.values),
      keyPositions: backend.upload(hostTensor("i32", [kept.positions.length], kept.positions)),
      numKeys: kept.count,
      recentKeys: byHead(cache.recent.keys),
      recentValues: byHead(cache.recent.values),
      recentPositions: backend.upload(hostTensor("i32", [0], new Int32Array(0))),
      ...{ numRecent: 0, recent: 0, scale, out: backend.alloc("f32", asked.shape) },
    };
    const open = from + length - judge.judged(layer); // none of them went
    const room = (_: string, shape: readonly number[]) => backend.alloc("f64", shape, true);
    const shown = { signals: ask.keys, queries: range(0, length), keys: open, distance: ask.distance };
    const signals = attendShowing(backend, args, shown, room, headWeights);
    judge.observe(layer, {
      positions,
      keys: kept.positions.slice(kept.count - open, kept.count),
      rows: signals,
    });
    for (const tensor of [...own, args.out]) backend.free(tensor);
  }
  cache.free();
  return judge.judged(layer);
}
