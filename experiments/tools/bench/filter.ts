/** The filter's decisions: chunks of one sequence, and steps of a batch. */
import { numbers } from "../../../kernels/testing/inputs.ts";
import type { Backend } from "../../../lib/backend.ts";
import {
  cloneLayerState,
  codeOf,
  createLayerState,
  createScanOutput,
  type LayerSpec,
} from "../../../lib/filter/mod.ts";
import { TokenFilter, type TokenFilterOptions } from "../../../lib/methods/mod.ts";
import { createBatchCache, createBatchDecisions, createBatchStates } from "../../../lib/model/mod.ts";
import { ReferenceBackend } from "../../../lib/reference/mod.ts";
import { hostTensor, type Tensor } from "../../../lib/tensor.ts";
import type { CudaBackend } from "../../../ffi/mod.ts";
import type { BenchCase } from "./run.ts";
import { i32, mapTensors, randomTensor, rowOf } from "./tensors.ts";

/** Sizes of a filtered layer. */
interface FilterSizes {
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

/**
 * `kv_filter_scan` by the default rule: tokens of one sequence, decided in chunks.
 *
 * @param plan.tokens Tokens decided, after `start` others that are not timed.
 * @param plan.learned Whether the rule is `learned`, whose blocks are then as long as the chunks, with outcomes made up.
 */
export function scanCase(
  backend: Backend,
  sizes: FilterSizes,
  { impl, tokens, start = 0, chunk, learned = false }:
    & Readonly<{ impl: string; tokens: number; chunk: number }>
    & {
      readonly start?: number;
      readonly learned?: boolean;
    },
): BenchCase {
  const { numKvHeads, headDim, hiddenSize } = sizes, end = start + tokens, kv = [numKvHeads, headDim];
  const spec = specOf(sizes, learned ? { fusion: "learned", block: chunk } : {});
  const random = (width: readonly number[], seed: number) =>
    randomTensor(backend, "f32", [end, ...width], seed);
  const hidden = learned && { residual: random([hiddenSize], 13), normed: random([hiddenSize], 14) };
  const input = { keys: random(kv, 11), values: random(kv, 12), ...hidden };
  const next = numbers(15), outcomes = Float64Array.from({ length: end }, () => next() - 1);
  const begun = createLayerState(spec), found = createScanOutput(end);
  const scan = (on: Backend, rows: typeof input, from: number, to: number, state = begun, out = found) => {
    for (let at = from; at < to;) {
      const next = at + on.kvFilterScan(spec, state, rows, at, Math.min(chunk, to - at), out);
      const seen = outcomes.slice(at, next).filter((_, i) => out.keep[at + i]);
      if (learned) on.kvFilterObserve(spec, state, seen);
      at = next;
    }
  };
  scan(backend, input, 0, start);
  const run = () => scan(backend, input, start, end, cloneLayerState(begun));
  const elements = 2 * tokens * numKvHeads * headDim, wide = learned ? tokens * hiddenSize : 0;
  return {
    ...{ op: "kv_filter_scan", impl, phase: tokens > 1 ? "prefill" : "decode", dtype: "f32", skip: 0.5, run },
    shape: `T=${tokens} ${
      learned ? "learned block" : "chunk"
    }=${chunk} kvHeads=${numKvHeads} headDim=${headDim}`,
    flops: FLOPS_PER_ELEMENT * elements + 2 * codeOf(spec, "projections") * wide,
    bytes: 4 * elements + 8 * wide,
    verify() {
      const host = mapTensors(input, (tensor) => backend.read(tensor)), expected = createScanOutput(end);
      run();
      scan(new ReferenceBackend(), host, start, end, cloneLayerState(begun), expected);
      for (let t = start; t < end; t++) {
        if (Math.abs(expected.redundancy[t]! - expected.threshold[t]!) < BAND) return;
        expectDecision("kv_filter_scan", `token ${t}`, found.keep[t], expected.keep[t]);
      }
    },
  };
}

/** @throws {Error} If two decisions differ. */
function expectDecision(
  op: string,
  what: string,
  found: number | undefined,
  expected: number | undefined,
): void {
  if (found !== expected) {
    throw new Error(`Cannot trust ${op}: found ${found} for ${what}, expected ${expected}`);
  }
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
  const columns = backend.name === "reference" && { columns: backend.alloc("f64", [7, batch]) };
  const decisions = { ...createBatchDecisions(backend, batch), ...columns };
  const ends = backend.alloc("i32", [batch, CAPACITY]), keep = backend.alloc("u8", [batch]);
  const keySide = { states, ends, keep, ...columns }, positions = i32(backend, new Int32Array(batch));
  let steps = 0;
  return {
    ...{ cache, columns: decisions.columns, keep: isKeySide ? keep : decisions.keep },
    step() {
      const { output, ...own } = sets[steps++ % SETS]!;
      const rows = { filterKeys: own.keys, ...own, queries: undefined, positions };
      backend.kvFilterStep(isKeySide ? undefined : states, cache, rows, isKeySide, decisions);
      if (isKeySide) backend.kvKeyStep(keySide, cache, rows);
      else if (spec.reads.includes("outputs")) {
        backend.kvFilterObserveBatch(states, decisions, output, own.residual);
      }
    },
    /** To the next position, if a step was made. */
    advance: () => steps > 0 && backend.advance(positions),
  };
}

/**
 * Steps of a batch: `kv_filter_step`, by default with the default rule and policy, or `kv_key_step` behind it.
 *
 * @param plan.isKeySide Whether keys are decided about, behind the step that caches them.
 * @param plan.recorded Steps in one graph: the cache then contains their inputs, and launches cost the host nothing.
 */
export function stepCase(
  backend: Backend,
  sizes: FilterSizes,
  { batch, options = {}, isKeySide = false, recorded = 1 }: {
    readonly batch: number;
    readonly options?: TokenFilterOptions;
    readonly isKeySide?: boolean;
    readonly recorded?: number;
  },
): BenchCase {
  const { numKvHeads, headDim, hiddenSize } = sizes,
    spec = specOf(sizes, options),
    kv = [numKvHeads, headDim];
  const random = (shape: readonly number[], seed: number) =>
    randomTensor(backend, "f32", [batch, ...shape], seed);
  const sets = Array.from({ length: SETS }, (_, set): Rows => ({
    ...{ keys: random(kv, 20 + set), values: random(kv, 40 + set), residual: random([hiddenSize], 60 + set) },
    ...{ normed: random([hiddenSize], 80 + set), output: random([hiddenSize], 100 + set) },
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
      graph ??= (backend as CudaBackend).record(() => Array.from({ length: recorded }, step));
      graph.launch();
    },
    verify() {
      const found: Uint8Array[] = [], ends = [...new Set([0, batch - 1])];
      for (let i = 0; i < CHECKED; i++) {
        advance();
        step();
        found.push(backend.read(keep).data as Uint8Array);
      }
      launched += CHECKED;
      for (const sequence of ends) {
        const own = sets.map((set) => mapTensors(set, (tensor) => rowOf(backend, tensor, sequence)));
        const reference = new ReferenceBackend();
        const truth = makeSteps(reference, sizes, spec, { batch: 1, sets: own, isKeySide });
        let isTie = false;
        for (let i = 0; i < CHECKED && !isTie; i++) {
          truth.advance();
          truth.step();
          const [redundancy, threshold] = reference.read(truth.columns!).data as Float64Array;
          isTie = Math.abs(redundancy! - threshold!) < BAND;
          const [expected] = reference.read(truth.keep).data as Uint8Array;
          if (!isTie) expectDecision(op, `step ${i} of sequence ${sequence}`, found[i]![sequence], expected);
        }
        const rows = liveRows(backend, cache, sequence), expected = liveRows(reference, truth.cache, 0);
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
