/** Requirements of signals that no method of the list reads: of other layers, and of some queries only. */
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { createEviction } from "../../methods/bind/eviction.ts";
import { createPruner, type EvictionMethod, resolveOptions } from "../../methods/mod.ts";
import { filteredLayers } from "../../methods/protocol/pruner.ts";
import { f32Data, type Tensor } from "../../tensor.ts";
import { Model } from "../model.ts";
import { CONFIG, ids, weights } from "../small_testing.ts";
import { backend } from "../testing.ts";
import type { ModelSequence } from "./sequence.ts";

const model = new Model({ ...CONFIG, numLayers: 3 }, weights as never, backend), COUNT = 104;
const plan = { side: "key", warmup: 8, recent: 6, block: 8, tail: 1, kvRatio: 0.5 } as const;

type Reader = Pick<EvictionMethod, "reads" | "score" | "apart">;

function prunerOf(reader: Reader, tail = 1) {
  const method: EvictionMethod = { name: "mine", help: "reads other layers", evicts: true, ...reader };
  const asked = { ...plan, tail, kvFusion: "tova" } as const, options = resolveOptions(asked);
  const keySide = createEviction(method, model.config, options, "post-rope", { backend });
  return {
    ...createPruner("token-filtering", model.config, asked, { backend }),
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
      ...Array.from(
        { length: layer },
        (_, one) => normsOf(signals.read("values", { layer: one }), tokens.length),
      ),
    ],
  },
  "value norms of the layer and of all below": {
    reads: () => [{ signal: "values" }, { signal: "values", layers: "below" }],
    score: ({ signals, layer, tokens }) =>
      Array.from(
        { length: layer + 1 },
        (_, one) => normsOf(signals.read("values", { layer: one }), tokens.length),
      ),
  },
  "norms of the MLP's output in the layer and in the one before": {
    reads: () => [{ signal: "mlp", layers: [-1, 0] }],
    score: ({ signals, layer, tokens }) =>
      [layer - 1, layer].filter((one) => one >= 0).map((one) =>
        normsOf(signals.read("mlp", { layer: one }), tokens.length)
      ),
  },
};

/** Norms of rows, [count] f64. */
const normsOf = (rows: Float64Array, count: number) => {
  const width = rows.length / count;
  return Float64Array.from(
    { length: count },
    (_, i) => Math.hypot(...rows.subarray(i * width, (i + 1) * width)),
  );
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

Deno.test("each row signal of the decided layer is read: those of its tokens, and of the residual stream", () => {
  const rows = ["keys", "values", "queries", "residual", "normed"] as const, { hiddenSize } = model.config;
  const stream = new Map<number, Float32Array>(), ends = new Set<number>();
  const pruner = prunerOf({
    reads: () => rows.map((signal) => ({ signal })),
    score({ signals, layer, at, tokens }) {
      const of = (row: "key" | "value" | "query") => tokens.flatMap((token) => [...token[row]!]);
      assertEquals([...signals.read("keys")], of("key"));
      assertEquals([...signals.read("values")], of("value"));
      assertEquals([...signals.read("queries")], of("query"));
      const residual = tokens.flatMap(({ position }) => [
        ...stream.get(layer)!.subarray(position * hiddenSize, (position + 1) * hiddenSize),
      ]);
      assertEquals([...signals.read("residual")], residual);
      assertEquals(signals.read("normed").length, residual.length);
      ends.add(at);
      return [Float64Array.from(tokens, ({ position }) => position)];
    },
  });
  model.start(pruner, {
    see: (layer, part, x) => part === "attention" && stream.set(layer, f32Data(x).slice()),
  }).feed(ids(COUNT));
  assert(ends.size > 5);
});

Deno.test("a sequence does not begin above a layer that its method reads", () => {
  const reads = () => [{ signal: "attention", layers: [-1] }] as const, tail = 0.5;
  const pruner = prunerOf({ reads, score: ({ tokens }) => [new Float64Array(tokens.length)] }, tail);
  assertEquals([pruner.keySide.layers, filteredLayers(pruner)], [[1, 2], [0, 1, 2]]);
  const start = () => model.start(pruner).feedResidual(model.residualAt(ids(COUNT), 1), 1);
  assertThrows(start, RangeError, "a layer below it is filtered or read");
});

Deno.test("each KV head reads the attention of a layer that evicts nothing", () => {
  const reads = () => [{ signal: "attention", layers: [-1] }] as const, tail = 0.5;
  const most = new Map<number, number[]>();
  const pruner = prunerOf({
    ...{ reads, apart: 0.2 },
    score({ signals, layer }) {
      const received = signals.read("attention", { layer: layer - 1 });
      most.set(layer, [...most.get(layer) ?? [], Math.max(...received)]);
      return [received];
    },
  }, tail);
  assertEquals(pruner.keySide.layers, [1, 2]);
  feed(model.start(pruner), [COUNT]);
  assertEquals(most.get(1)!.length % model.config.numKvHeads, 0);
  assert(most.get(1)!.every((one) => one > 0), String(most.get(1)));
});

Deno.test("the MLP's output of the layer before is what it adds to the residual stream, in any feed", () => {
  const { hiddenSize, numLayers } = model.config, layers = numLayers - 1;
  const before = new Map<string, number[]>();
  const see = (layer: number, part: string, x: Tensor) => {
    if (part !== "attention" && part !== "mlp") return;
    before.set(`${layer} ${part}`, [...before.get(`${layer} ${part}`) ?? [], ...f32Data(x)]);
  };
  let compared = 0;
  const pruner = prunerOf({
    reads: () => [{ signal: "mlp", layers: [-1] }],
    score({ signals, layer, tokens }) {
      const last = tokens.map(({ position }) => position);
      if (layer === 0) return [Float64Array.from(last)];
      const rows = signals.read("mlp", { layer: layer - 1 });
      const [from, to] = [`${layer - 1} mlp`, `${layer} attention`].map((name) => before.get(name)!);
      last.forEach((position, i) => {
        for (let c = 0; c < hiddenSize; c++) {
          const at = position * hiddenSize + c;
          assertAlmostEquals(rows[i * hiddenSize + c]!, to![at]! - from![at]!, 1e-5);
        }
        compared++;
      });
      return [normsOf(rows, tokens.length)];
    },
  });
  assertEquals(pruner.keySide.at, "arrival");
  const whole = feed(model.start(pruner, { see }), [COUNT]);
  assert(compared > 200 * layers, `${compared} rows`);
  before.clear();
  assertEquals(feed(model.start(pruner, { see }), [5, 1, 3, 40, 21, 34]), whole);
});

Deno.test("sequences that are fed together show their own MLP outputs", () => {
  const pruner = prunerOf(READERS["norms of the MLP's output in the layer and in the one before"]!);
  const whole = feed(model.start(pruner), [COUNT]), sequence = model.start(pruner), other = model.start();
  for (let at = 0; at < COUNT; at += 13) {
    const own = ids(COUNT).slice(at, at + 13);
    model.feedTogether([{ sequence: other, ids: ids(7, at) }, { sequence, ids: own }]);
  }
  assertEquals(sequence.kvKeep, whole);
});
