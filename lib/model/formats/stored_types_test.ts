/** Tensors of types that no kernel takes, against the Python package `gguf`, through a file. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { ModelFormatError } from "../../errors.ts";
import { toF16 } from "../../half.ts";
import { dequantize } from "../../reference/dequantize.ts";
import golden from "../../reference/testdata/dequantize_golden.json" with { type: "json" };
import { buildGguf } from "../testdata/gguf_builder.ts";
import { parseGguf } from "./gguf.ts";

const CODES = { Q2_K: 10, Q3_K: 11, Q5_K: 13, IQ4_NL: 20, IQ4_XS: 23, MXFP4: 39 } as const;
/** What becomes of each. */
const BECOMES = {
  Q2_K: "f16",
  Q3_K: "f16",
  Q5_K: "f16",
  IQ4_NL: "q8_0",
  IQ4_XS: "f16",
  MXFP4: "q8_0",
} as const;

function fileOf(name: keyof typeof CODES, data: Uint8Array, count = 512) {
  return parseGguf(buildGguf({ tensors: [{ name: "w", dims: [count], type: CODES[name], data }] }), "m.gguf");
}

for (const name of Object.keys(CODES) as (keyof typeof CODES)[]) {
  Deno.test(`parseGguf() turns ${name} into ${BECOMES[name]}, with ggml's values`, () => {
    const bytes = Uint8Array.fromBase64(golden[name].bytes);
    const values = new Float32Array(Uint8Array.fromBase64(golden[name].values).buffer);
    const file = fileOf(name, bytes), tensor = file.tensors.get("w")!;
    assertEquals([...file.converted], [[name, BECOMES[name]]]);
    assertEquals([tensor.dtype, tensor.shape], [BECOMES[name], [512]]);
    assert(tensor.data === tensor.data, "converted once");
    if (tensor.dtype === "q8_0") assertEquals(dequantize(tensor, 0, 512), values);
    else assertEquals([...tensor.data], Array.from(values, toF16));
  });
}

Deno.test("parseGguf() refuses a stored tensor of broken rows, of too few bytes, or of a scale past float16", () => {
  const bytes = Uint8Array.fromBase64(golden.MXFP4.bytes);
  assertThrows(
    () => fileOf("Q5_K", bytes, 128),
    ModelFormatError,
    "expected a multiple of Q5_K's block of 256",
  );
  assertThrows(() => fileOf("MXFP4", bytes, 1024), ModelFormatError, "the file is cut short");
  bytes[17] = 144;
  assertThrows(
    () => fileOf("MXFP4", bytes).tensors.get("w")!.data,
    ModelFormatError,
    'tensor "w": found a scale',
  );
  const plain = parseGguf(
    buildGguf({ tensors: [{ name: "w", dims: [2], type: 0, data: new Uint8Array(8) }] }),
    "m",
  );
  assertEquals(plain.converted.size, 0);
});
