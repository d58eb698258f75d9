/** Good arguments of every op, and how tests change them. */
import { readCalls } from "../../kernels/testing/fuzz/fuzz.ts";
import { Draw } from "../../kernels/testing/fuzz/draw.ts";
import { createLayerState } from "../../lib/filter/layer.ts";
import { learnedLayout } from "../../lib/methods/rules/learned.ts";
import { TokenFilter } from "../../lib/methods/bind/token_filter.ts";
import { openTested } from "../../kernels/testing/ways.ts";
import { specArgs, statesArgs } from "../filter.ts";
import type { Argument, Arguments, Layout, Scalar } from "./abi.ts";

/** A context of the CPU library, and the library. */
export const context = (await openTested({ threads: 2, blas: "none" }))["context"]; // private; tests may use it
export const { library } = context;
const calls = await readCalls();

/** The model that arguments of the filter are of. */
export const shape = { numLayers: 1, numHeads: 2, numKvHeads: 1, headDim: 4, hiddenSize: 6 };
const [spec] = new TokenFilter(shape, {
  tail: 1,
  fusion: "learned",
  features: ["similarity", "norm", "projection", "query"],
}).specs;
/** A number of equal floats. */
export const floats = (count: number) => new Float32Array(count).fill(0.5);

/** Good arguments of ops whose random ones do not read everything: two tokens of `learned`. */
const FILTER: { readonly [op: string]: () => Arguments } = {
  tkf_filter_scan: () => ({
    spec: specArgs(spec!, 8),
    states: statesArgs(createLayerState(spec!)),
    ...{ keys: floats(8), values: floats(8), residual: floats(12), normed: floats(12), queries: floats(16) },
    ...{ keep: new Uint8Array(2), columns: new Float64Array(14), taken: new BigInt64Array(1) },
    ...{ count: 2, kv_dtype: "f32" },
  }),
  tkf_filter_observe() {
    const state = createLayerState(spec!);
    state.numbers.set([2, 2, 0, 0, 0, 0, 0, 2]); // two tokens seen, absorbed, pending
    state.learned.fill(1, learnedLayout(spec!).outcome);
    return { spec: specArgs(spec!, 8), states: statesArgs(state), y: new Float64Array(2), count: 2 };
  },
};
/** Good arguments of an op: buffers of more than 0 bytes, sizes of 2 or more, the same at each call. */
export const good = (name: string): Arguments =>
  FILTER[name]?.() ?? calls[name]!(new Draw(3, { least: 2, odd: false }));
/** Paths of an op's fields of the given types, such as "states.scores". */
export function pathsOf(layout: Layout, types: readonly Scalar[], prefix = ""): string[] {
  return layout.fields.flatMap(({ name, type }) => {
    if (typeof type === "object") return pathsOf(type, types, `${prefix}${name}.`);
    return types.includes(type) ? [prefix + name] : [];
  });
}

/** Arguments with one field changed. */
export function changed(args: Arguments, path: string, change: (value: Argument) => Argument): Arguments {
  const [name, ...rest] = path.split("."), value = args[name!]!;
  const next = rest.length > 0 ? changed(value as Arguments, rest.join("."), change) : change(value);
  return { ...args, [name!]: next };
}

/** An array's bytes. */
export const bytesOf = (value: Argument) => {
  const { buffer, byteOffset, byteLength } = value as ArrayBufferView;
  return new Uint8Array(buffer, byteOffset, byteLength);
};
/** The same bytes, one off. */
export function misaligned(value: Argument): Uint8Array {
  const bytes = bytesOf(value), shifted = new Uint8Array(new ArrayBuffer(bytes.length + 8), 1, bytes.length);
  shifted.set(bytes);
  return shifted;
}
