import { assert, assertEquals } from "@std/assert";
import { createLayerState } from "../lib/filter/layer.ts";
import type { Option } from "../lib/filter/option.ts";
import { OPTIONS } from "../lib/methods/bind/option_table.ts";
import { TokenFilter } from "../lib/methods/bind/token_filter.ts";
import type { FilterBackend } from "../lib/filter/sequence.ts";
import { specArgs, statesArgs } from "./filter.ts";
import { type Argument, type Arguments, type Layout, STATUS } from "./library/abi.ts";
import {
  changed,
  context,
  floats,
  good,
  library,
  misaligned,
  pathsOf,
  shape,
} from "./library/abi_testing.ts";

const { ops } = library;

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

Deno.test("tkf_embedding_gather refuses a scale that is not finite in f32", () => {
  for (const scale of [NaN, -Infinity, 1e39]) {
    const args = { ...good("tkf_embedding_gather"), scale };
    assertEquals(context.invoke("tkf_embedding_gather", args), STATUS.value, `${scale}`);
  }
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
  const none = { kvFilterScan: () => {}, knowsLocal: true } as unknown as FilterBackend;
  const [local] = new TokenFilter(shape, options, none).specs;
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
  const ofKeys = Int32Array.from({ length: Number(args.kv_heads) }, (_, i) => i);
  const some = { ...args, query_kv_heads: args.kv_heads! };
  const place = (places: Int32Array) => context.invoke(name, { ...some, kv_places: places });
  assertEquals([ofKeys, ofKeys.map((i) => i - 1), ofKeys.map((i) => i + 1), ofKeys.subarray(1)].map(place), [
    ...[STATUS.ok, STATUS.value, STATUS.value, STATUS.buffer],
  ]);
  refuse(STATUS.value, "scale", [NaN, Infinity]);
  refuse(STATUS.null, "num_shares", [1]);
  refuse(STATUS.shape, "num_shares", [-1, Number(args.num_keys) + 1]);
});
