/** A model for tests whose losses can be worked out by hand: its hidden states are its logits. */
import type { DType } from "../dtype.ts";
import { createDense } from "../methods/protocol/pruner.ts";
import type { Pruner, SideSequence } from "../methods/protocol/pruner.ts";
import { assert, assertEquals } from "@std/assert";
import { ReferenceBackend } from "../reference/mod.ts";
import { emptyTensor, f32Data, hostTensor, type Tensor } from "../tensor.ts";
import type { EvaluatedModel, EvaluatedSequence } from "./language_model.ts";

const VOCAB = 5;

/** Counts of the calls that the fake model received. */
export interface Calls {
  feeds: number;
  residuals: number;
  fromResidual: number;
  /** Chunks of the filtered sequences. */
  chunks: (number | undefined)[];
}

/** Logits of the token after `id`: dense, and with `skips` layers skipped for it. */
export function fakeLogits(id: number, skips: number): number[] {
  return Array.from({ length: VOCAB }, (_, v) => Math.sin(id * 7 + v) * 2 + skips * 0.25 * Math.cos(v + id));
}

/** A pruner of some layers that skips the tokens for which `skip` returns true. */
export function fakePruner(
  layers: readonly number[],
  skip: (t: number) => boolean,
  { at = "arrival", warmup = 0 }: Partial<Pick<Pruner, "at">> & { readonly warmup?: number } = {},
): Pruner {
  const decide: SideSequence["decide"] = (input, start) => ({
    keep: Uint8Array.from({ length: input.count - start }, (_, i) => skip(start + i) ? 0 : 1),
  });
  const start = (): SideSequence => ({ decide, fork: start });
  return {
    ...createDense(),
    name: "fake",
    layers,
    at,
    spans: { warmup, block: 32, recent: 0 },
    start,
  };
}

/** The model: 4 layers; a token's logits move with the number of layers that skipped it. */
export function fakeModel(): { model: EvaluatedModel; calls: Calls } {
  const backend = new ReferenceBackend();
  const calls: Calls = { feeds: 0, residuals: 0, fromResidual: 0, chunks: [] };
  const start: EvaluatedModel["start"] = (pruner, options): EvaluatedSequence => {
    if (pruner !== undefined) calls.chunks.push(options?.chunk);
    const masks = new Map<number, number[]>((pruner?.layers ?? []).map((layer) => [layer, []]));
    let length = 0;
    const run = (ids: readonly number[]): Tensor => {
      const rows = ids.map((id) => {
        let skips = 0;
        for (const [layer, mask] of masks) {
          const input = { layer, count: length + 1 } as Parameters<SideSequence["decide"]>[0];
          const keep = pruner!.start().decide(input, length).keep![0]!;
          mask.push(keep);
          skips += 1 - keep;
        }
        length++;
        return fakeLogits(id, skips);
      });
      return hostTensor("f32", [ids.length, VOCAB], Float32Array.from(rows.flat()));
    };
    const skipped = () => [...masks.values()].flat().filter((keep) => keep === 0).length;
    return {
      feed: (ids) => (calls.feeds++, run([...ids])),
      feedResidual: (residual) => (calls.fromResidual++, run([...f32Data(residual)])),
      get keep() {
        return new Map([...masks].map(([layer, mask]) => [layer, Uint8Array.from(mask)]));
      },
      usage: () => ({
        kvBytesHeld: 40 * length - 10 * skipped(),
        kvBytesAvoided: 10 * skipped(),
        kvBytesAllocated: 64 * length,
        queriesDense: 4 * length,
        queriesSkipped: skipped(),
        pairsDense: 50 * length,
        pairsAvoided: 12 * skipped(),
        parametersDense: 1000,
        parametersAvoided: 0,
        projectionFlopsDense: 60 * length,
        projectionFlopsAvoided: 15 * skipped(),
        attentionFlopsDense: 100 * length,
        attentionFlopsAvoided: 25 * skipped(),
        totalFlopsDense: 300 * length,
        totalFlopsAvoided: 25 * skipped(),
      }),
    };
  };
  const model: EvaluatedModel = {
    config: { numLayers: 4 },
    backend,
    start,
    residualAt: (ids) => (calls.residuals++, hostTensor("f32", [ids.length, 1], Float32Array.from(ids))),
    logits: (hidden) => hidden,
  };
  return { model, calls };
}

/**
 * Calls `work` with a model on a backend whose memory is counted, as a device's is: uploads and hidden states are new
 * tensors, and each is freed once. Three times: with logits in tensors of their own, with logits in the memory that is
 * given for them, and with hidden states for logits.
 */
export function expectAllFreed(work: (model: EvaluatedModel) => void): void {
  for (const logitsAre of ["own", "given", "hidden"]) {
    const { model } = fakeModel(), inUse = new Set<object>();
    let taken = 0;
    const take = <T extends object>(what: T): T => (taken++, inUse.add(what), what);
    const free = (what: object) => assert(inUse.delete(what), "freed what was not in use");
    const copy = (tensor: Tensor) => take(hostTensor("f32", tensor.shape, f32Data(tensor).slice()));
    const start: EvaluatedModel["start"] = (...args) => {
      const sequence = model.start(...args), { feed } = sequence;
      return take(Object.assign(sequence, {
        feed: (ids: Int32Array<ArrayBuffer>) => take(feed(ids)),
        free: () => free(sequence),
      }));
    };
    const backend = new ReferenceBackend();
    Object.assign(backend, {
      alloc: (dtype: DType, shape: readonly number[]) => take(emptyTensor(dtype, shape)),
      upload: (tensor: Tensor) => take({ ...tensor }),
      free,
    });
    const logits: EvaluatedModel["logits"] = (hidden, out) => {
      if (logitsAre === "hidden") return hidden;
      if (out === undefined || logitsAre === "own") return copy(hidden);
      f32Data(out).set(f32Data(hidden));
      return out;
    };
    work({ ...model, backend, start, logits });
    assert(taken > 0);
    assertEquals(inUse.size, 0, `${inUse.size} of ${taken} left in use`);
  }
}
