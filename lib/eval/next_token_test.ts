import { assert, assertEquals } from "@std/assert";
import type { KeptLogits } from "./chunk_evaluation.ts";
import { f32Data } from "../tensor.ts";
import { compareNextTokens, likeliestTokens, nextTokenNll, ROWS_PER_BLOCK } from "./next_token.ts";
import { expectAllFreed, fakeModel } from "./testing.ts";

const ids = Int32Array.from({ length: 2 * ROWS_PER_BLOCK + 5 }, (_, i) => (i * i + 2 * i) % 5);

Deno.test("nextTokenNll() and compareNextTokens() free the rows and logits of every block", () =>
  expectAllFreed((model) => {
    const sequence = model.start(), hidden = sequence.feed(ids);
    const nll = nextTokenNll(model, ids, hidden);
    assertEquals(nll, nextTokenNll(fakeModel().model, ids, model.backend.read(hidden)));
    assertEquals(compareNextTokens(model, ids, hidden, hidden).nll, nll);
    const kept: KeptLogits = { get: (_, compute) => compute(), has: () => false };
    assertEquals(compareNextTokens(model, ids, hidden, hidden, kept).nll, nll);
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
