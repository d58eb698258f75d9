/** The wrappers of `tkf_filter_scan` and `tkf_filter_observe`. */
import { type DType, DTYPES } from "../lib/dtype.ts";
import {
  codeOf,
  type FilterObserve,
  type FilterScan,
  type LayerSpec,
  type LayerState,
  SCAN_COLUMNS,
  type ScanInput,
  type ScanOutput,
  stateSizes,
} from "../lib/filter/layer.ts";
import { expectTensor, hostData, rowsOf, type Tensor } from "../lib/tensor.ts";
import type { KernelContext } from "./context.ts";
import { type Buffer, setInts } from "./symbols.ts";

/** Bytes of `tkf_filter_spec`. */
export const SPEC_BYTES = 144;
/** Its 32-bit integers, then its doubles, then the seed: options by the names that the spec gives them, in its order. */
export const SPEC_INTS = [
  ...["layer", "numKvHeads", "headDim", "hiddenSize"],
  ...["fusion", "invert", "anchor", "absorb", "warmup", "threshold", "window", "chunk"],
  ...["block", "projections", "features", "queriesSize"],
];
/** Its doubles. */
export const SPEC_DOUBLES = ["skipRatio", "tau", "lambda", "eps", "alpha", "gamma", "theta", "eta", "ridge"];

/**
 * Packs a spec as `tkf_filter_spec`.
 *
 * @throws {RangeError} If the kernels do not have its rule.
 */
export function packSpec(spec: LayerSpec, queriesSize: number): DataView<ArrayBuffer> {
  const { name, native } = spec.rule;
  if (native === undefined) {
    throw new RangeError(
      `Cannot run the rule "${name}" in native code: expected a rule that the kernels have`,
    );
  }
  const view = new DataView(new ArrayBuffer(SPEC_BYTES)), own = { ...spec, fusion: native, queriesSize };
  setInts(view, 0, Object.fromEntries(SPEC_INTS.map((field) => [field, codeOf(own, field)])));
  SPEC_DOUBLES.forEach((field, i) => view.setFloat64(4 * SPEC_INTS.length + 8 * i, codeOf(own, field), true));
  view.setBigUint64(SPEC_BYTES - 8, (spec as LayerSpec & { readonly seed: bigint }).seed, true);
  return view;
}

/** The state must be the one that the spec asks for: the native side trusts lengths, not meanings. */
export function expectState(spec: LayerSpec, state: LayerState): void {
  const expected = stateSizes(spec);
  for (const name of STATE_PARTS) {
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
  const read = (name: "residual" | "normed" | "queries", width: number) => {
    if (!spec.reads.includes(name)) return undefined;
    const tensor = input[name];
    if (tensor === undefined) {
      throw new TypeError(`Cannot scan with "${spec.rule.name}": found no ${name}, expected a tensor of f32`);
    }
    check(name, tensor, "f32", [-1, width]);
    return tensor;
  };
  return {
    keys: input.keys,
    values: input.values,
    residual: read("residual", hiddenSize),
    normed: read("normed", hiddenSize),
    queries: read("queries", -1),
  };
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
