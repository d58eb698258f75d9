import { assertEquals, assertMatch } from "@std/assert";
import { NativeContext } from "../../ffi/context.ts";
import { openCpuLibrary } from "../../ffi/library.ts";
import { SPEC_DOUBLES, SPEC_INTS } from "../../ffi/filter.ts";
import { STATUS, SYMBOLS } from "../../ffi/symbols.ts";
import { createLayerState } from "../../lib/filter/layer.ts";
import type { Option } from "../../lib/filter/option.ts";
import { learnedLayout } from "../../lib/methods/learned.ts";
import { OPTIONS } from "../../lib/methods/options.ts";
import { TokenFilter } from "../../lib/methods/token_filter.ts";

const symbols = await openCpuLibrary();
const context = new NativeContext(symbols, { threads: 1 });

type Argument = number | bigint | BufferSource | Deno.PointerObject | null;

const shape = { numLayers: 1, numHeads: 2, numKvHeads: 1, headDim: 4, hiddenSize: 6 };
const [spec] = new TokenFilter(shape, {
  tail: 1,
  fusion: "learned",
  features: ["similarity", "norm", "projection", "query"],
}).specs;

/** `tkf_filter_spec` of that spec. */
function specBytes(): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(144));
  [0, 1, 4, 6, 9, 0, 0, 0, 32, 0, 256, 0, 32, 16, 15, 8].forEach((x, i) => view.setInt32(4 * i, x, true));
  [0.5, 1, 0, 1e-6, 0.5, 0.9, 0, 0.1, 1].forEach((x, i) => view.setFloat64(64 + 8 * i, x, true));
  return new Uint8Array(view.buffer);
}

/** Buffers as an op takes them: each with its length in bytes behind it. */
function withLengths(buffers: readonly (BufferSource & { byteLength: number })[]): Argument[] {
  return buffers.flatMap((buffer) => [buffer, buffer.byteLength]);
}

const floats = (count: number) => new Float32Array(count).fill(0.5);

/** A good call of each op: two tokens; and the alignment of each of its buffers in order. */
const GOOD: Record<string, { make(): Argument[]; aligned: boolean[] }> = {
  tkf_filter_scan: {
    make() {
      const { anchorK, anchorV, numbers, scores, learned } = createLayerState(spec!);
      return [
        context.pointer,
        ...withLengths([specBytes(), anchorK, anchorV, numbers, scores, learned]),
        0,
        ...withLengths([floats(8), floats(8), floats(12), floats(12), floats(16)]),
        2,
        ...withLengths([new Uint8Array(2), new Float64Array(14), new BigInt64Array(1)]),
      ];
    },
    aligned: [...Array(11).fill(true), false, true, true],
  },
  tkf_filter_observe: {
    make() {
      const { numbers, scores, learned } = createLayerState(spec!);
      numbers.set([2, 2, 0, 0, 0, 0, 0, 2]); // two tokens seen, absorbed, pending
      learned.fill(1, learnedLayout(spec!).outcome);
      return [
        context.pointer,
        ...withLengths([specBytes(), numbers, scores, learned, new Float64Array(2)]),
        2,
      ];
    },
    aligned: [true, true, true, true, true],
  },
};

function call(name: string, args: readonly Argument[]): number {
  return (symbols as unknown as Record<string, (...args: readonly Argument[]) => number>)[name]!(...args);
}

function message(): string {
  return new Deno.UnsafePointerView(symbols.tkf_context_message(context.pointer)!).getCString();
}

Deno.test("the filter's C functions refuse NULL, short and misaligned buffers", () => {
  let runs = 0;
  for (const [name, { make, aligned }] of Object.entries(GOOD)) {
    assertEquals(call(name, make()), STATUS.ok, message());
    const types = SYMBOLS[name as keyof typeof SYMBOLS].parameters as readonly string[];
    const buffers = types.flatMap((type, i) => type === "buffer" ? [i] : []);
    assertEquals(buffers.length, aligned.length);
    for (const [which, i] of buffers.entries()) {
      const change = (value: Argument, at = i) => make().map((arg, j) => j === at ? value : arg);
      assertEquals(call(name, change(null)), STATUS.null, `${name}, argument ${i}`);
      assertMatch(message(), /^found NULL for/);
      assertEquals(
        call(name, change(Number(make()[i + 1]) - 1, i + 1)),
        STATUS.buffer,
        `${name}, argument ${i}`,
      );
      const buffer = make()[i] as ArrayBufferView;
      const shifted = new Uint8Array(new ArrayBuffer(buffer.byteLength + 8), 1, buffer.byteLength);
      shifted.set(new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength));
      assertEquals(
        call(name, change(shifted)),
        aligned[which] ? STATUS.buffer : STATUS.ok,
        `${name}, argument ${i}`,
      );
      runs += 3;
    }
    for (const count of [-1, 2n ** 62n, 2n ** 63n - 1n]) {
      const at = types.lastIndexOf("i64");
      assertEquals(call(name, make().map((arg, j) => j === at ? count : arg)) !== STATUS.ok, true);
      runs++;
    }
    assertEquals(call(name, [null, ...make().slice(1)]), STATUS.null);
  }
  assertEquals(runs, 3 * (14 + 5) + 6);
});

Deno.test("tkf_filter_scan() refuses every number of a spec that is out of its range", () => {
  let runs = 0;
  const refuse = (change: (view: DataView) => void) => {
    const args = GOOD.tkf_filter_scan!.make(), bytes = specBytes();
    change(new DataView(bytes.buffer));
    args[1] = bytes;
    const status = call("tkf_filter_scan", args);
    assertEquals([STATUS.value, STATUS.shape, STATUS.buffer].includes(status as 3), true, `status ${status}`);
    runs++;
  };
  for (let i = 0; i < 16; i++) {
    for (const value of [-1, -(2 ** 31)]) refuse((view) => view.setInt32(4 * i, value, true));
  }
  for (let i = 1; i < 15; i++) {
    if (i === 11) continue; // any chunk is fine
    refuse((view) => view.setInt32(4 * i, 2 ** 31 - 1, true));
  }
  for (let i = 0; i < 9; i++) {
    for (const value of [NaN, Infinity, -Infinity]) {
      refuse((view) => view.setFloat64(64 + 8 * i, value, true));
    }
  }
  assertEquals(runs, 32 + 13 + 27);
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

Deno.test("tkf_filter_scan() takes the ranges of the table of options, and nothing beyond", () => {
  let fields = 0;
  for (const [name, option] of Object.entries(OPTIONS)) {
    const int = SPEC_INTS.indexOf(name), double = SPEC_DOUBLES.indexOf(name);
    if (name === "fusion" || int < 0 && double < 0) continue;
    fields++;
    const tryOut = (value: number) => {
      const args = GOOD.tkf_filter_scan!.make(), bytes = specBytes(), view = new DataView(bytes.buffer);
      view.setInt32(4 * SPEC_INTS.indexOf("fusion"), 0, true); // `learned` takes less
      if (int >= 0) view.setInt32(4 * int, value, true);
      else view.setFloat64(4 * SPEC_INTS.length + 8 * double, value, true);
      args[1] = bytes;
      return call("tkf_filter_scan", args) === STATUS.value;
    };
    const { inside, outside } = edgesOf(option);
    for (const value of inside) assertEquals(tryOut(value), false, `${name} ${value}: ${message()}`);
    for (const value of outside) assertEquals(tryOut(value), true, `${name} ${value}`);
  }
  assertEquals(fields, SPEC_INTS.length + SPEC_DOUBLES.length - 8); // sizes, places and the layer's ratio are no options
});
