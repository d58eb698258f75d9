import { assert, assertEquals, assertThrows } from "@std/assert";
import type { Tensor } from "../tensor.ts";
import { emptyTensor } from "../tensor.ts";
import { METHOD_NAMES, METHODS, ownRules, RULES, setOwnRules } from "./list.ts";
import type { Method } from "./protocol/method.ts";
import {
  createDropped,
  createPruner,
  createReplay,
  labelOptions,
  resolveOptions,
  shuffleDecisions,
} from "./mod.ts";
import type { DecisionTrace, LayerView, MethodName, SideSequence } from "./mod.ts";

const shape = { numLayers: 4, numHeads: 2, numKvHeads: 1, headDim: 2, hiddenSize: 4 };

/** A layer's input that holds nothing but its size, and the norms of the attention's output. */
function inputOf(layer: number, count: number, futureOutputs?: number[]): LayerView {
  const rows = (width: number): Tensor => emptyTensor("f32", [count, width]);
  return {
    layer,
    count,
    keys: emptyTensor("f32", [count, 1, 2]),
    values: emptyTensor("f32", [count, 1, 2]),
    residual: rows(4),
    normed: rows(4),
    ...(futureOutputs && { futureOutputs: Float64Array.from(futureOutputs) }),
  };
}

Deno.test("setOwnRules() takes rules in instead of those before, and refuses a name that is taken", () => {
  const rule = RULES.find(({ name }) => name === "mean")!, sha256 = "", count = METHOD_NAMES.length;
  const named = (name: string) => ({ rule: { ...rule, name } as typeof rule, sha256 });
  assertThrows(() => setOwnRules([named("mean")]), RangeError, 'the rule "mean"');
  setOwnRules([named("own")]);
  setOwnRules([named("other")]);
  assertEquals([METHOD_NAMES.length, METHOD_NAMES.at(-1)], [count + 1, "other"]);
  setOwnRules([named("one"), named("two")]);
  assertEquals(METHOD_NAMES.slice(count), ["one", "two"] as string[]);
  assertEquals(ownRules().length, 2);
  assertThrows(() => setOwnRules([named("one"), named("one")]), RangeError, 'the rule "one"');
  assertEquals([METHOD_NAMES.length, ownRules().length], [count, 0]);
  setOwnRules([]);
  assertEquals(METHOD_NAMES.length, count);
});

const keepOf = (sequence: SideSequence, input: LayerView) => sequence.decide(input, 0).keep!.join("");

Deno.test("createPruner() of a rule passes its options on to the model", () => {
  const pruner = createPruner("token-filtering", shape, {
    keyState: "pre-rope",
    cacheSkipped: true,
    recent: 3,
    tail: 0.25,
    pruneRatio: 0.1,
  });
  assertEquals(
    [pruner.needs, pruner.skipped.cached, pruner.spans.recent, pruner.layers],
    [["pre-rope keys"], true, 3, [3]],
  );
  assertEquals(createPruner("token-filtering", shape, { threshold: "topk" }).at, "prefill");
  const learned = createPruner("token-filtering", shape, { fusion: "learned", features: ["query"] });
  assertEquals([learned.needs, learned.at], [["queries", "outputs"], "arrival"]);
  assertEquals(createPruner("token-filtering", shape, { features: ["query"] }).needs, []);
});

Deno.test("createPruner() of a rule gives every chunk random scores of its own", () => {
  const of = (seed: number, chunk: number) => {
    const scores: number[] = [];
    const trace: DecisionTrace = (rows) => scores.push(...rows.redundancy);
    createPruner("token-filtering", shape, { fusion: "random", seed }, { trace }).start(chunk).decide(
      inputOf(1, 9),
      0,
    );
    return scores;
  };
  assert(of(0, 1)[1] !== of(0, 0)[1]);
  assertEquals(of(0, 1), of(1, 0)); // seed + chunk
});

Deno.test("createPruner() of a rule computes on the backend it is given", () => {
  let scans = 0;
  const backend = {
    kvFilterScan: (_spec: unknown, _state: unknown, _input: unknown, _start: number, count: number) => {
      scans += 1;
      return count;
    },
    kvFilterObserve: () => {},
    read: (): never => {
      throw new Error("nothing is to be read");
    },
  };
  const sequence = createPruner("token-filtering", shape, {}, { backend }).start();
  assertEquals(sequence.decide(inputOf(1, 5), 2).keep!.length, 3);
  assertEquals(scans, 1);
});

Deno.test("the oracle skips the tokens whose attention adds least", () => {
  const options = { pruneRatio: 0.5, tail: 1, warmup: 2 };
  const r = [0, 0, 5, 1, 4, 1]; // half of four: tokens 3 and 5
  assertEquals(keepOf(createPruner("oracle", shape, options).start(), inputOf(0, 6, r)), "111010");
  assertEquals(
    keepOf(createPruner("oracle", shape, { ...options, invert: true }).start(), inputOf(0, 6, r)),
    "110101",
  );
  const quarter = createPruner("oracle", shape, { skipRatios: [0, 0.25, 0, 0], warmup: 0 });
  assertEquals(quarter.layers, [1]);
  assertEquals(keepOf(quarter.start(), inputOf(1, 4, [0, 1, 1, 1])), "1011"); // token 0 is kept; the earlier of equals
});

Deno.test("the oracle traces -r as redundancy", () => {
  const seen: number[][] = [];
  const pruner = createPruner("oracle", shape, { tail: 1 }, {
    trace: (rows) => seen.push([...rows.redundancy]),
  });
  pruner.start().decide(inputOf(0, 2, [3, 4]), 0);
  assertEquals(seen, [[-3, -4]]);
});

Deno.test("the oracle refuses what it cannot decide", () => {
  const pruner = createPruner("oracle", shape);
  assertThrows(() => pruner.start().decide(inputOf(0, 2, [1, 2]), 0), RangeError, "expected one of 1, 2, 3");
  assertThrows(
    () => pruner.start().decide(inputOf(1, 2), 0),
    TypeError,
    "found no attention outputs, expected 2",
  );
  assertThrows(
    () => pruner.start().decide(inputOf(1, 2, [1]), 0),
    TypeError,
    "found 1 attention outputs, expected 2",
  );
  assertThrows(() => pruner.start().decide(inputOf(1, 2, [1, NaN]), 0), RangeError, "found NaN for token 1");
  assertThrows(
    () => pruner.start().decide(inputOf(1, 2, [1, 2]), 1),
    RangeError,
    "a whole sequence as one prefill",
  );
  const trunk = pruner.start();
  trunk.decide(inputOf(1, 2, [1, 2]), 0);
  assertThrows(() => trunk.fork().decide(inputOf(1, 2, [1, 2]), 0), RangeError, "tokens decided before");
  trunk.decide(inputOf(2, 2, [1, 2]), 0); // another layer has not begun
  assertThrows(
    () => createPruner("oracle", shape, { pruneRatio: 0.9 }),
    RangeError,
    "Cannot plan a uniform schedule",
  );
});

Deno.test("createReplay() traces the chunk that it was started for, the first where none is named", () => {
  const chunks: number[] = [], keep = new Map([[1, Uint8Array.of(1, 0)]]);
  const replay = createReplay(shape, { keep }, { trace: (_rows, _layer, chunk) => void chunks.push(chunk) });
  for (const sequence of [replay.start(), replay.start(3)]) sequence.decide(inputOf(1, 2), 0);
  assertEquals(chunks, [0, 3]);
});

Deno.test("methods that name their place in a legend have one each", () => {
  const places = METHODS.flatMap(({ looks }: Method) => looks?.place ?? []);
  assertEquals(places.toSorted((a, b) => a - b), Array.from(places.keys()));
  // Those that a plot shows unasked come first in its legend.
  const isMain = Map.groupBy(METHODS as readonly Method[], ({ looks }) => looks?.main ?? true);
  const last = isMain.get(true)!.reduce((most, { looks }) => Math.max(most, looks?.place ?? -1), -1);
  assertEquals(isMain.get(false)!.filter(({ looks }) => (looks!.place ?? Infinity) <= last), []);
});

Deno.test("shuffleDecisions() keeps the fraction of each layer, the warm-up and what was not decided, and mixes the rest", () => {
  const mask = Uint8Array.from({ length: 400 }, (_, t) => t < 200 || t >= 380 ? 1 : 0);
  const masks = new Map([[1, mask], [3, mask]]), plan = { warmup: 20, end: 380 };
  const shuffled = shuffleDecisions(masks, { ...plan, seed: 5n });
  assertEquals(shuffled, shuffleDecisions(masks, { ...plan, seed: 5n }));
  assertEquals([...mask].filter((kept) => kept === 0).length, 180);
  for (const own of shuffled.values()) {
    assertEquals(own.filter((kept) => kept === 0).length, 180);
    assertEquals([...own.subarray(0, 20), ...own.subarray(380)].includes(0), false);
    const early = own.subarray(20, 200).filter((kept) => kept === 0).length; // of 180 places of 360: 90 +- 4.7
    assert(early > 70 && early < 110, `${early}`);
  }
  assert(String(shuffled.get(1)) !== String(shuffled.get(3)));
  assert(String(shuffled.get(1)) !== String(shuffleDecisions(masks, { ...plan, seed: 6n }).get(1)));
  const most = shuffleDecisions(new Map([[1, Uint8Array.of(0, 1, 1)]]), { warmup: 1, seed: 0n });
  assertEquals([...most.get(1)!], [0, 1, 1]);
});

Deno.test("createReplay() gives the masks back, chunk by chunk", () => {
  const keep = new Map([[3, Uint8Array.of(1, 1, 0, 1, 0)], [1, Uint8Array.of(1, 0, 0, 0, 0)]]);
  const pruner = createReplay(shape, { keep, recent: 7, cacheSkipped: true });
  assertEquals([pruner.layers, pruner.spans.recent, pruner.skipped.cached], [[1, 3], 7, true]);
  const sequence = pruner.start();
  assertEquals(keepOf(sequence, inputOf(3, 2)), "11");
  assertEquals(keepOf(sequence, inputOf(1, 2)), "10");
  const branch = sequence.fork();
  assertEquals(keepOf(sequence, inputOf(3, 3)), "010");
  assertEquals(keepOf(branch, inputOf(3, 1)), "0");
  assertThrows(
    () => sequence.decide(inputOf(3, 1), 0),
    RangeError,
    "Cannot replay layer 3: found 5 decisions, expected at least 6",
  );
  assertThrows(
    () => sequence.decide(inputOf(2, 1), 0),
    RangeError,
    "Cannot filter layer 2: expected one of 3, 1",
  );
});

Deno.test("createReplay() refuses masks that are none", () => {
  const make = (layer: number, mask: number[], recent = 0) =>
    createReplay(shape, { keep: new Map([[layer, Uint8Array.from(mask)]]), recent });
  assertThrows(() => make(4, [1]), RangeError, '"layer": found 4, expected an integer from 0 to 3');
  assertThrows(
    () => make(0, [1, 2]),
    RangeError,
    "Cannot replay layer 0: found 2 at token 1, expected 0 or 1",
  );
  assertThrows(() => make(0, [1], -1), RangeError, 'Cannot use "recent": found -1');
  for (const block of [0, 1.5]) {
    const error = `Cannot use "block": found ${block}, expected an integer of at least 1`;
    assertThrows(() => createReplay(shape, { keep: new Map(), block }), RangeError, error);
  }
  const gone = { keep: new Map(), kvKeep: new Map([[0, Uint8Array.of(1, 3)]]) };
  assertThrows(() => createReplay(shape, gone), RangeError, "found 3 at token 1, expected 0 or 1");
  const early = { keep: new Map(), warmup: 0.5 };
  assertThrows(() => createReplay(shape, early), RangeError, 'Cannot use "warmup": found 0.5');
});

Deno.test("createPruner() makes methods by name", () => {
  assertEquals(createPruner("oracle", shape).needs, ["future outputs"]);
  assertEquals(createPruner("token-filtering", shape, { fusion: "oracle" }).name, "oracle");
  const learned = createPruner("learned", shape, { fusion: "key", warmup: 9 });
  assert(learned.needs.includes("outputs") && learned.spans.warmup === 9);
  const pruner = createPruner("token-filtering", shape, { preset: "paper" });
  assert(pruner.name === "token-filtering" && pruner.spans.recent === 0);
  assertThrows(
    () => createPruner("orcale" as MethodName, shape, {}),
    RangeError,
    'Cannot prune by "orcale": no such method, the nearest is "oracle"',
  );
});

Deno.test("labelOptions() says of shuffled decisions that they are", () => {
  const [own, shuffled] = [false, true].map((shuffle) => labelOptions(resolveOptions({ shuffle })));
  assertEquals(own, "no calibration, query-agnostic, prefill and decode, not trained");
  assertEquals(shuffled, `${own}; decisions shuffled in time, a pass ahead`);
  const h2o = labelOptions(resolveOptions({ side: "key", kvFusion: "h2o" }));
  assertEquals(h2o, "no calibration, query-aware, prefill and decode, not trained");
});

Deno.test("createDropped() makes a pruner that leaves parts out", () => {
  assertEquals(createDropped({ numLayers: 8 }, { attention: [3, 5], mlp: [5] }).prepare!.kind, "drop");
});
