/** Omitted parts act like parts whose last matrix is 0, and their cost is not counted. */
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { createDropped, createReplay, type DroppedParts, type Pruner } from "../../methods/mod.ts";
import { mlpFlops } from "../../cost.ts";
import { f32Data, type HostTensor } from "../../tensor.ts";
import { Model } from "../model.ts";
import { CONFIG, ids, truth, weights } from "../small_testing.ts";

/** The model with the last matrices of some parts set to 0. */
function zeroed({ attention, mlp }: DroppedParts): Model {
  const zero = (tensor: HostTensor) => ({ ...tensor, data: tensor.data.slice().fill(0) } as HostTensor);
  const layers = weights.layers.map((own, layer) => ({
    ...own,
    ...(attention.includes(layer) && { o: zero(own.o!) }),
    ...(mlp.includes(layer) && { down: zero(own.down!) }),
  }));
  return new Model(CONFIG, { ...weights, layers } as never, truth.backend);
}

Deno.test("parts left out are as parts whose last matrix is 0", () => {
  const tokens = ids(40);
  for (
    const parts of [
      { attention: [1], mlp: [] },
      { attention: [], mlp: [0] },
      { attention: [0, 2], mlp: [2] },
    ]
  ) {
    const sequence = truth.start(createDropped(CONFIG, parts)),
      want = f32Data(zeroed(parts).start().feed(tokens));
    const fork = (sequence.feed(tokens.slice(0, 30)), sequence.fork());
    for (const own of [sequence, fork]) {
      const tail = f32Data(own.feed(tokens.slice(30)));
      tail.forEach((x, i) => assertAlmostEquals(x, want[30 * CONFIG.hiddenSize + i]!, 1e-5));
    }
    const dense = truth.start(), { attention, mlp } = parts;
    assert(f32Data(dense.feed(tokens)).some((x, i) => Math.abs(x - want[i]!) > 0.1));
    const own = sequence.usage(), all = dense.usage(), count = attention.length, { numLayers } = CONFIG;
    const share = (whole: number) => whole * count / numLayers;
    assertEquals([own.queriesSkipped, own.pairsAvoided], [share(all.queriesDense), share(all.pairsDense)]);
    assertEquals(own.projectionFlopsAvoided, share(all.projectionFlopsDense));
    assertEquals(own.kvBytesHeld, all.kvBytesHeld - share(all.kvBytesHeld));
    assertEquals(own.totalFlopsAvoided - own.attentionFlopsAvoided, mlp.length * mlpFlops(CONFIG, 40));
  }
});

Deno.test("parts left out from a token on: those before run dense, however they are fed", () => {
  const tokens = ids(60), from = 25, { hiddenSize, numLayers } = CONFIG;
  const run = (pruner: Pruner, feeds: readonly number[]) => {
    const sequence = truth.start(pruner);
    let at = 0;
    const rows = feeds.flatMap((count) => [...f32Data(sequence.feed(tokens.slice(at, at += count)))]);
    const { kvBytesAllocated: _, ...usage } = sequence.usage();
    return { rows, usage };
  };
  const parts = { attention: [1], mlp: [2], from }, whole = run(createDropped(CONFIG, parts), [60]);
  for (const feeds of [Array<number>(60).fill(1), [10, 40, 10]]) {
    const { rows, usage } = run(createDropped(CONFIG, parts), feeds);
    assertEquals(usage, whole.usage);
    rows.forEach((x, i) => assertAlmostEquals(x, whole.rows[i]!, 1e-5));
  }
  const dense = run(createDropped(CONFIG, {}), [60]);
  const before = (rows: number[]) => rows.slice(0, from * hiddenSize);
  before(whole.rows).forEach((x, i) => assertAlmostEquals(x, dense.rows[i]!, 1e-5));
  assert(Math.abs(whole.rows[from * hiddenSize]! - dense.rows[from * hiddenSize]!) > 1e-3);
  // A layer without attention is one that skips every token.
  const keep = new Map([[1, Uint8Array.from(tokens, (_, t) => t < from ? 1 : 0)]]);
  const skipped = run(createReplay(CONFIG, { keep }), [60]),
    alone = run(createDropped(CONFIG, { ...parts, mlp: [] }), [60]);
  alone.rows.forEach((x, i) => assertAlmostEquals(x, skipped.rows[i]!, 1e-5));
  for (const name of ["queriesSkipped", "pairsAvoided", "kvBytesHeld"] as const) {
    assertEquals(alone.usage[name], skipped.usage[name]);
  }
  const mlp = whole.usage.totalFlopsAvoided - whole.usage.attentionFlopsAvoided;
  assertEquals(mlp, mlpFlops(CONFIG, 60 - from));
  assertEquals(whole.usage.queriesSkipped, 60 - from);
  assert(whole.usage.queriesDense === 60 * numLayers);
});

Deno.test("createDropped() refuses layers that are not there, or are named twice", () => {
  for (const attention of [[3], [-1], [1, 1], [0.5]]) {
    assertThrows(
      () => createDropped(CONFIG, { attention }),
      RangeError,
      "Cannot drop the attention of layer",
    );
  }
  assertThrows(
    () => createDropped(CONFIG, { from: -1 }),
    RangeError,
    '"from": found -1, expected an integer of at least 0',
  );
  assertThrows(() => createDropped(CONFIG, { mlp: [9] }), RangeError, "Cannot drop the mlp of layer 9");
});
