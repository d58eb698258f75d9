/**
 * Ops at a length that only a card can compute: large grids, 64-bit offsets, lists of rows. On the emulator the same
 * calls are short.
 */
import { assertEquals } from "@std/assert";
import { testOnDevice, testsOnGpu } from "../../../ffi/cuda/testing.ts";
import type { CudaBackend } from "../../../ffi/mod.ts";
import { DTYPES } from "../../../lib/dtype.ts";
import { decodeCase, prefillCase } from "../bench_gpu/attention.ts";
import type { Gpu } from "../bench_gpu/device.ts";
import { scanCase } from "../bench_gpu/filter.ts";
import { decisionsOf, wayOf } from "../../../kernels/testing/ways.ts";
import { checkSlots, prepare } from "../../../kernels/linear/testing.ts";

const TOKENS = testsOnGpu() ? 131_072 : 192;
const SIZES = { numHeads: 2, numKvHeads: 1, headDim: 64 };

/** The part of a GPU that calls need: nothing is timed. */
const gpuOf = (backend: CudaBackend) => ({ backend }) as unknown as Gpu;

for (const dtype of ["f32", "bf16"] as const) {
  testOnDevice(`prefill and decode attend to ${TOKENS} rows of ${dtype} as the reference does`, (backend) => {
    const gpu = gpuOf(backend);
    for (const wgmma of dtype !== "f32" && backend.useWgmma(true) ? [false, true] : [false]) {
      for (const [skip, recent] of [[0, 0], [0.5, 16]] as const) {
        prefillCase(gpu, SIZES, dtype, { tokens: TOKENS, skip, recent, wgmma }).verify();
      }
    }
    for (const near of [0, 16]) {
      decodeCase(gpu, SIZES, dtype, { batch: 2, rows: TOKENS, kept: 2, near }).verify();
    }
  });
}

testOnDevice(`the filter scans ${TOKENS} tokens as the reference does`, (backend) => {
  const chunk = TOKENS / 32, sizes = { numKvHeads: 1, headDim: 32, hiddenSize: 64 };
  for (const learned of [false, true]) scanCase(gpuOf(backend), sizes, TOKENS, chunk, learned).verify();
});

testOnDevice("linear() multiplies lists of more than 256 rows, of every way of multiplying", (backend) => {
  const way = wayOf(backend.description, backend), rows = 300;
  const listed = Array.from({ length: rows }, (_, i) => i).filter((i) => i % 10 !== 3);
  assertEquals(listed.length, 270);
  for (const dtype of ["f32", "f16", "bf16", "q8_0", "q4_1", "q4_k"] as const) {
    const c = { dtype, rows, n: 9, k: DTYPES[dtype].blockSize === 256 ? 256 : 64 };
    const { x, weight } = prepare(c, rows);
    for (const slots of [listed, listed.slice(0, 257)]) {
      const out = way.empty(rows, c.n);
      way.backend.linear(way.on(x), way.on(weight), out, decisionsOf(way, rows, slots));
      checkSlots(way, c, out, slots, rows);
    }
  }
});
