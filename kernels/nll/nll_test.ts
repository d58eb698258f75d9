import { assert, assertEquals, assertThrows } from "@std/assert";
import { openCpu } from "../../ffi/mod.ts";
import { KernelError } from "../../lib/errors.ts";
import { ReferenceBackend } from "../../lib/reference/mod.ts";
import { f32Data, hostTensor } from "../../lib/tensor.ts";
import { assertNear, numbers, openEveryWay, randomTensor, unwritten } from "../testing/inputs.ts";
import { LOGITS_CASES } from "./cases.ts";
import { checkLogits, prepare } from "./testing.ts";

Deno.test("nll() and compareLogits() equal the reference on all cases, at every level", async () => {
  const backends = await openEveryWay();
  let runs = 0;
  for (const [i, c] of LOGITS_CASES.entries()) {
    const prepared = prepare(c, i + 1);
    for (const backend of backends) {
      checkLogits(backend.description, backend, prepared, (tensor) => tensor);
      runs++;
    }
  }
  assertEquals(runs, backends.length * (11 * 3 + 2));
});

Deno.test("compareLogits() of a row with itself is 0 and agrees; ties go to the lowest index", async () => {
  for (const backend of [new ReferenceBackend(), ...await openEveryWay()]) {
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
    // A row with NaN agrees with nothing, not even itself.
    const poisoned = hostTensor("f32", [3, 2], new Float32Array([NaN, 1, 1, NaN, 1, 2]));
    const none = backend.compareLogits(poisoned, poisoned, hostTensor("i32", [3], new Int32Array(3)));
    assertEquals([...none.agree], [0, 0, 1]);
  }
});

Deno.test("nll() takes minus infinity, far logits and NaN as arithmetic does", async () => {
  for (const backend of [new ReferenceBackend(), ...await openEveryWay()]) {
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
