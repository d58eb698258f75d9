import { assert, assertEquals, assertThrows } from "@std/assert";
import { openCpu } from "../../ffi/mod.ts";
import { KernelError } from "../../lib/errors.ts";
import { ReferenceBackend } from "../../lib/reference/mod.ts";
import { f32Data, hostTensor } from "../../lib/tensor.ts";
import { assertNear, numbers, openEveryWay, randomTensor, unwritten } from "../common/testing.ts";
import { LOGITS_CASES } from "./cases.ts";

const reference = new ReferenceBackend();

Deno.test("nll() and compareLogits() equal the reference on all cases, at every level", async () => {
  const backends = await openEveryWay();
  let runs = 0;
  LOGITS_CASES.forEach(({ rows, vocabSize, scale }, i) => {
    const next = numbers(i + 1);
    const base = randomTensor([rows, vocabSize], () => scale * next());
    const other = randomTensor([rows, vocabSize], () => scale * next());
    // Near-equal rows, as a mildly filtered model has them.
    if (i % 2 === 1) f32Data(other).forEach((_, j, all) => all[j] = f32Data(base)[j]! + all[j]! * 1e-3);
    const targets = hostTensor(
      "i32",
      [rows],
      Int32Array.from({ length: rows }, () => (next() + 1) / 2 * vocabSize),
    );
    const expected = reference.compareLogits(base, other, targets);
    const losses = reference.nll(other, targets);
    // A sum of e^x in float32 is good to about 1e-7 of itself, so a logarithm of it to 1e-7 nats.
    const size = () => 1 + scale;
    for (const backend of backends) {
      const what = `${backend.description}, [${rows}, ${vocabSize}] times ${scale}`;
      assertNear(backend.nll(other, targets), losses, 5e-7, what, size);
      const found = backend.compareLogits(base, other, targets);
      assertNear(found.nll, expected.nll, 5e-7, what, size);
      assertNear(found.baseNll, expected.baseNll, 5e-7, what, size);
      // The mean of log P - log Q: a small number, as the difference of two that may be as large as a logit.
      assertNear(found.kl, expected.kl, 5e-7, what, (j) => 1 + 100 * scale + expected.kl[j]!);
      assertEquals(found.agree, expected.agree, what);
      runs++;
    }
  });
  assertEquals(runs, backends.length * (11 * 3 + 2));
});

Deno.test("compareLogits() of a row with itself is 0 and agrees; ties go to the lowest index", async () => {
  for (const backend of await openEveryWay()) {
    const logits = randomTensor([3, 1000], numbers(5));
    const targets = hostTensor("i32", [3], new Int32Array([0, 500, 999]));
    const same = backend.compareLogits(logits, logits, targets);
    assertNear(same.kl, new Float64Array(3), 1e-12, backend.description, () => 1);
    assertEquals([...same.agree], [1, 1, 1]);
    assertEquals(same.nll, same.baseNll);
    const tied = hostTensor("f32", [2, 3], new Float32Array([2, 2, 1, 1, 2, 2]));
    const late = hostTensor("f32", [2, 3], new Float32Array([2, 1, 2, 1, 1, 2]));
    const found = backend.compareLogits(tied, late, hostTensor("i32", [2], new Int32Array(2)));
    assertEquals([...found.agree], [1, 0]);
  }
});

Deno.test("nll() takes minus infinity, far logits and NaN as arithmetic does", async () => {
  for (const backend of await openEveryWay()) {
    const vocabSize = 2500;
    const logits = unwritten([4, vocabSize]), x = f32Data(logits);
    x.fill(-Infinity);
    x[2000] = 3; // all probability on one token, in a late stretch
    x.fill(-1e30, vocabSize, 2 * vocabSize);
    x[vocabSize] = 1e30;
    x.fill(0, 2 * vocabSize, 4 * vocabSize);
    x[3 * vocabSize + 1500] = NaN;
    const found = backend.nll(logits, hostTensor("i32", [4], new Int32Array([2000, 0, 9, 9])));
    assertEquals([...found.subarray(0, 2)], [0, 0], backend.description);
    assert(Math.abs(found[2]! - Math.log(vocabSize)) < 1e-6);
    assertEquals(found[3], NaN);
    // Tokens that both rule out, or the first alone, add nothing to the divergence; the second alone, infinity.
    const base = hostTensor("f32", [2, 3], new Float32Array([0, 0, -Infinity, 0, 0, 0]));
    const other = hostTensor("f32", [2, 3], new Float32Array([0, 0, 0, 0, 0, -Infinity]));
    const { kl } = backend.compareLogits(base, other, hostTensor("i32", [2], new Int32Array(2)));
    assert(Math.abs(kl[0]! - Math.log(1.5)) < 1e-6);
    assertEquals(kl[1], Infinity);
  }
});

Deno.test("nll() refuses a target outside the vocabulary", async () => {
  const backend = await openCpu({ threads: 1, blas: "none" });
  const logits = unwritten([1, 7]);
  for (const id of [-1, 7]) {
    const targets = hostTensor("i32", [1], new Int32Array([id]));
    assertThrows(() => backend.nll(logits, targets), KernelError, "expected 0 to 6");
    assertThrows(() => backend.compareLogits(logits, logits, targets), KernelError, "expected 0 to 6");
  }
});
