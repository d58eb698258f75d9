/** The wrappers of `tkf_filter_scan` and `tkf_filter_observe`. */
import { DTYPES } from "../lib/dtype.ts";
import {
  ABSORBS,
  ANCHORS,
  FEATURE_GROUPS,
  type FilterObserve,
  type FilterScan,
  FUSION_RULES,
  type LayerSpec,
  type LayerState,
  learnedLayout,
  NUM_SLOTS,
  type ScanOutput,
  scoreCapacity,
  THRESHOLD_POLICIES,
} from "../lib/filter/layer.ts";
import { expectTensor, hostData, type HostTensor, rowsOf, type Tensor } from "../lib/tensor.ts";
import type { NativeContext } from "./context.ts";
import { setInts } from "./symbols.ts";

/** Bytes of `tkf_filter_spec`. */
const SPEC_BYTES = 144;
const NO_FLOATS = new Float32Array(0);
/** Columns of the output, in the order of the C ABI. */
const COLUMNS = ["redundancy", "threshold", "muK", "varK", "muV", "varV", "wK"] as const;

/** Packs a spec as `tkf_filter_spec`. */
function packSpec(spec: LayerSpec, queriesSize: number): DataView<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(SPEC_BYTES));
  const { layer, numKvHeads, headDim, hiddenSize, warmup, window, chunk, block, projections, features } =
    spec;
  setInts(view, 0, {
    layer,
    numKvHeads,
    headDim,
    hiddenSize,
    fusion: FUSION_RULES.indexOf(spec.fusion),
    invert: spec.invert ? 1 : 0,
    anchor: ANCHORS.indexOf(spec.anchor),
    absorb: ABSORBS.indexOf(spec.absorb),
    warmup,
    threshold: THRESHOLD_POLICIES.indexOf(spec.threshold),
    window,
    chunk,
    block,
    projections,
    features,
    queriesSize,
  });
  const { skipRatio, tau, lambda, eps, alpha, gamma, theta, eta, ridge } = spec;
  [skipRatio, tau, lambda, eps, alpha, gamma, theta, eta, ridge]
    .forEach((number, i) => view.setFloat64(64 + 8 * i, number, true));
  view.setBigUint64(136, spec.seed, true);
  return view;
}

/** Rows [start, start + count) of an input as FFI takes them. */
function part(
  name: string,
  tensor: Tensor,
  start: number,
  count: number,
): HostTensor & { data: BufferSource } {
  const data = hostData(tensor);
  if (start + count > tensor.shape[0]) {
    throw new RangeError(
      `Cannot scan rows ${start} to ${start + count}: found ${tensor.shape[0]} rows of "${name}"`,
    );
  }
  return rowsOf({ ...tensor, data }, start, start + count) as HostTensor & { data: BufferSource };
}

/** The state must be the one that the spec asks for: the native side trusts lengths, not meanings. */
function expectState(spec: LayerSpec, state: LayerState): void {
  const size = spec.numKvHeads * spec.headDim;
  const expected = {
    anchorK: size,
    anchorV: size,
    numbers: NUM_SLOTS,
    scores: scoreCapacity(spec),
    learned: spec.fusion === "learned" ? learnedLayout(spec).length : 0,
  };
  for (const name of ["anchorK", "anchorV", "numbers", "scores", "learned"] as const) {
    if (state[name].length !== expected[name]) {
      throw new RangeError(
        `Cannot use this state: found ${state[name].length} numbers in "${name}", expected ${expected[name]}`,
      );
    }
  }
}

/** {@linkcode Backend.kvFilterScan} on host tensors. */
export function kvFilterScan(context: NativeContext): FilterScan<Tensor> {
  return (spec, state, input, start, count, output) => {
    const { numKvHeads, headDim, hiddenSize } = spec;
    expectState(spec, state);
    if (!Number.isSafeInteger(start) || !Number.isSafeInteger(count) || start < 0 || count < 1) {
      throw new RangeError(`Cannot scan ${count} rows from ${start}: expected at least 1, from 0 or later`);
    }
    if (start + count > output.keep.length) {
      throw new RangeError(
        `Cannot scan to row ${start + count}: found room for ${output.keep.length} results`,
      );
    }
    expectTensor("keys", input.keys, ["f32", "f16", "bf16"], [-1, numKvHeads, headDim]);
    expectTensor("values", input.values, input.keys.dtype, [-1, numKvHeads, headDim]);
    const keys = part("keys", input.keys, start, count).data;
    const values = part("values", input.values, start, count).data;
    let residual: BufferSource = NO_FLOATS,
      normed: BufferSource = NO_FLOATS,
      queries: BufferSource = NO_FLOATS;
    let queriesSize = 0;
    if (spec.fusion === "learned") {
      if (input.residual === undefined || input.normed === undefined) {
        throw new TypeError('Cannot scan with "learned": found no residual and normed, expected both');
      }
      expectTensor("residual", input.residual, "f32", [-1, hiddenSize]);
      expectTensor("normed", input.normed, "f32", [-1, hiddenSize]);
      residual = part("residual", input.residual, start, count).data;
      normed = part("normed", input.normed, start, count).data;
      if ((spec.features >> FEATURE_GROUPS.indexOf("query")) & 1) {
        if (input.queries === undefined) {
          throw new TypeError('Cannot scan with the "query" feature: found no queries, expected them');
        }
        expectTensor("queries", input.queries, "f32", [-1, -1]);
        queriesSize = input.queries.shape[1];
        queries = part("queries", input.queries, start, count).data;
      }
    }
    const columns = new Float64Array(COLUMNS.length * count);
    const keep = output.keep.subarray(start, start + count);
    const taken = new BigInt64Array(1);
    context.check(
      "tkf_filter_scan",
      context.symbols.tkf_filter_scan(
        context.pointer,
        packSpec(spec, queriesSize),
        SPEC_BYTES,
        state.anchorK,
        state.anchorK.byteLength,
        state.anchorV,
        state.anchorV.byteLength,
        state.numbers,
        state.numbers.byteLength,
        state.scores,
        state.scores.byteLength,
        state.learned,
        state.learned.byteLength,
        DTYPES[input.keys.dtype].code,
        keys,
        keys.byteLength,
        values,
        values.byteLength,
        residual,
        residual.byteLength,
        normed,
        normed.byteLength,
        queries,
        queries.byteLength,
        count,
        keep,
        keep.byteLength,
        columns,
        columns.byteLength,
        taken,
        taken.byteLength,
      ),
    );
    const rows = Number(taken[0]);
    COLUMNS.forEach((name, i) => {
      const column: ScanOutput[typeof name] = output[name];
      column.set(columns.subarray(i * count, i * count + rows), start);
    });
    return rows;
  };
}

/** {@linkcode Backend.kvFilterObserve}. */
export function kvFilterObserve(context: NativeContext): FilterObserve {
  return (spec, state, y) => {
    expectState(spec, state);
    context.check(
      "tkf_filter_observe",
      context.symbols.tkf_filter_observe(
        context.pointer,
        packSpec(spec, 0),
        SPEC_BYTES,
        state.numbers,
        state.numbers.byteLength,
        state.scores,
        state.scores.byteLength,
        state.learned,
        state.learned.byteLength,
        y,
        y.byteLength,
        y.length,
      ),
    );
  };
}
