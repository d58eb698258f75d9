import { assert, assertEquals } from "@std/assert";
import { emptyTensor, f32Data, hostTensor, type Tensor } from "../tensor.ts";
import type { EvaluatedModel } from "./language_model.ts";
import {
  compareNextTokens,
  type KeptLogits,
  likeliestTokens,
  nextTokenNll,
  ROWS_PER_BLOCK,
  scoreNextTokens,
} from "./next_token.ts";
import { expectAllFreed, fakeModel } from "./testing.ts";

const ids = Int32Array.from({ length: 2 * ROWS_PER_BLOCK + 5 }, (_, i) => (i * i + 2 * i) % 5);

/** Hidden states that are others from a row on. */
function othersFrom(hidden: Tensor, row: number): Tensor {
  const others = f32Data(hidden).slice(), at = row * hidden.shape[1]!;
  others.set(others.subarray(at).map((value, i) => value + Math.cos(i)), at);
  return hostTensor("f32", hidden.shape, others);
}

Deno.test("nextTokenNll() and compareNextTokens() free the rows and logits of every block", () =>
  expectAllFreed((model) => {
    const sequence = model.start(), hidden = sequence.feed(ids);
    const nll = nextTokenNll(model, ids, hidden);
    assertEquals(nll, nextTokenNll(fakeModel().model, ids, model.backend.read(hidden)));
    const kept: KeptLogits = { get: (_, compute) => compute(), has: () => false };
    for (const base of [0, 140, ids.length].map((same) => othersFrom(hidden, same))) {
      for (const memory of [undefined, kept]) {
        const found = compareNextTokens(model, ids, base, hidden, memory);
        assertEquals([found.nll, found.baseNll], [nll, nextTokenNll(fakeModel().model, ids, base)]);
      }
    }
    const host = model.backend.read(hidden), { gatherRows } = model.backend;
    // A device takes no tensors of this process.
    Object.assign(model.backend, {
      gatherRows: (...[x, ...others]: Parameters<typeof gatherRows>) => {
        assert(x !== host, "not uploaded");
        gatherRows(x, ...others);
      },
    });
    const likeliest = Array.from({ length: ids.length }, (_, t) => {
      const own = f32Data(host).subarray(5 * t, 5 * t + 5);
      return own.indexOf(Math.max(...own));
    });
    assertEquals(likeliestTokens(model, host), likeliest);
    model.backend.free(hidden);
    sequence.free!();
  }));

Deno.test("scoreNextTokens() gives a loss and a verdict for each token but the first", () => {
  const { model } = fakeModel(), hidden = model.start().feed(ids);
  const { nll, greedy } = scoreNextTokens(model, ids, hidden);
  assertEquals(nll, nextTokenNll(model, ids, hidden));
  const likeliest = likeliestTokens(model, model.backend.read(hidden));
  assertEquals([...greedy], [...ids.subarray(1)].map((id, t) => Number(id === likeliest[t])));
});

Deno.test("nextTokenNll() and compareNextTokens() make the logits of all blocks in the memory of the first", () => {
  const { model } = fakeModel(), hidden = model.start().feed(ids), rooms: (Tensor | undefined)[] = [];
  const counted: EvaluatedModel = {
    ...model,
    logits(hidden, out) {
      rooms.push(out);
      f32Data(out ??= emptyTensor("f32", hidden.shape)).set(f32Data(hidden));
      return out;
    },
  };
  const bufferOf = (room: Tensor | undefined) => room && f32Data(room).buffer;
  nextTokenNll(counted, ids, hidden);
  // Three blocks, the last one of 4 rows.
  assertEquals(rooms.map((room) => room?.shape), [undefined, [ROWS_PER_BLOCK, 5], [4, 5]]);
  assert(bufferOf(rooms[1]) === bufferOf(rooms[2]), "other memory");
  rooms.length = 0;
  compareNextTokens(counted, ids, hidden, othersFrom(hidden, 0));
  assertEquals(rooms.map((room) => room?.shape[0]), [undefined, undefined, ...[128, 128, 4, 4]]);
  assertEquals(new Set(rooms.map(bufferOf)).size, 3);
});
