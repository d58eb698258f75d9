/**
 * Ops at a length that only a card can compute: large grids, 64-bit offsets, lists of rows. On the interpreter the same
 * calls are short.
 */
import { assertEquals } from "@std/assert";
import { INTERPRETS_PTX, testOnDevice } from "../../../ffi/cuda/testing.ts";
import { DTYPES } from "../../../lib/dtype.ts";
import { attentionCase, decodeCase } from "../bench/attention.ts";
import { scanCase } from "../bench/filter.ts";
import { decisionsOf, wayOf } from "../../../kernels/testing/ways.ts";
import { checkSlots, prepare } from "../../../kernels/linear/tests/testing.ts";

const TOKENS = INTERPRETS_PTX ? 192 : 131_072;
const SIZES = { numHeads: 2, numKvHeads: 1, headDim: 64 };

for (const dtype of ["f32", "bf16"] as const) {
  testOnDevice(`prefill and decode attend to ${TOKENS} rows of ${dtype} as the reference does`, (backend) => {
    const plan = { impl: "", phase: "prefill", dtype, tokens: TOKENS } as const;
    for (const wgmma of dtype !== "f32" && backend.useWgmma(true) ? [false, true] : [false]) {
      for (const [skip, recent] of [[0, 0], [0.5, 16]] as const) {
        const use = (on: boolean) => void backend.useWgmma(on && wgmma);
        attentionCase(backend, SIZES, { ...plan, skip, recent, use }).verify();
      }
    }
    for (const near of [0, 16]) {
      decodeCase(backend, SIZES, dtype, { batch: 2, rows: TOKENS, kept: 2, near }).verify();
    }
  });
}

testOnDevice(`the filter scans ${TOKENS} tokens as the reference does`, (backend) => {
  const chunk = TOKENS / 32, sizes = { numKvHeads: 1, headDim: 32, hiddenSize: 64 };
  const plan = { impl: "", tokens: TOKENS, chunk };
  for (const learned of [false, true]) scanCase(backend, sizes, { ...plan, learned }).verify();
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
