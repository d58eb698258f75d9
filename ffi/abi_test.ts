import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { readCalls } from "../kernels/testing/fuzz/fuzz.ts";
import { Draw } from "../kernels/testing/fuzz/draw.ts";
import { createLayerState } from "../lib/filter/layer.ts";
import { hostData } from "../lib/tensor.ts";
import type { Option } from "../lib/filter/option.ts";
import { learnedLayout } from "../lib/methods/learned.ts";
import { OPTIONS } from "../lib/methods/options.ts";
import { TokenFilter } from "../lib/methods/token_filter.ts";
import {
  ABI_VERSION,
  type Argument,
  type Arguments,
  type Layout,
  Op,
  parseAbi,
  type Scalar,
  STATUS,
} from "./abi.ts";
import { NativeContext } from "./context.ts";
import { openEmulated } from "./cuda/testing.ts";
import type { FilterBackend } from "../lib/filter/sequence.ts";
import { specArgs, statesArgs } from "./filter.ts";
import { findLibrary, openCpuLibrary } from "./library.ts";

const library = await openCpuLibrary(), { symbols, ops } = library;
const context = new NativeContext(library, { threads: 2 });
const calls = await readCalls();

const shape = { numLayers: 1, numHeads: 2, numKvHeads: 1, headDim: 4, hiddenSize: 6 };
const [spec] = new TokenFilter(shape, {
  tail: 1,
  fusion: "learned",
  features: ["similarity", "norm", "projection", "query"],
}).specs;
const floats = (count: number) => new Float32Array(count).fill(0.5);

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
const good = (name: string): Arguments =>
  FILTER[name]?.() ?? calls[name]!(new Draw(3, { least: 2, odd: false }));
/** Buffers that these do not need. */
const UNREAD: { readonly [op: string]: readonly string[] } = {
  tkf_linear_apply: ["kept", "kept_count"],
  tkf_rms_norm_apply: ["delta", "keep"],
  tkf_rows_copy: ["x2", "indices", "out2"],
  tkf_rope_apply: ["kept", "kept_count"],
  tkf_attention_filtered: ["key_ends", "windows", "shares", "changes", "head_weights"],
  tkf_filter_scan: ["states.signs"],
  tkf_filter_observe: ["states.anchor_k", "states.anchor_v", "states.signs"],
};
/** All but the one whose good call takes a second. */
const NAMES = [...ops.keys()].filter((name) => name !== "tkf_machine_measure");

/** Paths of an op's fields of the given types, such as "states.scores". */
function pathsOf(layout: Layout, types: readonly Scalar[], prefix = ""): string[] {
  return layout.fields.flatMap(({ name, type }) => {
    if (typeof type === "object") return pathsOf(type, types, `${prefix}${name}.`);
    return types.includes(type) ? [prefix + name] : [];
  });
}

/** Arguments with one field changed. */
function changed(args: Arguments, path: string, change: (value: Argument) => Argument): Arguments {
  const [name, ...rest] = path.split("."), value = args[name!]!;
  const next = rest.length > 0 ? changed(value as Arguments, rest.join("."), change) : change(value);
  return { ...args, [name!]: next };
}

/** Calls each op with each field of a type changed; fails unless the status is one of `allowed`. */
function refuseEach(
  types: readonly Scalar[],
  change: (value: Argument) => Argument,
  allowed: (value: Argument) => readonly number[],
  wanted = (_path: string) => true,
): number {
  let runs = 0;
  for (const name of NAMES) {
    for (const path of pathsOf(ops.get(name)!.layout, types)) {
      if (UNREAD[name]?.includes(path) || !wanted(path)) continue;
      let value: Argument = null;
      const status = context.invoke(name, changed(good(name), path, (old) => change(value = old)));
      assert(
        allowed(value).includes(status),
        `${name} with ${path} changed: status ${status}, ${context.message}`,
      );
      if (status !== STATUS.ok) assertMatch(context.message, /^found .+/);
      runs++;
    }
  }
  return runs;
}

const bytesOf = (value: Argument) => {
  const { buffer, byteOffset, byteLength } = value as ArrayBufferView;
  return new Uint8Array(buffer, byteOffset, byteLength);
};
function misaligned(value: Argument): Uint8Array {
  const bytes = bytesOf(value), shifted = new Uint8Array(new ArrayBuffer(bytes.length + 8), 1, bytes.length);
  shifted.set(bytes);
  return shifted;
}

Deno.test("parseAbi() lays fields out as C does, and refuses what it does not know", () => {
  const ops = parseAbi(
    "struct tkf_pair int32_t a; double b;\nop tkf_x int32_t n, m; tkf_pair p; tkf_buffer out; int32_t z;\n",
  );
  const { fields, bytes } = ops.get("tkf_x")!;
  assertEquals(fields.map(({ name, at }) => [name, at]), [["n", 0], ["m", 4], ["p", 8], ["out", 24], [
    "z",
    40,
  ]]);
  assertEquals(bytes, 48);
  assertThrows(() => parseAbi("op tkf_x float a;"), TypeError, 'found type "float" in "tkf_x"');
});

Deno.test("the libraries name the same ops and structs, the CUDA library more ops", async () => {
  assertEquals(symbols.tkf_abi_version(), ABI_VERSION);
  const emulated = (await openEmulated()).context.library.ops;
  assertEquals([ops.size, emulated.size], [17, 27]);
  for (const [name, { layout }] of ops) assertEquals(emulated.get(name)?.layout, layout, name);
});

Deno.test("the C ABI takes a good call of every op", async () => {
  const emulated = (await openEmulated()).context;
  for (const context of [new NativeContext(library, { threads: 1 }), emulated]) {
    for (const name of context.library.ops.keys()) {
      if (name !== "tkf_machine_measure") assertEquals(context.invoke(name, good(name)), STATUS.ok, name);
    }
  }
});

Deno.test("Op.call() writes a frozen struct once, unless its memory may grow", () => {
  const abi = "struct tkf_pair tkf_buffer x; int32_t n;\nop tkf_x tkf_pair p; int32_t n;";
  const seen: number[] = [], fixed = new Float64Array(2);
  let asked = 0;
  const see = (
    _: unknown,
    bytes: Uint8Array,
  ) => (seen.push(...new Uint32Array(bytes.buffer, 0, 6)), STATUS.ok);
  const op = new Op(parseAbi(abi).get("tkf_x")!, see, () => (asked++, 80));
  const grown = new Float64Array(new ArrayBuffer(16, { maxByteLength: 32 }));
  for (const [x, isFrozen, times] of [[fixed, false, 3], [fixed, true, 1], [grown, true, 3]] as const) {
    const p = isFrozen ? Object.freeze({ x, n: 5 }) : { x, n: 5 };
    asked = 0;
    for (let i = 0; i < 3; i++) {
      seen.length = 0;
      op.call(null, { p, n: 6 }, hostData);
      assertEquals(seen.slice(0, 5), [80, 0, 16, 0, 5]);
    }
    assertEquals(asked, times);
  }
});

Deno.test("Op.call() refuses fields that are missing, unknown, or no whole numbers", () => {
  const { x, ...rest } = good("tkf_rms_norm_apply");
  for (const args of [rest, { x, ...rest, y: 1 }, { y: x, ...rest }] as Arguments[]) {
    assertThrows(
      () => context.invoke("tkf_rms_norm_apply", args),
      TypeError,
      "expected x,delta,keep,weight,out,rows,cols,eps",
    );
  }
  for (const rows of [0.5, NaN, Infinity, 2 ** 53]) {
    const args = { x, ...rest, rows } as Arguments;
    assertThrows(
      () => context.invoke("tkf_rms_norm_apply", args),
      RangeError,
      `found ${rows}, expected a whole`,
    );
  }
  const attention = { ...good("tkf_attention_filtered"), heads: 2 ** 31 };
  assertThrows(
    () => context.invoke("tkf_attention_filtered", attention),
    RangeError,
    "whole number of 32 bits",
  );
  assertThrows(() => context.invoke("tkf_none", {}), RangeError, "no such op");
});

Deno.test("the C ABI refuses NULL buffers, short ones and misaligned ones", () => {
  assertEquals(refuseEach(["tkf_buffer"], () => null, () => [STATUS.null]), 68);
  assertEquals(refuseEach(["tkf_buffer"], (old) => bytesOf(old).slice(1), () => [STATUS.buffer]), 68);
  assertEquals(refuseEach(["tkf_buffer"], () => ({ address: 64, bytes: 0 }), () => [STATUS.buffer]), 68);
  // Single bytes and blocks lie anywhere.
  const allowed = (old: Argument) => [old instanceof Uint8Array ? STATUS.ok : STATUS.buffer];
  assertEquals(refuseEach(["tkf_buffer"], misaligned, allowed), 68);
});

Deno.test("the C ABI refuses negative sizes, and sizes whose product overflows", () => {
  for (const size of [-1, -(2n ** 63n)]) {
    assertEquals(refuseEach(["int64_t"], () => size, () => [STATUS.shape]), 36);
  }
  for (const size of [2n ** 63n - 1n, 2n ** 62n, 2n ** 31n]) {
    assertEquals(refuseEach(["int64_t"], () => size, () => [STATUS.shape, STATUS.buffer]), 36);
  }
});

Deno.test("the C ABI refuses unknown element types, and rows that are no whole number of blocks", () => {
  for (const code of [-1, 4, 99, 102, 2 ** 31 - 1]) {
    assertEquals(
      refuseEach(["int32_t"], () => code, () => [STATUS.dtype], (path) => path.endsWith("dtype")),
      9,
    );
  }
  const args = changed({ ...good("tkf_linear_apply"), k: 33 }, "second.dtype", () => "q8_0");
  assertEquals(context.invoke("tkf_linear_apply", args), STATUS.shape);
  assertMatch(context.message, /multiple of the block of 32/);
});

Deno.test("tkf_rms_norm_apply refuses short and misaligned buffers that it does not need", () => {
  const { rows, cols, ...rest } = good("tkf_rms_norm_apply"),
    args = { ...rest, rows, cols, delta: null, keep: null };
  const right = { delta: new Float32Array(Number(rows) * Number(cols)), keep: new Uint8Array(Number(rows)) };
  for (const [name, buffer] of Object.entries(right)) {
    assertEquals(context.invoke("tkf_rms_norm_apply", { ...args, [name]: buffer }), STATUS.ok);
    assertEquals(
      context.invoke("tkf_rms_norm_apply", { ...args, [name]: buffer.subarray(1) }),
      STATUS.buffer,
    );
  }
  assertEquals(
    context.invoke("tkf_rms_norm_apply", { ...args, delta: misaligned(right.delta) }),
    STATUS.buffer,
  );
});

Deno.test("tkf_rows_copy refuses short and misaligned buffers that it does not need, and rows that are not there", () => {
  const sizes = { x_rows: 3, cols: 2, rows: 2, at: 1, dtype: "f32", out_dtype: "f32" } as const;
  const args = {
    x: floats(6),
    x2: floats(6),
    indices: Int32Array.of(2, 0),
    out: floats(6),
    out2: floats(6),
    ...sizes,
  };
  const invoke = (changes: Arguments) => context.invoke("tkf_rows_copy", { ...args, ...changes });
  for (const name of ["x2", "indices", "out2"] as const) {
    assertEquals(invoke({ [name]: args[name].subarray(1) }), STATUS.buffer, name);
    assertEquals(invoke({ [name]: misaligned(args[name]) }), STATUS.buffer, name);
  }
  assertEquals(invoke({ x2: null }), STATUS.null);
  assertEquals(invoke({ x2: null, out2: null }), STATUS.ok);
  assertEquals(invoke({ indices: null }), STATUS.ok);
  assertEquals(invoke({ indices: null, rows: 4, out: floats(10), out2: floats(10) }), STATUS.shape);
  assertEquals(invoke({ indices: Int32Array.of(2, 3) }), STATUS.value);
  assertEquals(invoke({ dtype: "f16", out_dtype: "bf16" }), STATUS.dtype);
});

Deno.test("the C ABI refuses lists of kept rows on the CPU", () => {
  for (const name of ["tkf_linear_apply", "tkf_rope_apply"]) {
    const args = { ...good(name), kept: new Int32Array(99), kept_count: new Int32Array(1) };
    assertEquals(context.invoke(name, args), STATUS.unsupported);
  }
});

Deno.test("tkf_filter_scan refuses every number of a spec that is out of its range", () => {
  let runs = 0;
  const refuse = (name: string, value: number) => {
    const args = changed(good("tkf_filter_scan"), `spec.${name}`, () => value);
    const status = context.invoke("tkf_filter_scan", args);
    assert(([STATUS.value, STATUS.shape, STATUS.buffer] as number[]).includes(status), `${name}: ${status}`);
    runs++;
  };
  const { type } = ops.get("tkf_filter_scan")!.layout.fields[0]!;
  const ints = pathsOf(type as Layout, ["int32_t"]).filter((name) => name !== "heads");
  const doubles = pathsOf(type as Layout, ["double"]),
    any = ["layer", "chunk", "queries_size", "first_outcome"];
  for (const name of ints) for (const value of [-1, -(2 ** 31)]) refuse(name, value);
  for (const name of ints) if (!any.includes(name)) refuse(name, 2 ** 31 - 1);
  for (const name of doubles) for (const value of [NaN, Infinity, -Infinity]) refuse(name, value);
  assertEquals(runs, 38 + 15 + 27);
});

Deno.test("tkf_filter_scan takes features of local attention, of heads that fit the queries", () => {
  const options = { fusion: "learned", substitute: "local", recent: 2, sinks: 1, tail: 1 } as const;
  const [local] = new TokenFilter(shape, options, { knowsLocal: true } as FilterBackend).specs;
  const states = statesArgs(createLayerState(local!)), spec = specArgs(local!, 8);
  const status = (change: Arguments) =>
    context.invoke("tkf_filter_scan", { ...good("tkf_filter_scan"), states, spec: { ...spec, ...change } });
  assertEquals(status({}), STATUS.ok, context.message);
  for (const heads of [-1, 0, 1, 2 ** 31 - 1]) assertEquals(status({ heads }), STATUS.shape);
  assertEquals(status({ heads: 3 }), STATUS.buffer); // whose memory is larger
});

/** Numbers just in and just out of an option's range, as the spec carries it. */
function edgesOf(
  option: Option,
): { readonly inside: readonly number[]; readonly outside: readonly number[] } {
  switch (option.type) {
    case "flag":
      return { inside: [0, 1], outside: [-1, 2] };
    case "name":
      return { inside: [0, option.names.length - 1], outside: [-1, option.names.length] };
    case "names":
      return { inside: [0, 2 ** option.names.length - 1], outside: [-1, 2 ** option.names.length] };
    case "integer":
    case "number": {
      const { range = `[${-Number.MAX_VALUE}, ${Number.MAX_VALUE}]` } = option;
      const [low, high] = range.slice(1, -1).split(", ").map(Number) as [number, number];
      if (option.type === "integer") return { inside: [low, high], outside: [low - 1, high + 1] };
      const below = range.startsWith("(") ? low : low - 1, above = range.endsWith(")") ? high : high * 1.001;
      return {
        inside: [
          range.startsWith("(") ? Number.MIN_VALUE : low,
          range.endsWith(")") ? high * (1 - 2 ** -53) : high,
        ],
        outside: [below, above].filter((x) => Math.abs(x) < 1e300),
      };
    }
    default:
      return { inside: [], outside: [] };
  }
}

Deno.test("tkf_filter_scan takes the ranges of the table of options, and nothing beyond", () => {
  const spec = good("tkf_filter_scan").spec as Arguments;
  let fields = 0;
  for (const [name, option] of Object.entries(OPTIONS)) {
    const field = name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    if (["fusion", "seed"].includes(name) || !(field in spec)) continue;
    fields++;
    const refused = (value: number) => {
      const args = { ...good("tkf_filter_scan"), spec: { ...spec, fusion: 0, [field]: value } }; // `learned` takes less
      return context.invoke("tkf_filter_scan", args) === STATUS.value;
    };
    const { inside, outside } = edgesOf(option);
    for (const value of inside) assertEquals(refused(value), false, `${name} ${value}: ${context.message}`);
    for (const value of outside) assertEquals(refused(value), true, `${name} ${value}`);
  }
  assertEquals(fields, 19);
});

Deno.test("tkf_attention_filtered refuses sizes and numbers out of their ranges", () => {
  const name = "tkf_attention_filtered", args = good(name);
  const refuse = (status: number, field: string, values: readonly Argument[]) => {
    for (const value of values) {
      assertEquals(context.invoke(name, { ...args, [field]: value }), status, field);
    }
  };
  const heads = Number(args.heads);
  for (const field of ["num_queries", "num_keys", "num_recent"]) refuse(STATUS.buffer, field, [100]);
  refuse(STATUS.shape, "heads", [-1, 0, 2 ** 31 - 1]);
  refuse(STATUS.shape, "kv_heads", [-1, 0, 2 * heads, 2 ** 31 - 1]);
  refuse(STATUS.shape, "head_dim", [-1, 0, 257, 2 ** 31 - 1]);
  refuse(STATUS.dtype, "kv_dtype", [-1, 2, 99]);
  for (const field of ["recent_window", "sinks"]) refuse(STATUS.shape, field, [-1]);
  for (const [field, count] of [["key_ends", args.num_keys], ["windows", args.num_queries]] as const) {
    const right = new Int32Array(Number(count) + 1).subarray(1);
    refuse(STATUS.ok, field, [null, right]);
    refuse(STATUS.buffer, field, [right.subarray(1), misaligned(right)]);
  }
  refuse(STATUS.value, "scale", [NaN, Infinity]);
  refuse(STATUS.null, "num_shares", [1]);
  refuse(STATUS.shape, "num_shares", [-1, Number(args.num_keys) + 1]);
});

Deno.test("the C ABI takes NULL for buffers of no bytes", () => {
  const none = { address: 0, bytes: 0 };
  assertEquals(context.invoke("tkf_swiglu_apply", { gate: none, up: null, out: none, count: 0 }), STATUS.ok);
  const first = { weight: none, out: null, n: 4, dtype: "f32" } as const,
    others = { second: null, third: null };
  const rest = { x: null, kept: null, kept_count: null, rows: 0, k: 0, same_x: 0, gate: 0 };
  assertEquals(context.invoke("tkf_linear_apply", { first, ...others, ...rest }), STATUS.ok);
});

Deno.test("the C ABI refuses a NULL context, and arguments that are NULL, short or misaligned", async () => {
  const signature = { parameters: ["pointer", "buffer", "u64"], result: "i32" } as const;
  const { path } = await findLibrary("cpu");
  const raw = Deno.dlopen(path, Object.fromEntries(NAMES.map((name) => [name, signature]))).symbols;
  const { pointer } = context;
  for (const name of NAMES) {
    const op = ops.get(name)!, { bytes } = op.layout, call = raw[name]!;
    assertEquals(op.call(null, good(name), context.locate), STATUS.null, name);
    assertEquals(call(pointer, null, BigInt(bytes)), STATUS.null, name);
    assertEquals(call(pointer, new Uint8Array(bytes), BigInt(bytes - 1)), STATUS.buffer, name);
    assertEquals(
      call(pointer, new Uint8Array(new ArrayBuffer(bytes + 8), 4), BigInt(bytes)),
      STATUS.buffer,
      name,
    );
  }
  assertEquals(symbols.tkf_context_destroy(null), STATUS.null);
  assertEquals(symbols.tkf_blas_load(null, new Uint8Array([47, 0])), STATUS.null);
  assertEquals(symbols.tkf_blas_load(context.pointer, null), STATUS.null);
  assertEquals(symbols.tkf_context_create(1, -1, null), STATUS.null);
});
