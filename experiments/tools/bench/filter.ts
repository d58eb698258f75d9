/** The filter's decisions: chunks of one sequence, and steps of a batch. */
import type { Backend } from "../../../lib/backend.ts";
import {
  cloneLayerState,
  codeOf,
  createLayerState,
  createScanOutput,
  type LayerSpec,
  type LayerState,
  type ScanOutput,
} from "../../../lib/filter/mod.ts";
import { TokenFilter, type TokenFilterOptions } from "../../../lib/methods/mod.ts";
import { createBatchCache, createBatchDecisions, createBatchStates } from "../../../lib/model/mod.ts";
import { ReferenceBackend } from "../../../lib/reference/mod.ts";
import { hostTensor, type Tensor } from "../../../lib/tensor.ts";
import type { CudaBackend } from "../../../ffi/mod.ts";
import { rowOf } from "./attention.ts";
import type { BenchCase } from "./run.ts";
import { i32, numbers, randomTensor } from "./tensors.ts";

/** Sizes of a filtered layer. */
export interface FilterSizes {
  readonly numKvHeads: number;
  readonly headDim: number;
  readonly hiddenSize: number;
}

/** Per element of a key or value: three products of a cosine and an anchor's step. */
const FLOPS_PER_ELEMENT = 9;
/** Scores this near to the threshold may fall either way. */
const BAND = 2e-5;
/** Steps that are compared with the reference before the race. */
const CHECKED = 128;
/** Rows of a slot's cache. */
const CAPACITY = 1024;
/** Rows of inputs; steps take them in turn. */
const SETS = 8;

/** The spec of a layer of these sizes; by default, half is skipped or dropped. */
function specOf({ numKvHeads, headDim, hiddenSize }: FilterSizes, options: TokenFilterOptions): LayerSpec {
  const shape = { numLayers: 1, numHeads: numKvHeads, numKvHeads, headDim, hiddenSize };
  return new TokenFilter(shape, { tail: 1, pruneRatio: 0.5, ...options }).specs[0]!;
}

/** Tokens of one sequence, decided in chunks. */
export interface ScanPlan {
  readonly impl: string;
  /** Tokens decided, after `start` others that are not timed. */
  readonly tokens: number;
  readonly start?: number;
  readonly chunk: number;
  /** Whether the rule is `learned`, whose blocks are then as long as the chunks, with outcomes made up. */
  readonly learned?: boolean;
}

/** `kv_filter_scan` by the default rule. */
export function scanCase(
  backend: Backend,
  sizes: FilterSizes,
  { impl, tokens, start = 0, chunk, learned = false }: ScanPlan,
): BenchCase {
  const { numKvHeads, headDim, hiddenSize } = sizes, end = start + tokens;
  const spec = specOf(sizes, learned ? { fusion: "learned", block: chunk } : {});
  const random = (width: readonly number[], seed: number) =>
    randomTensor(backend, "f32", [end, ...width], seed);
  const more = learned && { residual: random([hiddenSize], 13), normed: random([hiddenSize], 14) };
  const input = {
    keys: random([numKvHeads, headDim], 11),
    values: random([numKvHeads, headDim], 12),
    ...more,
  };
  const next = numbers(15), outcomes = Float64Array.from({ length: end }, () => next() - 1);
  const scan = (
    on: Backend,
    rows: typeof input,
    from: number,
    to: number,
    state: LayerState,
    out: ScanOutput,
  ) => {
    for (let at = from; at < to;) {
      const next = at + on.kvFilterScan(spec, state, rows, at, Math.min(chunk, to - at), out);
      if (learned) {
        on.kvFilterObserve(
          spec,
          state,
          outcomes.slice(at, next).filter((_, i) => out.keep[at + i]),
        );
      }
      at = next;
    }
  };
  const begun = createLayerState(spec), found = createScanOutput(end);
  scan(backend, input, 0, start, begun, found);
  const run = (on = backend, rows = input, out = found) =>
    scan(on, rows, start, end, cloneLayerState(begun), out);
  const elements = 2 * tokens * numKvHeads * headDim, wide = learned ? tokens * hiddenSize : 0;
  return {
    ...{ op: "kv_filter_scan", impl, phase: tokens > 1 ? "prefill" : "decode", dtype: "f32", skip: 0.5 },
    shape: `T=${tokens} ${
      learned ? "learned block" : "chunk"
    }=${chunk} kvHeads=${numKvHeads} headDim=${headDim}`,
    flops: FLOPS_PER_ELEMENT * elements + 2 * codeOf(spec, "projections") * wide,
    bytes: 4 * elements + 8 * wide,
    run: () => run(),
    verify() {
      const host = Object.fromEntries(
        Object.entries(input).map(([name, tensor]) => [name, backend.read(tensor)]),
      ) as unknown as typeof input;
      const expected = createScanOutput(end);
      run();
      run(new ReferenceBackend(), host, expected);
      for (let t = start; t < end; t++) {
        if (Math.abs(expected.redundancy[t]! - expected.threshold[t]!) < BAND) return;
        if (found.keep[t] === expected.keep[t]) continue;
        throw new Error(
          `Cannot trust kv_filter_scan: found ${found.keep[t]} for token ${t}, expected ${expected.keep[t]}`,
        );
      }
    },
  };
}

/** Inputs of a step. */
type Rows = Readonly<Record<"keys" | "values" | "residual" | "normed" | "output", Tensor>>;

/** Steps of a layer for a batch, on any backend. @param isKeySide decides about keys, behind the step that caches them */
function makeSteps(
  backend: Backend,
  { numKvHeads, headDim }: FilterSizes,
  spec: LayerSpec,
  { batch, sets, isKeySide }: {
    readonly batch: number;
    readonly sets: readonly Rows[];
    readonly isKeySide: boolean;
  },
) {
  const sizes = { batch, capacity: CAPACITY, recent: isKeySide ? 0 : 16, numKvHeads, headDim };
  const cache = createBatchCache(backend, { ...sizes, dtype: "bf16" });
  const states = createBatchStates(backend, spec, batch);
  const columns = backend.name === "reference" ? backend.alloc("f64", [7, batch]) : undefined;
  const decisions = { ...createBatchDecisions(backend, batch), ...(columns && { columns }) };
  const ends = backend.alloc("i32", [batch, CAPACITY]), keep = backend.alloc("u8", [batch]);
  const keySide = { states, ends, keep, ...(columns && { columns }) };
  const positions = i32(backend, new Int32Array(batch));
  let steps = 0;
  return {
    ...{ cache, columns, keep: isKeySide ? keep : decisions.keep },
    step() {
      const { keys, values, residual, normed, output } = sets[steps++ % SETS]!;
      const rows = { filterKeys: keys, keys, values, residual, normed, queries: undefined, positions };
      backend.kvFilterStep(isKeySide ? undefined : states, cache, rows, isKeySide, decisions);
      if (isKeySide) backend.kvKeyStep(keySide, cache, rows);
      else if (spec.reads.includes("outputs")) {
        backend.kvFilterObserveBatch(states, decisions, output, residual);
      }
    },
    /** To the next position, if a step was made. */
    advance: () => steps > 0 && backend.advance(positions),
  };
}

/** Steps of a batch. */
export interface StepPlan {
  readonly batch: number;
  readonly options?: TokenFilterOptions;
  /** Whether keys are decided about, behind the step that caches them. */
  readonly isKeySide?: boolean;
  /** Steps in one graph: the cache then contains their inputs, and launches cost the host nothing. */
  readonly recorded?: number;
}

/** `kv_filter_step`, by default with the default rule and policy, or `kv_key_step` behind it. */
export function stepCase(
  backend: Backend,
  sizes: FilterSizes,
  { batch, options = {}, isKeySide = false, recorded = 1 }: StepPlan,
): BenchCase {
  const { numKvHeads, headDim, hiddenSize } = sizes, spec = specOf(sizes, options);
  const random = (shape: readonly number[], seed: number) =>
    randomTensor(backend, "f32", [batch, ...shape], seed);
  const sets = Array.from({ length: SETS }, (_, set): Rows => ({
    keys: random([numKvHeads, headDim], 20 + set),
    values: random([numKvHeads, headDim], 40 + set),
    residual: random([hiddenSize], 60 + set),
    normed: random([hiddenSize], 80 + set),
    output: random([hiddenSize], 100 + set),
  }));
  const { cache, keep, step, advance } = makeSteps(backend, sizes, spec, { batch, sets, isKeySide });
  let launched = 0, graph: ReturnType<CudaBackend["record"]> | undefined;
  const before = () => {
    advance();
    launched += recorded;
    if (launched <= CAPACITY) return;
    // An endless batch: the cache begins again before it is full.
    backend.write(cache.counts, hostTensor("i32", [batch], new Int32Array(batch)));
    launched = recorded;
  };
  const op = isKeySide ? "kv_key_step" : "kv_filter_step", elements = 2 * batch * numKvHeads * headDim;
  const how = recorded > 1
    ? `, of ${recorded} in a graph, warm`
    : isKeySide
    ? ", and the step that caches"
    : "";
  return {
    ...{ op, impl: "tokenfilter", phase: "decode", dtype: "f32", skip: 0.5, repeats: recorded, before },
    shape: `batch=${batch} kvHeads=${numKvHeads} headDim=${headDim} ${spec.rule.name}${how}`,
    flops: FLOPS_PER_ELEMENT * elements,
    // A row read and written, anchors likewise, and the window; of keys, some three rows per token move up.
    bytes: elements * (isKeySide ? 30 : 14) + batch * 8 * spec.window,
    run() {
      if (recorded === 1) return step();
      graph ??= (backend as CudaBackend).record(() => {
        for (let i = 0; i < recorded; i++) step();
      });
      graph.launch();
    },
    verify() {
      const found: Uint8Array[] = [], caches: string[] = [];
      const ends = [...new Set([0, batch - 1])];
      for (let i = 0; i < CHECKED; i++) {
        advance();
        step();
        found.push(backend.read(keep).data as Uint8Array);
      }
      launched += CHECKED;
      for (const sequence of ends) caches[sequence] = liveRows(backend, cache, sequence);
      for (const sequence of ends) {
        const own = sets.map((set) =>
          Object.fromEntries(
            Object.entries(set).map(([name, tensor]) => [name, rowOf(backend, tensor, sequence)]),
          ) as unknown as Rows
        );
        const reference = new ReferenceBackend();
        const truth = makeSteps(reference, sizes, spec, { batch: 1, sets: own, isKeySide });
        let isTie = false;
        for (let i = 0; i < CHECKED && !isTie; i++) {
          truth.advance();
          truth.step();
          const [redundancy, threshold] = reference.read(truth.columns!).data as Float64Array;
          isTie = Math.abs(redundancy! - threshold!) < BAND;
          const expected = (reference.read(truth.keep).data as Uint8Array)[0], own = found[i]![sequence];
          if (isTie || own === expected) continue;
          throw new Error(
            `Cannot trust ${op}: found ${own} at step ${i} of sequence ${sequence}, expected ${expected}`,
          );
        }
        const expected = liveRows(reference, truth.cache, 0), rows = caches[sequence]!;
        if (!isTie && rows !== expected) {
          throw new Error(`Cannot trust ${op}: found the rows ${rows}, expected ${expected}`);
        }
      }
    },
  };
}

/** Positions of the rows that a sequence's cache holds. */
function liveRows(backend: Backend, cache: ReturnType<typeof createBatchCache>, sequence: number): string {
  const { data: [count] } = rowOf(backend, cache.counts, sequence);
  return [...rowOf(backend, cache.positions, sequence).data as Int32Array].slice(0, Number(count)).join();
}
