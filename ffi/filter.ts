/** The wrappers of `tkf_filter_scan` and `tkf_filter_observe`. */
import { type DType, DTYPES } from "../lib/dtype.ts";
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
  SCAN_COLUMNS,
  type ScanInput,
  type ScanOutput,
  scoreCapacity,
  THRESHOLD_POLICIES,
} from "../lib/filter/layer.ts";
import { expectTensor, hostData, rowsOf, type Tensor } from "../lib/tensor.ts";
import type { KernelContext } from "./context.ts";
import { type Buffer, setInts } from "./symbols.ts";

/** Bytes of `tkf_filter_spec`. */
export const SPEC_BYTES = 144;

/** Packs a spec as `tkf_filter_spec`. */
export function packSpec(spec: LayerSpec, queriesSize: number): DataView<ArrayBuffer> {
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

/** The state must be the one that the spec asks for: the native side trusts lengths, not meanings. */
export function expectState(spec: LayerSpec, state: LayerState): void {
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

/** The parts of a state, in the order of the C ABI. */
export const STATE_PARTS = ["anchorK", "anchorV", "numbers", "scores", "learned"] as const;

/** The tensors that a scan reads, checked; those that the rule does not read are undefined. */
export interface ScanTensors {
  readonly keys: Tensor;
  readonly values: Tensor;
  readonly residual: Tensor | undefined;
  readonly normed: Tensor | undefined;
  readonly queries: Tensor | undefined;
}

/**
 * Checks a scan's arguments before they cross the ABI.
 *
 * @throws {TypeError} If a tensor that the rule reads is missing, or of another type.
 * @throws {RangeError} If a shape, the rows, or the state does not fit.
 */
export function expectScan(
  spec: LayerSpec,
  state: LayerState,
  input: ScanInput<Tensor>,
  start: number,
  count: number,
  output: ScanOutput,
): ScanTensors {
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
  const check = (
    name: string,
    tensor: Tensor,
    dtypes: DType | readonly DType[],
    shape: readonly number[],
  ) => {
    expectTensor(name, tensor, dtypes, shape);
    if (start + count > tensor.shape[0]) {
      throw new RangeError(
        `Cannot scan rows ${start} to ${start + count}: found ${tensor.shape[0]} rows of "${name}"`,
      );
    }
  };
  check("keys", input.keys, ["f32", "f16", "bf16"], [-1, numKvHeads, headDim]);
  check("values", input.values, input.keys.dtype, [-1, numKvHeads, headDim]);
  let { residual, normed, queries } = input;
  if (spec.fusion !== "learned") {
    return { ...input, residual: undefined, normed: undefined, queries: undefined };
  }
  if (residual === undefined || normed === undefined) {
    throw new TypeError('Cannot scan with "learned": found no residual and normed, expected both');
  }
  check("residual", residual, "f32", [-1, hiddenSize]);
  check("normed", normed, "f32", [-1, hiddenSize]);
  if (((spec.features >> FEATURE_GROUPS.indexOf("query")) & 1) === 0) queries = undefined;
  else if (queries === undefined) {
    throw new TypeError('Cannot scan with the "query" feature: found no queries, expected them');
  } else check("queries", queries, "f32", [-1, -1]);
  return { keys: input.keys, values: input.values, residual, normed, queries };
}

/** Where everything lies that a scan reads and writes. */
export interface ScanBuffers {
  readonly state: readonly Buffer[];
  readonly keys: Buffer;
  readonly values: Buffer;
  readonly residual: Buffer;
  readonly normed: Buffer;
  readonly queries: Buffer;
  readonly keep: Buffer;
  readonly columns: Buffer;
  readonly taken: Buffer;
}

/** Calls `tkf_filter_scan` on `count` rows. @returns its status */
export function callScan(
  { symbols, pointer }: KernelContext,
  spec: LayerSpec,
  tensors: ScanTensors,
  count: number,
  buffers: ScanBuffers,
): number {
  const [anchorK, anchorV, numbers, scores, learned] = buffers.state as readonly [
    Buffer,
    Buffer,
    Buffer,
    Buffer,
    Buffer,
  ];
  const { keys, values, residual, normed, queries, keep, columns, taken } = buffers;
  return symbols.tkf_filter_scan(
    pointer,
    packSpec(spec, tensors.queries?.shape[1] ?? 0),
    SPEC_BYTES,
    ...anchorK,
    ...anchorV,
    ...numbers,
    ...scores,
    ...learned,
    DTYPES[tensors.keys.dtype].code,
    ...keys,
    ...values,
    ...residual,
    ...normed,
    ...queries,
    count,
    ...keep,
    ...columns,
    ...taken,
  );
}

/** Number of columns of a scan's output. */
export const NUM_COLUMNS = SCAN_COLUMNS.length;

/** Puts the columns [{@linkcode NUM_COLUMNS}, count] of the rows taken into an output, from row `start` on. */
export function storeColumns(
  columns: Float64Array,
  count: number,
  taken: number,
  output: ScanOutput,
  start: number,
): void {
  SCAN_COLUMNS.forEach((name, i) => {
    const column: ScanOutput[typeof name] = output[name];
    column.set(columns.subarray(i * count, i * count + taken), start);
  });
}

/** Calls `tkf_filter_observe`. @returns its status */
export function callObserve(
  { symbols, pointer }: KernelContext,
  spec: LayerSpec,
  state: readonly Buffer[],
  y: Buffer,
  count: number,
): number {
  const [numbers, scores, learned] = state.slice(2) as [Buffer, Buffer, Buffer];
  return symbols.tkf_filter_observe(
    pointer,
    packSpec(spec, 0),
    SPEC_BYTES,
    ...numbers,
    ...scores,
    ...learned,
    ...y,
    count,
  );
}

const bufferOf = (data: ArrayBufferView<ArrayBuffer>): Buffer => [data, data.byteLength];

/** {@linkcode Backend.kvFilterScan} on host tensors. */
export function kvFilterScan(context: KernelContext): FilterScan<Tensor> {
  return (spec, state, input, start, count, output) => {
    const tensors = expectScan(spec, state, input, start, count, output);
    const rows = (tensor: Tensor | undefined): Buffer => {
      if (tensor === undefined) return [null, 0];
      const part = rowsOf({ ...tensor, data: hostData(tensor) }, start, start + count);
      return bufferOf(part.data as ArrayBufferView<ArrayBuffer>);
    };
    const columns = new Float64Array(NUM_COLUMNS * count);
    const taken = new BigInt64Array(1);
    const status = callScan(context, spec, tensors, count, {
      state: STATE_PARTS.map((name) => bufferOf(state[name])),
      keys: rows(tensors.keys),
      values: rows(tensors.values),
      residual: rows(tensors.residual),
      normed: rows(tensors.normed),
      queries: rows(tensors.queries),
      keep: bufferOf(output.keep.subarray(start, start + count)),
      columns: bufferOf(columns),
      taken: bufferOf(taken),
    });
    context.check("tkf_filter_scan", status);
    storeColumns(columns, count, Number(taken[0]), output, start);
    return Number(taken[0]);
  };
}

/** {@linkcode Backend.kvFilterObserve}. */
export function kvFilterObserve(context: KernelContext): FilterObserve {
  return (spec, state, y) => {
    expectState(spec, state);
    const parts = STATE_PARTS.map((name) => bufferOf(state[name]));
    context.check("tkf_filter_observe", callObserve(context, spec, parts, bufferOf(y), y.length));
  };
}
