import { assert, assertEquals, assertThrows } from "@std/assert";
import { type DType, DTYPES, type QuantDType } from "../dtype.ts";
import { toBf16, toF16 } from "../math/half.ts";
import { emptyTensor, hostTensor } from "../tensor.ts";
import { dequantize } from "./dequantize.ts";
import golden from "./testdata/dequantize_golden.json" with { type: "json" };

const QUANTISED = (Object.keys(DTYPES) as DType[]).filter((dtype): dtype is QuantDType =>
  DTYPES[dtype].blockSize > 1
);

function goldenBlocks(dtype: QuantDType) {
  const bytes = Uint8Array.fromBase64(golden[dtype].bytes);
  const values = new Float32Array(Uint8Array.fromBase64(golden[dtype].values).buffer);
  return { tensor: hostTensor(dtype, [values.length], bytes), values };
}

const bitsOf = (values: Float32Array) => [...new Int32Array(values.buffer, values.byteOffset, values.length)];

for (const dtype of QUANTISED) {
  Deno.test(`dequantize() gives ggml's values of ${dtype} bit for bit`, () => {
    const { tensor, values } = goldenBlocks(dtype);
    assertEquals(values.length, 512);
    assertEquals(bitsOf(dequantize(tensor, 0, 512)), bitsOf(values));
  });

  Deno.test(`dequantize() reads ${dtype} from the middle of a tensor`, () => {
    const { tensor, values } = goldenBlocks(dtype);
    const { blockSize } = DTYPES[dtype];
    const start = 512 - blockSize;
    assertEquals(bitsOf(dequantize(tensor, start, blockSize)), bitsOf(values.slice(start)));
  });

  Deno.test(`dequantize() refuses parts of a ${dtype} block`, () => {
    const { tensor } = goldenBlocks(dtype);
    const { blockSize } = DTYPES[dtype];
    assertThrows(() => dequantize(tensor, 1, blockSize), RangeError, `in multiples of ${blockSize}`);
    assertThrows(() => dequantize(tensor, 0, blockSize - 1), RangeError);
    assertThrows(() => dequantize(tensor, 512, blockSize), RangeError);
    assertThrows(() => dequantize(tensor, -blockSize, blockSize), RangeError);
  });
}

Deno.test("dequantize() reads dense types", () => {
  const numbers = [0, -1.5, 3.140625, 65504, -0.0000305];
  const f32 = hostTensor("f32", [5], Float32Array.from(numbers));
  assert(dequantize(f32, 1, 3).buffer === f32.data.buffer, "f32 is a view");
  assertEquals([...dequantize(f32, 1, 3)], numbers.slice(1, 4));
  const f16 = hostTensor("f16", [5], Uint16Array.from(numbers, toF16));
  assertEquals([...dequantize(f16, 0, 4)], numbers.slice(0, 4));
  const bf16 = hostTensor("bf16", [5], Uint16Array.from(numbers, toBf16));
  assertEquals([...dequantize(bf16, 0, 2)], numbers.slice(0, 2));
  assertEquals(dequantize(bf16, 5, 0).length, 0);
});

Deno.test("dequantize() refuses types that are no weights", () => {
  for (const dtype of ["f64", "i32", "u8"] satisfies DType[]) {
    assertThrows(() => dequantize(emptyTensor(dtype, [4]), 0, 4), TypeError, dtype);
  }
});
