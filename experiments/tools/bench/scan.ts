/** Races of the decision recurrence: a prefill of 4,096 tokens, and one step after them. */
import {
  cloneLayerState,
  createLayerState,
  createScanOutput,
  type LayerSpec,
  scanLayer,
} from "../../../lib/filter/mod.ts";
import { TokenFilter } from "../../../lib/methods/mod.ts";
import { emptyTensor, type HostTensor } from "../../../lib/tensor.ts";
import type { CpuBackend } from "../../../ffi/mod.ts";
import { type BenchCase, expectClose, numbers, timed } from "./run.ts";

const TOKENS = 4096, NUM_KV_HEADS = 3, HEAD_DIM = 64;
/** Per element of a key or value: three products of a cosine and an anchor's step. */
const FLOPS_PER_ELEMENT = 9;

function random(seed: number, tokens: number): HostTensor {
  const tensor = emptyTensor("f32", [tokens, NUM_KV_HEADS, HEAD_DIM]), next = numbers(seed);
  const row = NUM_KV_HEADS * HEAD_DIM;
  for (let i = 0; i < tensor.data.length; i++) tensor.data[i] = Math.sin(i % row) + next();
  return tensor;
}

/** The cases of one phase: this project's kernel, for the default rule. */
export function scanRace(backend: CpuBackend, impl: string, phase: "prefill" | "decode"): BenchCase[] {
  const shape = {
    numLayers: 1,
    numHeads: 9,
    numKvHeads: NUM_KV_HEADS,
    headDim: HEAD_DIM,
    hiddenSize: 9 * HEAD_DIM,
  };
  const spec: LayerSpec = new TokenFilter(shape, { tail: 1, pruneRatio: 0.5 }).specs[0]!;
  const all = { keys: random(5, TOKENS + 1), values: random(6, TOKENS + 1) };
  const start = phase === "prefill" ? 0 : TOKENS, count = phase === "prefill" ? TOKENS : 1;
  const state = createLayerState(spec);
  if (start > 0) backend.kvFilterScan(spec, state, all, 0, start, createScanOutput(TOKENS + 1));
  const output = createScanOutput(TOKENS + 1);
  const run = () => backend.kvFilterScan(spec, cloneLayerState(state), all, start, count, output);
  const elements = 2 * count * NUM_KV_HEADS * HEAD_DIM;
  return [{
    op: "kv_filter_scan",
    impl,
    phase,
    shape: `T=${count} kvHeads=${NUM_KV_HEADS} headDim=${HEAD_DIM} window=${spec.window}`,
    dtype: "f32",
    skip: 0.5,
    flops: FLOPS_PER_ELEMENT * elements,
    bytes: 4 * elements,
    verify() {
      run();
      const expected = createScanOutput(TOKENS + 1);
      scanLayer(spec, cloneLayerState(state), all, start, count, expected);
      expectClose("the filter's decisions", output.keep, expected.keep, 0);
      const rows = (column: Float64Array) => column.subarray(Math.max(start, 1), start + count);
      expectClose("the filter's scores", rows(output.redundancy), rows(expected.redundancy), 1e-9);
    },
    time: timed(run),
  }];
}
