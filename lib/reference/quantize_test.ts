import { assertEquals, assertThrows } from "@std/assert";
import { type DType, WEIGHT_DTYPES } from "../dtype.ts";
import { emptyTensor, hostTensor } from "../tensor.ts";
import { dequantize } from "./dequantize.ts";
import { quantize } from "./quantize.ts";
import golden from "./testdata/quantize_golden.json" with { type: "json" };

const values = new Float32Array(Uint8Array.fromBase64(golden.values).buffer);

for (const dtype of WEIGHT_DTYPES.filter((dtype) => dtype !== "f32")) {
  Deno.test(`quantize() gives ggml's bytes of ${dtype} bit for bit`, () => {
    const { buffer, byteOffset, byteLength } = quantize(values, dtype);
    assertEquals(new Uint8Array(buffer, byteOffset, byteLength).toBase64(), golden[dtype]);
  });
}

Deno.test("quantize() to f32 takes the values as they are", () => {
  assertEquals(quantize(values, "f32") === values, true);
});

Deno.test("quantize() and dequantize() write where they are told to, and not where there is other room", () => {
  for (const dtype of WEIGHT_DTYPES) {
    const { data } = emptyTensor(dtype, [values.length]), fresh = quantize(values, dtype);
    const room = emptyTensor(dtype, [values.length + 64]).data, own = room.subarray(0, data.length);
    assertEquals([quantize(values, dtype, own) === own, own], [true, fresh]);
    assertEquals(room.subarray(data.length).every((value) => value === 0), true);
    assertThrows(() => quantize(values, dtype, room), RangeError, "bytes for the values, expected");
    const tensor = hostTensor<DType>(dtype, [values.length], fresh),
      into = new Float32Array(values.length + 1);
    const read = dequantize(tensor, 0, values.length, into);
    assertEquals([read, read.buffer === into.buffer], [
      dequantize(tensor, 0, values.length),
      dtype !== "f32",
    ]);
    const short = into.subarray(2);
    assertThrows(() => dequantize(tensor, 0, values.length, short), RangeError, "expected as many at least");
  }
});

Deno.test("quantize() refuses what the type does not hold", () => {
  const block = (value: number) => Float32Array.from({ length: 32 }, (_, i) => i === 7 ? value : 1);
  for (const dtype of WEIGHT_DTYPES) {
    for (const value of [NaN, Infinity, -Infinity]) {
      assertThrows(() => quantize(block(value), dtype), RangeError, `found a value of ${value}, expected`);
    }
  }
  assertThrows(() => quantize(block(65520), "f16"), RangeError, "found a value of 65520, expected a float16");
  assertThrows(() => quantize(block(65520 * 127), "q8_0"), RangeError, "found a scale of 65520, expected");
  assertThrows(() => quantize(block(65520 * 8), "q4_0"), RangeError, "found a scale of -65520, expected");
  for (const dtype of ["q8_0", "q4_0"] as const) {
    assertThrows(() => quantize(values.subarray(0, 33), dtype), RangeError, "a multiple of its block of 32");
  }
});
