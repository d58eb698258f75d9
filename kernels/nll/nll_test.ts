import { assert, assertEquals, assertThrows } from "@std/assert";
import { KernelError } from "../../lib/errors.ts";
import { ReferenceBackend } from "../../lib/reference/mod.ts";
import { f32Data, hostTensor } from "../../lib/tensor.ts";
import { assertNear, numbers, randomTensor, unwritten } from "../testing/inputs.ts";
import { testCases, testInEveryWay, testOnDevice, wayOf } from "../testing/ways.ts";
import { LOGITS_CASES } from "./cases.ts";
import { checkLogits, prepare } from "./testing.ts";

const REFERENCE = wayOf("reference", new ReferenceBackend());
const ints = (...list: number[]) => hostTensor("i32", [list.length], Int32Array.from(list));
const floats = (rows: number, ...list: number[]) =>
  hostTensor("f32", [rows, list.length / rows], Float32Array.from(list));

testCases(
  "nll(), compareLogits() and argmax() equal the reference on all cases",
  LOGITS_CASES,
  [11 * 3 + 2, 3],
  (c, i) => {
    const prepared = prepare(c, i + 1), { other, what } = prepared, { rows, vocabSize } = c;
    const largest = Array.from({ length: rows }, (_, row) => {
      const line = f32Data(other).subarray(row * vocabSize, (row + 1) * vocabSize);
      return line.indexOf(line.reduce((most, value) => Math.max(most, value)));
    });
    return ({ name, backend, on }) => {
      checkLogits(name, backend, prepared, on);
      const ids = on(ints(...Array(rows).fill(-7)));
      backend.argmax(on(other), ids);
      assertEquals([...backend.read(ids).data as Int32Array], largest, `${name}, ${what}`);
    };
  },
  ({ vocabSize, scale }) => [33, 989, 4099].includes(vocabSize) && scale === 10,
);

testInEveryWay(
  "compareLogits() of a row with itself is 0 and agrees; ties go to the lowest index",
  (ways) => {
    for (const { name, backend, on } of [REFERENCE, ...ways]) {
      const logits = on(randomTensor([3, 1000], numbers(5)));
      const same = backend.compareLogits(logits, logits, on(ints(0, 500, 999)));
      assertNear(same.kl, new Float64Array(3), 1e-12, name, () => 1);
      assertEquals([...same.agree], [1, 1, 1]);
      assertEquals(same.nll, same.baseNll);
      const tied = on(floats(2, 2, 2, 1, 1, 2, 2)), late = on(floats(2, 2, 1, 2, 1, 1, 2));
      assertEquals([...backend.compareLogits(tied, late, on(ints(0, 0))).agree], [1, 0]);
      // A row with NaN agrees with nothing, not even itself.
      const poisoned = on(floats(3, NaN, 1, 1, NaN, 1, 2));
      assertEquals([...backend.compareLogits(poisoned, poisoned, on(ints(0, 0, 0))).agree], [0, 0, 1]);
    }
  },
);

testOnDevice(
  "argmax() gives the lowest index of ties, and 0 of nothing but -Infinity or NaN",
  ({ backend, on }) => {
    const row = new Float32Array(5 * 2000).fill(-1);
    for (const i of [1999, 1234, 567]) row[i] = 4;
    row.fill(-Infinity, 2000, 4000).fill(NaN, 4000, 6000);
    row[6000 + 1777] = NaN;
    row[8000] = NaN;
    const ids = on(ints(-7, -7, -7, -7, -7));
    backend.argmax(on(hostTensor("f32", [5, 2000], row)), ids);
    assertEquals([...backend.read(ids).data as Int32Array], [567, 0, 0, 0, 1]);
    // Ties in parts of a row that blocks share, and zeros of both signs.
    const wide = new Float32Array(2 * 20_000).fill(-1);
    for (const i of [19_000, 9000, 9001]) wide[i] = 4;
    wide[20_000 + 17_000] = -0;
    wide[20_000 + 18_000] = 0;
    const two = on(ints(-7, -7));
    backend.argmax(on(hostTensor("f32", [2, 20_000], wide)), two);
    assertEquals([...backend.read(two).data as Int32Array], [9000, 17_000]);
  },
);

testInEveryWay("nll() takes minus infinity, far logits and NaN as arithmetic does", (ways) => {
  for (const { name, backend, on } of [REFERENCE, ...ways]) {
    const vocabSize = 2500, logits = unwritten([4, vocabSize]), x = f32Data(logits);
    x.fill(-Infinity);
    x[2000] = 3; // all probability on one token, in a late stretch
    x.fill(-1e30, vocabSize, 2 * vocabSize);
    x[vocabSize] = 1e30;
    x.fill(0, 2 * vocabSize, 4 * vocabSize);
    x[3 * vocabSize + 1500] = NaN;
    const found = backend.nll(on(logits), on(ints(2000, 0, 9, 9)));
    assertEquals([...found.subarray(0, 2)], [0, 0], name);
    assert(Math.abs(found[2]! - Math.log(vocabSize)) < 1e-6);
    assertEquals(found[3], NaN);
    // Tokens that both rule out, or only the first, add nothing to the divergence; only the second: infinity.
    const base = on(floats(2, 0, 0, -Infinity, 0, 0, 0)), other = on(floats(2, 0, 0, 0, 0, 0, -Infinity));
    const { kl } = backend.compareLogits(base, other, on(ints(0, 0)));
    assert(Math.abs(kl[0]! - Math.log(1.5)) < 1e-6);
    assertEquals(kl[1], Infinity);
  }
});

testInEveryWay("nll() refuses a target outside the vocabulary; a device reports it", (ways) => {
  for (const { backend, on, empty } of ways) {
    const says = backend.name !== "cuda" ? "expected 0 to 6" : "found an index outside its table";
    const logits = empty(1, 7);
    for (const id of [-1, 7]) {
      assertThrows(() => backend.nll(logits, on(ints(id))), KernelError, says);
      assertThrows(() => backend.compareLogits(logits, logits, on(ints(id))), KernelError, says);
    }
  }
});
