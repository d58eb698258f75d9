/** Races of the decisions on a GPU: one step of a batch, and chunks of a prefill. */
import type { Backend } from "../../../lib/backend.ts";
import {
  codeOf,
  createLayerState,
  createScanOutput,
  observeLayer,
  scanLayer,
  type ScanOutput,
} from "../../../lib/filter/mod.ts";
import { TokenFilter, type TokenFilterOptions } from "../../../lib/methods/mod.ts";
import { createBatchCache, createBatchDecisions, createBatchStates } from "../../../lib/model/mod.ts";
import { f32Data, type HostTensor, hostTensor, type Tensor } from "../../../lib/tensor.ts";
import { numbers } from "../bench/run.ts";
import { type Gpu, i32, randomTensor } from "./device.ts";
import type { GpuBenchCase } from "./row.ts";

/** Sizes of a filtered layer. */
export interface FilterSizes {
  readonly numKvHeads: number;
  readonly headDim: number;
  readonly hiddenSize: number;
}

/** Steps that are compared with the reference before the race. */
export const CHECKED = 64;
/** Rows of inputs; steps take them in turn. */
export const SETS = 8;
/** Scores this near to the threshold may fall either way. */
const BAND = 2e-5;

/** The spec of a layer of these sizes; by default, half is skipped or dropped. */
export function specOf({ numKvHeads, headDim, hiddenSize }: FilterSizes, options: TokenFilterOptions) {
  const shape = { numLayers: 1, numHeads: numKvHeads, numKvHeads, headDim, hiddenSize };
  return new TokenFilter(shape, { tail: 1, pruneRatio: 0.5, ...options }).specs[0]!;
}

/**
 * `kv_filter_step` for a batch of a layer, by default with the default rule and policy. `recorded`: this many steps in
 * one graph. The cache then contains their inputs, and launches cost the host nothing.
 */
export function stepCase(
  gpu: Gpu,
  sizes: FilterSizes,
  batch: number,
  options: TokenFilterOptions = {},
  recorded?: number,
): GpuBenchCase {
  const { backend } = gpu, { numKvHeads, headDim, hiddenSize } = sizes, spec = specOf(sizes, options);
  const capacity = 1024, recent = 16;
  const learned = spec.reads.includes("outputs");
  const states = createBatchStates(backend, spec, batch);
  const cache = createBatchCache(backend, { batch, capacity, recent, numKvHeads, headDim, dtype: "bf16" });
  const decisions = createBatchDecisions(backend, batch);
  const sets = Array.from({ length: SETS }, (_, set) => ({
    keys: randomTensor(gpu, "f32", [batch, numKvHeads, headDim], 20 + set),
    values: randomTensor(gpu, "f32", [batch, numKvHeads, headDim], 40 + set),
    residual: randomTensor(gpu, "f32", [batch, hiddenSize], 60 + set),
    normed: randomTensor(gpu, "f32", [batch, hiddenSize], 80 + set),
  }));
  const positions = i32(backend, new Int32Array(batch));
  const output = randomTensor(gpu, "f32", [batch, hiddenSize], 99);
  let steps = 0;
  const step = () => {
    const { keys, values, residual, normed } = sets[steps++ % SETS]!;
    const rows = { filterKeys: keys, keys, values, residual, normed, queries: undefined, positions };
    backend.kvFilterStep(states, cache, rows, false, decisions);
    if (learned) backend.kvFilterObserveBatch(states, decisions, output, residual);
  };
  let launched = 0;
  const before = () => {
    if (steps > 0) backend.advance(positions);
    // An endless batch: the cache begins again before it is full.
    launched += recorded ?? 1;
    if (launched < capacity) return;
    backend.write(cache.counts, hostTensor("i32", [batch], new Int32Array(batch)));
    launched = recorded ?? 1;
  };
  let graph: ReturnType<typeof backend.record> | undefined;
  const run = () => {
    if (recorded === undefined) step();
    else {
      graph ??= backend.record(() => {
        for (let i = 0; i < recorded; i++) step();
      });
      graph.launch();
    }
  };
  const elements = 2 * batch * numKvHeads * headDim;
  return {
    op: "kv_filter_step",
    impl: "tokenfilter",
    phase: "decode",
    shape:
      `batch=${batch} kvHeads=${numKvHeads} d=${headDim} ${spec.rule.name}${learned ? " + observe" : ""}` +
      (recorded === undefined ? "" : `, of ${recorded} in a graph, warm`),
    dtype: "f32",
    skip: 0.5,
    flops: 9 * elements,
    bytes: elements * (4 + 8 + 2) + batch * 8 * spec.window,
    run,
    before,
    ...(recorded !== undefined && { repeats: recorded }),
    verify() {
      const kept: Uint8Array[] = [];
      for (let i = 0; i < CHECKED; i++) {
        before();
        step();
        kept.push(backend.read(decisions.keep).data as Uint8Array);
      }
      for (const sequence of new Set([0, batch - 1])) {
        expectDecisions("kv_filter_step", gpu, spec, sets, learned ? output : undefined, sequence, kept);
      }
    },
  };
}

/**
 * Compares one sequence's decisions with the reference, up to the first that could fall either way. `attended`: for
 * `learned`, the attention's output of every step.
 */
export function expectDecisions(
  op: string,
  { backend }: Gpu,
  spec: ReturnType<typeof specOf>,
  sets: readonly { keys: Tensor; values: Tensor; residual?: Tensor; normed?: Tensor }[],
  attended: Tensor | undefined,
  sequence: number,
  kept: readonly Uint8Array[],
): void {
  const state = createLayerState(spec), output = createScanOutput(1);
  for (const [step, keep] of kept.entries()) {
    const set = sets[step % SETS]!;
    const row = (tensor: Tensor) => {
      const host = backend.read(backend.row(tensor, sequence));
      return { ...host, shape: [1, ...host.shape] };
    };
    const input = { keys: row(set.keys), values: row(set.values) };
    const more = attended && { residual: row(set.residual!), normed: row(set.normed!) };
    scanLayer(spec, state, { ...input, ...more }, 0, 1, output);
    if (attended !== undefined) {
      const norm = (x: HostTensor) => Math.hypot(...f32Data(x)) + 1e-6;
      const outcome = Math.log(norm(row(attended)) / norm(more!.residual));
      observeLayer(spec, state, Float64Array.from(output.keep[0] ? [outcome] : []));
    }
    const distance = Math.abs(output.redundancy[0]! - output.threshold[0]!);
    if (distance < BAND) return;
    if (keep[sequence] !== output.keep[0]) {
      throw new Error(
        `Cannot trust ${op}: found ${keep[sequence]} at step ${step} of sequence ${sequence}, expected ${
          output.keep[0]
        }`,
      );
    }
  }
}

/**
 * `kv_filter_scan` over `tokens` tokens of one sequence, in chunks; states cross to the host and back each time.
 * `learned`: by that rule, whose blocks are then as long as the chunks, with outcomes made up.
 */
export function scanCase(
  gpu: Gpu,
  sizes: FilterSizes,
  tokens: number,
  chunk: number,
  learned = false,
): GpuBenchCase {
  const { backend } = gpu, { numKvHeads, headDim, hiddenSize } = sizes;
  const spec = specOf(sizes, learned ? { fusion: "learned", block: chunk } : {});
  const random = (width: readonly number[], seed: number) =>
    randomTensor(gpu, "f32", [tokens, ...width], seed);
  const keys = random([numKvHeads, headDim], 11), values = random([numKvHeads, headDim], 12);
  const more = learned && { residual: random([hiddenSize], 13), normed: random([hiddenSize], 14) };
  const input = { keys, values, ...more };
  const next = numbers(15), outcomes = Float64Array.from({ length: tokens }, () => next() - 1);
  const output = createScanOutput(tokens);
  const scan = (
    { kvFilterScan, kvFilterObserve }: Pick<Backend, "kvFilterScan" | "kvFilterObserve">,
    rows: typeof input,
    out: ScanOutput,
  ) => {
    const state = createLayerState(spec);
    for (let at = 0; at < tokens;) {
      const end = at + kvFilterScan(spec, state, rows, at, Math.min(chunk, tokens - at), out);
      if (learned) kvFilterObserve(spec, state, outcomes.slice(at, end).filter((_, i) => out.keep[at + i]));
      at = end;
    }
  };
  const run = () => scan(backend, input, output);
  const elements = 2 * tokens * numKvHeads * headDim, wide = learned ? tokens * hiddenSize : 0;
  return {
    op: "kv_filter_scan",
    impl: "tokenfilter",
    phase: "prefill",
    shape:
      `T=${tokens} ${learned ? "learned block" : "chunk"}=${chunk} kvHeads=${numKvHeads} d=${headDim}, ` +
      "host's copies included",
    dtype: "f32",
    skip: 0.5,
    flops: 9 * elements + 2 * codeOf(spec, "projections") * wide,
    bytes: 4 * elements + 8 * wide,
    run,
    verify() {
      run();
      const expected = createScanOutput(tokens);
      const host = Object.fromEntries(
        Object.entries(input).map(([name, tensor]) => [name, backend.read(tensor)]),
      ) as unknown as typeof input;
      scan(
        { kvFilterScan: scanLayer as Backend["kvFilterScan"], kvFilterObserve: observeLayer },
        host,
        expected,
      );
      for (let t = 0; t < tokens; t++) {
        if (Math.abs(expected.redundancy[t]! - expected.threshold[t]!) < BAND) return;
        if (output.keep[t] !== expected.keep[t]) {
          throw new Error(`Cannot trust kv_filter_scan: found ${output.keep[t]} for token ${t}`);
        }
      }
    },
  };
}
