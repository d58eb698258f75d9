import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { ModelFormatError } from "../../errors.ts";
import { buildGguf, type Entry, type GgufParts, type TensorEntry } from "../testdata/gguf_builder.ts";
import { GGUF_LIMITS, parseGguf } from "./gguf.ts";

const TINY = new URL("../tiny/tiny-llama-4.8m.Q8_0.gguf", import.meta.url);

const parse = (bytes: Uint8Array<ArrayBuffer>) => parseGguf(bytes, "model.gguf");
const floats = (...values: number[]) => new Uint8Array(Float32Array.from(values).buffer);
const tensor = (name: string, rest: Partial<TensorEntry> = {}): TensorEntry => ({
  name,
  dims: [3, 2],
  type: 0,
  data: floats(1, 2, 3, 4, 5, 6),
  ...rest,
});

function expectRefusal(parts: GgufParts | Uint8Array<ArrayBuffer>, ...messages: string[]): void {
  const bytes = parts instanceof Uint8Array ? parts : buildGguf(parts);
  const error = assertThrows(() => parse(bytes), ModelFormatError);
  for (const message of messages) {
    assert(error.message.includes(message), `${error.message} lacks ${message}`);
  }
  assert(
    !error.message.includes("\n") && error.message.startsWith('Cannot read "model.gguf"'),
    error.message,
  );
}

Deno.test("parseGguf() reads every type of value", () => {
  const entries: Entry[] = [
    ["u8", "uint8", 200],
    ["i8", "int8", -5],
    ["u16", "uint16", 60_000],
    ["i16", "int16", -300],
    ["u32", "uint32", 4_000_000_000],
    ["i32", "int32", -7],
    ["u64", "uint64", 2n ** 63n],
    ["i64", "int64", -9n],
    ["f32", "float32", 0.5],
    ["f64", "float64", Math.PI],
    ["yes", "bool", true],
    ["text", "string", "Ünï 😀"],
    ["marks", ["string"], ["\ufeff", "\ufeffa"]],
    ["words", ["string"], ["a", "", "b c"]],
    ["numbers", ["int16"], [1, -2, 3]],
    ["truths", ["bool"], [true, false]],
    ["none", ["float32"], []],
  ];
  const gguf = parse(buildGguf({ entries }));
  assertEquals(gguf.version, 3);
  for (const [key, , value] of entries) assertEquals(gguf.metadata.get(key)!.value, value);
  assertEquals([gguf.integer("u8"), gguf.integer("i64"), gguf.number("f32"), gguf.number("i32")], [
    200,
    -9,
    0.5,
    -7,
  ]);
  assertEquals([gguf.string("text"), gguf.boolean("yes")], ["Ünï 😀", true]);
  assertEquals([gguf.strings("words"), gguf.numbers("numbers")], [["a", "", "b c"], [1, -2, 3]]);
  assertEquals([gguf.integer("missing", 3), gguf.boolean("missing", false), gguf.string("missing", "x")], [
    3,
    false,
    "x",
  ]);
});

Deno.test("GgufFile getters name the key, and what they found and expected", () => {
  const gguf = parse(buildGguf({
    entries: [["text", "string", "a"], ["list", ["int32"], [1]], ["big", "uint64", 2n ** 60n], [
      "nan",
      "float32",
      NaN,
    ]],
  }));
  const cases: [() => unknown, string][] = [
    [() => gguf.integer("text"), '"text": found string, expected an integer'],
    [() => gguf.number("missing"), '"missing": found no such key, expected a number'],
    [() => gguf.string("list"), '"list": found a list of int32, expected a string'],
    [() => gguf.strings("list"), "expected a list of strings"],
    [() => gguf.strings("text"), "found string, expected a list of strings"],
    [() => gguf.boolean("text"), "expected true or false"],
    [() => gguf.integer("big"), "expected at most 2^53 - 1"],
    [() => gguf.number("nan"), "found NaN, expected a finite number"],
  ];
  for (const [get, message] of cases) assertThrows(get, ModelFormatError, message);
});

Deno.test("parseGguf() gives tensors as views with row-major shapes", () => {
  const halves = new Uint8Array(Uint16Array.of(0x3c00, 0xc000).buffer);
  const bytes = buildGguf({
    tensors: [
      tensor("a"),
      tensor("b", { dims: [2], type: 1, data: halves }),
      tensor("c", { dims: [32, 2, 1, 1], type: 8, data: new Uint8Array(68).fill(7) }),
      tensor("d", { dims: [2], type: 30, data: halves }),
    ],
  });
  const { tensors } = parse(bytes);
  assertEquals([...tensors.keys()], ["a", "b", "c", "d"]);
  assertEquals(tensors.get("a"), { dtype: "f32", shape: [2, 3], data: Float32Array.of(1, 2, 3, 4, 5, 6) });
  assertEquals(tensors.get("b"), { dtype: "f16", shape: [2], data: Uint16Array.of(0x3c00, 0xc000) });
  assertEquals(tensors.get("c"), { dtype: "q8_0", shape: [1, 1, 2, 32], data: new Uint8Array(68).fill(7) });
  assertEquals(tensors.get("d")!.dtype, "bf16");
  for (const { data } of tensors.values()) assertStrictEquals(data.buffer, bytes.buffer);
});

Deno.test("parseGguf() takes bytes at an odd place of their buffer", () => {
  const bytes = buildGguf({ tensors: [tensor("a")] });
  const shifted = new Uint8Array(bytes.length + 3).subarray(3);
  shifted.set(bytes);
  assertEquals(parse(shifted).tensors.get("a")!.data, Float32Array.of(1, 2, 3, 4, 5, 6));
});

Deno.test("parseGguf() follows general.alignment", () => {
  const entries: Entry[] = [["general.alignment", "uint32", 128]];
  const { tensors } = parse(buildGguf({ alignment: 128, entries, tensors: [tensor("a"), tensor("b")] }));
  assertEquals(tensors.get("b")!.data.byteOffset % 128, 0);
  assertEquals(tensors.get("b")!.data, tensors.get("a")!.data);
  for (const bad of [0, 4, 48, 131_072]) {
    expectRefusal(
      { entries: [["general.alignment", "uint32", bad]] },
      `found ${bad} for "general.alignment"`,
    );
  }
});

Deno.test("parseGguf() reads version 2 and refuses the others", () => {
  assertEquals(parse(buildGguf({ version: 2, tensors: [tensor("a")] })).tensors.size, 1);
  expectRefusal({ version: 1 }, "at byte 4", "GGUF version 1, expected 2 or 3", "newer llama.cpp");
  expectRefusal({ version: 4 }, "GGUF version 4");
  expectRefusal({ version: 3 << 24 }, "big-endian");
});

Deno.test("parseGguf() refuses other files", () => {
  expectRefusal(new Uint8Array(0), 'found the bytes [], expected "GGUF"');
  expectRefusal(new TextEncoder().encode("PK\x03\x04 something else"), "[50 4b 03 04]");
  expectRefusal({ magic: "GGML" }, 'expected "GGUF": pass a GGUF file');
});

Deno.test("parseGguf() refuses absurd sizes before it allocates for them", () => {
  expectRefusal({ numTensors: 2n ** 63n }, "the number of tensors", `at most ${GGUF_LIMITS.tensors}`);
  expectRefusal({ numEntries: 2n ** 40n }, "the number of metadata keys");
  expectRefusal({ numEntries: 1n }, "the file is cut short");
  const list = buildGguf({ entries: [["x", ["uint8"], [1, 2]]] });
  new DataView(list.buffer).setBigUint64(24 + 8 + 1 + 4 + 4, 2n ** 21n, true);
  expectRefusal(list, '2097152 elements for "x" with 2 bytes left');
  new DataView(list.buffer).setBigUint64(24 + 8 + 1 + 4 + 4, 2n ** 62n, true);
  expectRefusal(list, 'the length of "x"', `at most ${GGUF_LIMITS.arrayLength}`);
  const text = buildGguf({ entries: [["x", "string", "abc"]] });
  new DataView(text.buffer).setBigUint64(24 + 8 + 1 + 4, 2n ** 50n, true);
  expectRefusal(text, `at most ${GGUF_LIMITS.stringBytes}`);
  expectRefusal(
    { tensors: [tensor("a", { dims: [2n ** 40n, 2n ** 40n] })] },
    'tensor "a"',
    "under 2^53 values",
  );
  expectRefusal({ tensors: [tensor("a", { dims: [2n ** 60n] })] }, 'dimension 0 of tensor "a"');
  expectRefusal({ tensors: [tensor("a", { dims: [2 ** 40] })] }, 'for tensor "a"', "cut short: get it again");
});

Deno.test("parseGguf() bounds the elements of all lists together, and lists of numbers are finite", () => {
  const half = new Array(GGUF_LIMITS.arrayLength).fill(0);
  const lists = (["a", "b", "c"] as const).map((key) => [key, ["uint8"], key === "c" ? [0] : half] as const);
  expectRefusal({ entries: [...lists] }, 'found 1 elements for "c"', `at most ${GGUF_LIMITS.arrayElements}`);
  for (const odd of [NaN, Infinity]) {
    const file = parseGguf(buildGguf({ entries: [["x", ["float32"], [0, odd]]] }), "x.gguf");
    assertThrows(
      () => file.numbers("x"),
      ModelFormatError,
      `found ${odd} at place 1, expected a finite number`,
    );
  }
});

Deno.test("parseGguf() refuses metadata that make no sense", () => {
  expectRefusal({ entries: [["x", "uint8", 1], ["x", "uint8", 2]] }, 'found key "x" twice');
  const bad = (patch: (view: DataView) => void) => {
    const bytes = buildGguf({ entries: [["x", "bool", true]] });
    patch(new DataView(bytes.buffer));
    return bytes;
  };
  expectRefusal(bad((view) => view.setUint32(33, 13, true)), 'value type 13 for "x", expected 0 to 12');
  expectRefusal(bad((view) => view.setUint8(37, 2)), 'found 2 for "x", expected 0 or 1');
  expectRefusal(bad((view) => view.setUint8(32, 0xff)), "not UTF-8");
  const nested = buildGguf({ entries: [["x", ["uint32"], [0, 0]]] });
  new DataView(nested.buffer).setUint32(37, 9, true);
  expectRefusal(nested, "list of lists");
});

Deno.test("parseGguf() refuses tensors that make no sense", () => {
  expectRefusal({ tensors: [tensor("a"), tensor("a")] }, 'found tensor "a" twice');
  expectRefusal(
    { tensors: [tensor("a", { type: 16 })] },
    "type 16 (IQ2_XXS)",
    'tensor "a"',
    "F32, F16",
    "quantise",
  );
  const names = {
    16: "IQ2_XXS",
    22: "IQ2_S",
    24: "I8",
    28: "F64",
    29: "IQ1_M",
    34: "TQ1_0",
    35: "TQ2_0",
    40: "NVFP4",
  };
  for (const [type, name] of Object.entries(names)) {
    expectRefusal({ tensors: [tensor("a", { type: Number(type) })] }, `type ${type} (${name})`);
  }
  expectRefusal({ tensors: [tensor("a", { type: 777 })] }, "type 777 (unknown)");
  expectRefusal({ tensors: [tensor("a", { type: 100 })] }, "type 100 (unknown)");
  expectRefusal({ tensors: [tensor("a", { dims: [] })] }, "found 0 dimensions");
  expectRefusal({ tensors: [tensor("a", { dims: [1, 1, 1, 1, 1] })] }, "found 5 dimensions", "1 to 4");
  expectRefusal({ tensors: [tensor("a", { dims: [0, 2] })] }, "found dimension 0");
  expectRefusal({ tensors: [tensor("a", { dims: [33], type: 8 })] }, "rows of 33", "q8_0's block of 32");
  expectRefusal({ tensors: [tensor("a", { offset: 8 })] }, "offset 8", "a multiple of 32");
  expectRefusal({ tensors: [tensor("a"), tensor("b", { offset: 0 })] }, 'tensor "b" inside tensor "a"');
  expectRefusal({ tensors: [tensor("a", { offset: 2n ** 52n })] }, "cut short");
  expectRefusal(
    { tensors: [tensor("n".repeat(65))] },
    "the length of the name of tensor 0, expected at most 64",
  );
});

Deno.test("parseGguf() keeps its message one line, whatever names a file holds", () => {
  expectRefusal({ tensors: [tensor("a\nb\x1b[2J", { type: 777 })] }, "a\ufffdb\ufffd[2J");
  const key = "k".repeat(60_000);
  const error = assertThrows(() => parse(buildGguf({ entries: [[key, "uint8", 1], [key, "uint8", 1]] })));
  assert((error as Error).message.length < 600);
});

/** A linear congruential generator: integers below n. */
function createRandom(seed: number): (n: number) => number {
  let state = seed >>> 0;
  return (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor(state / 2 ** 32 * n);
  };
}

const SMALL = buildGguf({
  entries: [["general.alignment", "uint32", 32], ["words", ["string"], ["a", "b"]], ["x", "float32", 1]],
  tensors: [tensor("a"), tensor("b", { dims: [32, 2], type: 8, data: new Uint8Array(68) })],
});

Deno.test("parseGguf() refuses a file cut off at any byte", () => {
  // Only the last tensor's padding may be missing.
  const end = SMALL.length - 28;
  for (let size = 0; size < end; size++) expectRefusal(SMALL.slice(0, size));
  assertEquals(parse(SMALL.slice(0, end)).tensors.size, 2);
});

Deno.test("parseGguf() refuses tiny cut off in its metadata, tensor list and data", async () => {
  const tiny = await Deno.readFile(TINY);
  const random = createRandom(1);
  for (let i = 0; i < 40; i++) expectRefusal(tiny.subarray(0, random(i < 30 ? 100_000 : tiny.length)));
});

Deno.test("parseGguf() parses or refuses flipped bytes, quickly and in little memory", () => {
  const random = createRandom(7);
  let refused = 0;
  const begin = performance.now();
  for (let i = 0; i < 20_000; i++) {
    const bytes = SMALL.slice();
    for (let flips = 1 + random(4); flips > 0; flips--) bytes[random(bytes.length)] = random(256);
    try {
      for (const { data } of parse(bytes).tensors.values()) assert(data.byteLength <= bytes.length);
    } catch (error) {
      if (!(error instanceof ModelFormatError)) throw error;
      assert(!error.message.includes("\n"));
      refused++;
    }
  }
  assert(refused > 5_000 && refused < 20_000, `${refused} refused`);
  assert(performance.now() - begin < 20_000, "an absurd size was followed");
});
