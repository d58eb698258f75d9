import { assertEquals, assertThrows } from "@std/assert";
import { ModelFormatError } from "../../errors.ts";
import { toBf16, toF16 } from "../../math/half.ts";
import { type HostTensor, hostTensor } from "../../tensor.ts";
import { parseSafetensors, writeSafetensors } from "./safetensors.ts";

const keys = hostTensor("f32", [2, 1, 3], Float32Array.of(1, -2, 3.5, 4, 5, 6));
const values = hostTensor("bf16", [3], Uint16Array.of(1, 2, 3).map(toBf16));
const halves = hostTensor("f16", [2, 2], Uint16Array.of(1, 2, 3, 4).map(toF16));

/** A file whose header has the given size as its length. */
function fileSaying(headerSize: bigint, size: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(size);
  new DataView(bytes.buffer).setBigUint64(0, headerSize, true);
  return bytes;
}

/** A file with the given header and `size` bytes of data. */
function fileWith(header: unknown, size = 64): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const bytes = new Uint8Array(8 + text.length + size);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
  bytes.set(text, 8);
  return bytes;
}

const parse = (bytes: Uint8Array<ArrayBuffer>, names?: string[]) => parseSafetensors(bytes, "dump", names);

Deno.test("parseSafetensors() reads back what writeSafetensors() wrote", () => {
  const tensors = new Map<string, HostTensor>([["values", values], ["keys", keys], ["halves", halves]]);
  const file = parse(writeSafetensors(tensors, new Map([["format", "pt"]])));
  assertEquals(new Map(file.tensors), tensors);
  assertEquals(file.metadata.get("format"), "pt");
});

Deno.test("parseSafetensors() reads tensors at odd places", () => {
  const entry = { dtype: "F32", shape: [1], data_offsets: [1, 5] };
  for (const pad of ["", " ", "  ", "   "]) {
    const bytes = fileWith(JSON.stringify({ x: entry }) + pad, 8);
    new DataView(bytes.buffer).setFloat32(bytes.length - 8 + 1, 2.5, true);
    assertEquals([...parse(bytes).tensors.get("x")!.data], [2.5]);
  }
});

Deno.test("parseSafetensors() looks only at the tensors asked for", () => {
  const bytes = fileWith({
    other: { dtype: "I64", shape: [1], data_offsets: [0, 8] },
    keys: { dtype: "F16", shape: [2], data_offsets: [8, 12] },
  });
  assertEquals([...parse(bytes, ["keys"]).tensors.keys()], ["keys"]);
  assertThrows(() => parse(bytes), ModelFormatError, 'tensor "other": found type "I64"');
  assertThrows(() => parse(bytes, ["values"]), ModelFormatError, 'found no tensor "values"');
});

Deno.test("parseSafetensors() refuses broken files in one line", () => {
  const f32 = (shape: unknown, offsets: unknown) => ({ x: { dtype: "F32", shape, data_offsets: offsets } });
  const cases: [Uint8Array<ArrayBuffer>, string][] = [
    [new Uint8Array(3), "found 3 bytes"],
    [new TextEncoder().encode("GGUFGGUFGGUF"), "found a header of"],
    [
      fileSaying(57n, 64),
      "found a header of 57 bytes, expected at most 56: no safetensors file, or cut short",
    ],
    [fileSaying(56n, 64), "no JSON text"],
    [fileSaying(100_000_001n, 100_000_016), "expected at most 100000000:"],
    [fileWith("{nonsense"), "no JSON text"],
    [fileWith("[1]"), "no JSON object"],
    [fileWith("null"), "no JSON object"],
    [fileWith({ __metadata__: { a: 1 } }), '"__metadata__"'],
    [fileWith({ x: null }), 'tensor "x": found type undefined'],
    [fileWith({ x: { dtype: "toString" } }), "found type"],
    [fileWith(f32([1.5], [0, 4])), "found shape [1.5]"],
    [fileWith(f32([-1], [0, 4])), "found shape [-1]"],
    [fileWith(f32(new Array(9).fill(1), [0, 4])), "at most 8 sizes"],
    [fileWith(f32([2 ** 40, 2 ** 40], [0, 4])), "under 2^53"],
    [fileWith(f32([1], [0])), "data_offsets"],
    [fileWith(f32([1], [4, 0])), "found -4 bytes, expected 4"],
    [fileWith(f32([2], [0, 4])), "found 4 bytes, expected 8"],
    [fileWith(f32([32], [0, 128])), "cut short"],
    [
      fileWith({ ...f32([2], [0, 8]), y: { dtype: "F32", shape: [1], data_offsets: [4, 8] } }),
      '"y" inside "x"',
    ],
  ];
  for (const [bytes, message] of cases) {
    const error = assertThrows(() => parse(bytes), ModelFormatError, message);
    assertEquals(error.message.includes("\n"), false);
  }
});

Deno.test("parseSafetensors() survives truncation at every byte", () => {
  const bytes = writeSafetensors(new Map<string, HostTensor>([["keys", keys], ["values", values]]));
  for (let size = 0; size < bytes.length; size++) {
    assertThrows(() => parse(bytes.slice(0, size)), ModelFormatError);
  }
});

Deno.test("writeSafetensors() refuses types that the format's readers here do not take", () => {
  const ids = hostTensor("i32", [1], Int32Array.of(1));
  assertThrows(() => writeSafetensors(new Map([["ids", ids]])), TypeError, "found i32");
});
