/** The wrappers of `tkf_filter_scan` and `tkf_filter_observe`. */
import type { DType } from "../lib/dtype.ts";
import {
  codeOf,
  type FilterObserve,
  type FilterScan,
  firstOutcomeOf,
  type LayerSpec,
  type LayerState,
  projectionsOf,
  SCAN_COLUMNS,
  type ScanInput,
  type ScanOutput,
  stateSizes,
} from "../lib/filter/layer.ts";
import { expectTensor, hostData, rowsOf, type Tensor } from "../lib/tensor.ts";
import type { Argument, Arguments } from "./library/abi.ts";
import type { KernelContext } from "./context.ts";

/** Fields of `tkf_filter_spec`: properties of a spec, by their names there. */
const SPEC_FIELDS = [
  ...["layer", "heads", "kvHeads", "headDim", "hiddenSize", "recent", "sinks", "firstOutcome"],
  ...["fusion", "invert", "anchor", "absorb", "warmup", "threshold"],
  ...["window", "chunk", "block", "projections", "features", "queriesSize"],
  ...["skipRatio", "tau", "lambda", "eps", "alpha", "gamma", "theta", "eta", "ridge"],
].map((name) => [name, name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)] as const);

/** A function of an object, computed once for each: a decode step asks for it twice a filtered layer. */
function once<Key extends object, T>(make: (key: Key) => T): (key: Key) => T {
  const made = new WeakMap<Key, T>();
  return (key) => {
    const known = made.get(key);
    if (known !== undefined) return known;
    const value = make(key);
    made.set(key, value);
    return value;
  };
}

const sizesOf = once(stateSizes);
const argsOf = once((_spec: LayerSpec) => new Map<number, Arguments>());

/**
 * A spec as `tkf_filter_spec`.
 *
 * @param queriesSize Width of the queries, 0 where there are none.
 * @throws {RangeError} If the kernels do not have its rule.
 */
export function specArgs(spec: LayerSpec, queriesSize: number): Arguments {
  const known = argsOf(spec).get(queriesSize);
  if (known !== undefined) return known;
  const { name, native } = spec.rule;
  if (native === undefined) {
    throw new RangeError(
      `Cannot run the rule "${name}" in native code: expected a rule that the kernels have`,
    );
  }
  const { numHeads: heads, numKvHeads: kvHeads } = spec;
  const own = { ...spec, heads, kvHeads, fusion: native, queriesSize, firstOutcome: firstOutcomeOf(spec) };
  const args: { [field: string]: Argument } = { seed: projectionsOf(spec).seed };
  for (const [name, field] of SPEC_FIELDS) args[field] = codeOf(own, name);
  argsOf(spec).set(queriesSize, Object.freeze(args));
  return args;
}

/** The parts of a state as `tkf_filter_states`, wherever they lie. @param signs of a batch, null otherwise */
export function statesArgs(
  { anchorK, anchorV, numbers, scores, learned }: Readonly<Record<typeof STATE_PARTS[number], Argument>>,
  signs: Argument = null,
): Arguments {
  return { anchor_k: anchorK, anchor_v: anchorV, numbers, scores, learned, signs };
}

/** A state of this process as `tkf_filter_states`, made and written once. */
const heldStates = once((state: LayerState) => Object.freeze(statesArgs(state)));

/** The state must be the one that the spec asks for: the native side trusts lengths, not meanings. */
export function expectState(spec: LayerSpec, state: LayerState): void {
  const expected = sizesOf(spec);
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

/**
 * Checks a scan's arguments before they cross the ABI.
 *
 * @returns The tensors that the scan reads; those that the rule does not read are undefined.
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
) {
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
    shape: readonly [number, ...number[]],
  ) => {
    const [rows] = expectTensor(name, tensor, dtypes, shape);
    if (start + count > rows) {
      throw new RangeError(
        `Cannot scan rows ${start} to ${start + count}: found ${rows} rows of "${name}"`,
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

/** The arguments of `tkf_filter_scan`. @param at the rows of each tensor @param out buffers of the results */
export function scanArgs(
  spec: LayerSpec,
  states: Arguments,
  { keys, values, residual, normed, queries }: ReturnType<typeof expectScan>,
  count: number,
  at: (tensor: Tensor) => Argument,
  out: { readonly keep: Argument; readonly columns: Argument; readonly taken: Argument },
): Arguments {
  const rows = (tensor: Tensor | undefined) => tensor === undefined ? null : at(tensor);
  return {
    spec: specArgs(spec, queries?.shape[1] ?? 0),
    states,
    keys: at(keys),
    values: at(values),
    residual: rows(residual),
    normed: rows(normed),
    queries: rows(queries),
    ...out,
    count,
    kv_dtype: keys.dtype,
  };
}

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
    for (let row = 0; row < taken; row++) column[start + row] = columns[i * count + row]!;
  });
}

export function kvFilterScan(context: KernelContext): FilterScan<Tensor> {
  // Room for results, used again: a decode step scans once per filtered layer.
  const taken = new Int32Array(2); // an int64_t, whose high half is 0
  let columns = new Float64Array(NUM_COLUMNS);
  return (spec, state, input, start, count, output) => {
    const tensors = expectScan(spec, state, input, start, count, output);
    const at = (tensor: Tensor) =>
      start === 0 && count === tensor.shape[0]
        ? tensor
        : rowsOf({ ...tensor, data: hostData(tensor) }, start, start + count);
    const whole = start === 0 && count === output.keep.length;
    const keep = whole ? output.keep : output.keep.subarray(start, start + count);
    if (columns.length < NUM_COLUMNS * count) columns = new Float64Array(NUM_COLUMNS * count);
    const args = scanArgs(spec, heldStates(state), tensors, count, at, { keep, columns, taken });
    context.call("tkf_filter_scan", args);
    storeColumns(columns, count, taken[0]!, output, start);
    return taken[0]!;
  };
}

export function kvFilterObserve(context: KernelContext): FilterObserve {
  return (spec, state, y) => {
    expectState(spec, state);
    const args = { spec: specArgs(spec, 0), states: heldStates(state), y, count: y.length };
    context.call("tkf_filter_observe", args);
  };
}
