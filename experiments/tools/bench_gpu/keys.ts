/** The race of a batch's key side on a GPU: tokens cached and decided, and the rows that end taken out of the cache. */
import { judgedAt, NEVER } from "../../../lib/filter/mod.ts";
import { createBatchCache, createBatchDecisions, createBatchStates } from "../../../lib/model/mod.ts";
import { hostTensor } from "../../../lib/tensor.ts";
import { type Gpu, i32, randomTensor } from "./device.ts";
import { CHECKED, expectDecisions, type FilterSizes, SETS, specOf } from "./filter.ts";
import type { GpuBenchCase } from "./row.ts";

/** `kv_key_step` behind the step that caches its tokens, for a batch of a layer, by the preset `keys` after a short warm-up. */
export function keyStepCase(gpu: Gpu, sizes: FilterSizes, batch: number): GpuBenchCase {
  const { backend } = gpu, { numKvHeads, headDim } = sizes, capacity = 1024;
  const spec = specOf(sizes, { recent: 32, warmup: 16 });
  const cache = createBatchCache(backend, { batch, capacity, recent: 0, numKvHeads, headDim, dtype: "bf16" });
  const decisions = createBatchDecisions(backend, batch), keep = backend.alloc("u8", [batch]);
  const ends = backend.alloc("i32", [batch, capacity]);
  const keys = { states: createBatchStates(backend, spec, batch), ends, keep };
  const none = backend.alloc("f32", [batch, 0]), positions = i32(backend, new Int32Array(batch));
  const sets = Array.from({ length: SETS }, (_, set) => ({
    keys: randomTensor(gpu, "f32", [batch, numKvHeads, headDim], 20 + set),
    values: randomTensor(gpu, "f32", [batch, numKvHeads, headDim], 40 + set),
  }));
  let steps = 0, cached = 0;
  const run = () => {
    const { keys: filterKeys, values } = sets[steps++ % SETS]!;
    const own = { filterKeys, keys: filterKeys, values, residual: none, normed: none, queries: undefined };
    backend.kvFilterStep(undefined, cache, { ...own, positions }, true, decisions);
    backend.kvKeyStep(keys, cache, { ...own, positions });
  };
  const before = () => {
    if (steps > 0) backend.advance(positions);
    // An endless batch: the cache begins again before it is full.
    if (cached++ < capacity) return;
    backend.write(cache.counts, hostTensor("i32", [batch], new Int32Array(batch)));
    cached = 1;
  };
  const elements = 2 * batch * numKvHeads * headDim;
  return {
    op: "kv_key_step",
    impl: "tokenfilter",
    phase: "decode",
    shape: `batch=${batch} kvHeads=${numKvHeads} d=${headDim} ${spec.rule.name}, and the step that caches`,
    dtype: "f32",
    skip: 0.5,
    flops: 9 * elements,
    // A token's row read twice and written, its anchors read and written, the window; some three rows per token move up.
    bytes: elements * (8 + 8 + 2 + 3 * 4) + batch * 8 * spec.window,
    run,
    before,
    verify() {
      const kept: Uint8Array[] = [];
      for (let step = 0; step < 2 * CHECKED; step++) {
        before();
        run();
        kept.push(backend.read(keep).data as Uint8Array);
      }
      const last = kept.length - 1, rows = backend.read(cache.positions).data;
      for (const sequence of new Set([0, batch - 1])) {
        expectDecisions("kv_key_step", gpu, spec, sets, undefined, sequence, kept);
        const live = kept.flatMap((all, t) => (all[sequence] ? NEVER : judgedAt(t, spec)) > last ? [t] : []);
        const found = rows.slice(sequence * capacity, sequence * capacity + live.length);
        if (found.join() !== live.join()) {
          throw new Error(
            `Cannot trust kv_key_step: found the rows ${found.join()}, expected ${live.join()}`,
          );
        }
      }
    },
  };
}
