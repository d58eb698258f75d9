/** Requirements of signals that no method of the list reads: of other layers, and of some queries only. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { createEviction } from "../../methods/bind/eviction.ts";
import { createPruner, type EvictionMethod, resolveOptions } from "../../methods/mod.ts";
import { Model } from "../model.ts";
import { CONFIG, ids, weights } from "../small_testing.ts";
import { backend } from "../testing.ts";
import type { ModelSequence } from "./sequence.ts";

const model = new Model({ ...CONFIG, numLayers: 3 }, weights as never, backend), COUNT = 104;
const plan = { side: "key", warmup: 8, recent: 6, block: 8, tail: 1, kvRatio: 0.5 } as const;

type Reader = Pick<EvictionMethod, "reads" | "score">;

function prunerOf(reader: Reader) {
  const method: EvictionMethod = { name: "mine", help: "reads other layers", evicts: true, ...reader };
  const options = resolveOptions({ ...plan, kvFusion: "tova" });
  const keySide = createEviction(method, model.config, options, "post-rope", { backend });
  return {
    ...createPruner("token-filtering", model.config, { ...plan, kvFusion: "tova" }, { backend }),
    keySide,
  };
}

const LAST = { queries: { last: 16 } } as const;

/** Each reads more than its own layer. */
const READERS: { readonly [name: string]: Reader } = {
  "attention of the last 16 queries of this layer and the next": {
    reads: () => [{ signal: "attention", ...LAST, layers: [0, 1] }],
    score: ({ signals, layer, shape }) =>
      [layer, layer + 1].filter((one) => one < shape.numLayers).map((one) =>
        signals.read("attention", { ...LAST, layer: one })
      ),
  },
  "attention received in all layers below": {
    reads: () => [{ signal: "attention" }, { signal: "attention", layers: "below" }],
    score: ({ signals, layer }) =>
      Array.from({ length: layer + 1 }, (_, one) => signals.read("attention", { layer: one })),
  },
  "value norms of all layers below": {
    reads: () => [{ signal: "keys" }, { signal: "values", layers: "below" }],
    score: ({ signals, layer, tokens }) => [
      Float64Array.from(tokens.map(({ key }) => Math.hypot(...key))),
      ...Array.from({ length: layer }, (_, one) => {
        const rows = signals.read("values", { layer: one }), width = rows.length / tokens.length;
        return Float64Array.from(
          tokens.map((_, i) => Math.hypot(...rows.subarray(i * width, (i + 1) * width))),
        );
      }),
    ],
  },
};

function feed(sequence: ModelSequence, pieces: readonly number[], from = 0) {
  let at = from;
  for (const count of pieces) sequence.feed(ids(COUNT).slice(at, at += count));
  return sequence.kvKeep;
}

for (const [name, reader] of Object.entries(READERS)) {
  Deno.test(`${name}: the same evictions in any feed and after a fork`, () => {
    const pruner = prunerOf(reader), whole = feed(model.start(pruner), [COUNT]);
    for (const [layer, mask] of whole) assert(mask.includes(0), `layer ${layer}`);
    assertEquals(feed(model.start(pruner), Array(COUNT).fill(1)), whole);
    assertEquals(feed(model.start(pruner), [5, 1, 3, 40, 21, 34]), whole);
    const trunk = model.start(pruner);
    feed(trunk, [70]);
    const branch = trunk.fork();
    trunk.feed(ids(COUNT).slice(0, 20));
    assertEquals(feed(branch, [COUNT - 70], 70), whole);
  });
}

Deno.test("a signal that a method does not list is refused by name", () => {
  const pruner = prunerOf({
    reads: () => [{ signal: "attention" }],
    score: ({ signals }) => [signals.read("change")],
  });
  assertThrows(() => feed(model.start(pruner), [COUNT]), TypeError, 'Cannot read "change" of layer 0');
});
