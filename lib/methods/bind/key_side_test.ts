import { assert, assertAlmostEquals, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { makeSpec, makeStream } from "../../filter/testing.ts";
import { createLayerState } from "../../filter/layer.ts";
import { RowToken } from "../../filter/rule.ts";
import { rowsOf } from "../../tensor.ts";
import {
  createCustomRule,
  createPruner,
  filteredLayers,
  isRule,
  KEY_RULE_NAMES,
  KEY_RULES,
  keyMethodOf,
  type KeySequence,
  type KeySide,
  type MethodOptions,
  type PrunerContext,
  SIGNALS,
  takesWhole,
  TokenFilter,
} from "../mod.ts";

const COUNT = 400, WARMUP = 32;
const shape = { numLayers: 3, numHeads: 4, numKvHeads: 2, headDim: 8, hiddenSize: 16 };
const streams = [0, 1, 2].map((seed) => makeStream(seed, { count: COUNT, ...shape, drift: 0.5, noise: 1.5 }));

const keySideOf = (options: MethodOptions, context?: PrunerContext): KeySide =>
  createPruner("token-filtering", shape, { side: "key", tail: 2 / 3, pruneRatio: 0.4, ...options }, context)
    .keySide!;

/** Block and window with which a token is decided as soon as the next one comes, behind the warm-up. */
const AT_ONCE = { block: 1, recent: 0 } as const;

/** All decisions of a layer, taken in pieces that end at the given tokens; attention is made up. */
function decide(
  sequence: KeySequence,
  layer: number,
  ends: readonly number[],
  from = 0,
  stream = streams[layer]!,
) {
  return ends.flatMap((end) => {
    const count = end - from, judged = from < WARMUP ? 0 : from;
    const rows = { keys: rowsOf(stream.keys, from, end), values: rowsOf(stream.values, from, end) };
    const { keep } = sequence.decide({ layer, count, ...rows }, 0);
    from = end;
    if (keep !== undefined) return [...keep];
    return end < WARMUP ? [] : judge(sequence, layer, judged, stream.outputNorms.slice(judged, end));
  });
}

/** Decides tokens from one on by made-up attention of a query behind them. */
function judge(sequence: KeySequence, layer: number, from: number, attention: Float64Array): number[] {
  const end = from + attention.length;
  const rows = Object.fromEntries(SIGNALS.map((name) => [name, attention]));
  const keys = Int32Array.from(attention, (_, i) => from + i);
  sequence.observe!(layer, { positions: Int32Array.of(end), keys, rows });
  const { drop } = sequence.judge!(layer, end);
  return Array.from(attention, (_, i) => drop!.includes(from + i) ? 0 : 1);
}

for (const kvFusion of KEY_RULE_NAMES.filter((name) => isRule(keyMethodOf(name)))) {
  Deno.test(`${kvFusion} on the key side: its ratio, its warm-up, any chunks, forks, causal`, () => {
    for (
      const more of [{}, { invert: true }, { threshold: "window" }, { threshold: "robbins-monro" }] as const
    ) {
      const side = keySideOf({ kvFusion, ...AT_ONCE, ...more });
      assertEquals(side.layers, [1, 2]);
      const whole = decide(side.start(), 2, [COUNT]);
      assertEquals(whole.slice(0, WARMUP), Array(WARMUP).fill(1));
      const share = whole.filter((kept) => kept === 0).length / (COUNT - WARMUP);
      assert(Math.abs(share - 0.6) < 0.07, `dropped ${share}`); // 0.4 of three layers, by two
      assertEquals(decide(side.start(), 2, Array.from({ length: COUNT }, (_, t) => t + 1)), whole);
      const trunk = side.start();
      assertEquals(decide(trunk, 2, [7, 200]), whole.slice(0, 200));
      const branch = trunk.fork();
      assertEquals(decide(branch, 2, [COUNT], 200), whole.slice(200));
      decide(branch.fork(), 2, [COUNT], 0, streams[0]);
      assertEquals(decide(trunk, 2, [300, COUNT], 200), whole.slice(200));
      assertEquals(decide(side.start(), 1, [COUNT]).length, COUNT); // a layer has its own state
    }
  });
}

/** The random rule of queries, as a key side. */
const openRandom = (seed: bigint): KeySequence => {
  const filter = new TokenFilter(shape, { fusion: "random", seed, pruneRatio: 0.4, tail: 2 / 3 }).start();
  return {
    decide: ({ layer, keys, values }) => ({ keep: filter.scan(layer, keys, values).keep }),
    fork: () => openRandom(seed),
  };
};

Deno.test("key side: a rule decides as it does queries, with random drawn apart", () => {
  const plan = { pruneRatio: 0.4, tail: 2 / 3 };
  for (const fusion of ["variance", "random", "min"] as const) {
    const scan = (seed: bigint) => {
      const filter = new TokenFilter(shape, { ...plan, fusion, seed });
      return [...filter.start({ chunk: 3 }).scan(1, streams[1]!.keys, streams[1]!.values).keep];
    };
    const side = decide(keySideOf({ fusion, seed: 5 }).start(3), 1, [COUNT]);
    assertEquals(side, scan(1_000_008n));
    assertEquals(fusion === "random", String(side) !== String(scan(5n)));
    const filter = new TokenFilter(shape, { ...plan, fusion, seed: 5, side: "key" });
    assertEquals([...filter.start({ chunk: 3 }).scan(1, streams[1]!.keys, streams[1]!.values).keep], side);
  }
  const of = (seed: bigint) => decide(keySideOf({ fusion: "random", seed }).start(), 1, [COUNT]);
  assertEquals(of(2n ** 64n - 1_000_003n), decide(openRandom(0n), 1, [COUNT])); // seeds go round
});

Deno.test("key side: attention decides by thresholds alone, the least of it goes", () => {
  const seen: number[] = [];
  const trace: PrunerContext["keyTrace"] = ({ redundancy, threshold, keep }, layer, chunk) => {
    seen.push(layer, chunk, ...redundancy, ...threshold, ...keep);
  };
  const options = { kvFusion: "received", warmup: 2, threshold: "fixed", theta: -0.2, ...AT_ONCE } as const;
  const judged = (more: MethodOptions) => {
    const sequence = keySideOf({ ...options, ...more }, { keyTrace: trace }).start(4);
    return judge(sequence, 1, 0, Float64Array.of(0.1, 0.3, 0.3, 0.1));
  };
  assertEquals(judged({}), [1, 1, 1, 0]);
  assertEquals(seen.splice(0), [1, 4, -0.1, -0.3, -0.3, -0.1, -0.2, -0.2, -0.2, -0.2, 1, 1, 1, 0]);
  assertEquals(judged({ invert: true, theta: 0.2 }), [1, 1, 0, 1]);
  assertEquals(seen.slice(2, 6), [0.1, 0.3, 0.3, 0.1]);
});

Deno.test("key side: what a pruner with one says", () => {
  const keys = createPruner("token-filtering", shape, { preset: "keys", keyState: "pre-rope", block: 16 });
  const { start: _, specs, ...side } = keys.keySide!;
  assertEquals(specs?.map(({ layer, skipRatio }) => [layer, skipRatio]), [[0, 0.5], [1, 0.5], [2, 0.5]]);
  assertEquals(side, { layers: [0, 1, 2], needs: ["pre-rope keys"], at: "arrival" });
  const { start: __, keySide: ___, ...rest } = keys;
  assertEquals(rest, {
    name: "token-filtering",
    layers: [],
    needs: ["pre-rope keys"],
    at: "arrival",
    spans: { warmup: 64, block: 16, recent: 32 },
    skipped: { cached: true },
  });
  const both = createPruner("learned", shape, {
    kvFusion: "received",
    kvTail: 0.3,
    pruneRatio: 0.1,
    tail: 0.3,
  });
  assertEquals([both.layers, both.keySide!.layers, both.needs], [[2], [2], ["outputs"]]);
  const ask = { rows: [], keys: ["attention"], last: Infinity, undecided: true, distance: 1 };
  assertEquals([both.keySide!.needs, both.keySide!.at], [[], "block"]);
  assertEquals([...both.keySide!.asks!], [[2, ask]]);
  assert(both.skipped.cached);
  assertEquals(filteredLayers(createPruner("key", shape, { kvFusion: "key", tail: 0.6, kvTail: 1 })), [
    0,
    1,
    2,
  ]);
  const ahead = createPruner("token-filtering", shape, { side: "key", threshold: "topk" });
  assertEquals([takesWhole(ahead), ahead.keySide!.at], [true, "prefill"]);
  const oracle = createPruner("oracle", shape, { kvFusion: "key", threshold: "topk" });
  assertEquals([oracle.name, oracle.at, oracle.needs], ["oracle", "prefill", ["future outputs"]]);
  for (
    const [options, cached] of [[{}, false], [{ side: "query" }, true], [
      { cacheSkipped: true },
      true,
    ]] as const
  ) {
    const pruner = createPruner("token-filtering", shape, options);
    assertEquals([pruner.skipped.cached, pruner.keySide], [cached, undefined]);
  }
  assertThrows(
    () => createPruner("token-filtering", shape, { side: "key", tail: 0.3 }),
    RangeError,
    "needs a skip ratio of 1.5",
  );
});

Deno.test("key side: an unreachable plan is refused by the key side's own options", () => {
  const refused = assertThrows(
    () => createPruner("token-filtering", shape, { preset: "keys", kvRatio: 0.9, kvTail: 0.5 }),
    RangeError,
    "Cannot plan a uniform schedule of keys and values: layer 2 needs a skip ratio of 1.35, expected at most 1: use a kvTail",
  );
  assertStringIncludes(refused.message, "or a kvRatio of at most 0.6666");
  assertEquals(/pruneRatio| tail/.test(refused.message), false);
});

Deno.test("createCustomRule() takes a key side of the list beside its own rule, not in its place", () => {
  const pruner = createCustomRule(shape, () => 0, { kvFusion: "knorm", pruneRatio: 0.2 });
  assertEquals([pruner.name, pruner.layers.length, pruner.keySide!.layers.length], ["scored", 3, 3]);
  const alone = { kvFusion: "knorm", pruneRatio: 0 } as const;
  assertThrows(() => createCustomRule(shape, () => 0, alone), RangeError, "expected a pruneRatio above 0");
});

Deno.test("rules of the key side score hand-made keys and values", () => {
  const score = (name: string, rows: [number[], number[]][]) => {
    const rule = KEY_RULES.find((rule) => rule.name === name)!;
    const spec = { ...makeSpec({ numKvHeads: 1, headDim: 2 }), rule, reads: ["key", "value"] as const };
    const state = createLayerState(spec as never);
    const scorer = "memory" in rule ? rule.memory!.open(spec as never, state) : undefined;
    return rows.map(([key, value], t) => {
      const view = (x: number[]) => ({ data: Float32Array.from(x), width: 2 });
      const token = Object.assign(new RowToken(spec as never, t, { key: view(key), value: view(value) }), {
        attention: 0.25,
        distant: 0.5,
        change: 0.75,
      });
      return scorer?.score(token) ?? ("score" in rule ? rule.score!(token, spec as never) : NaN);
    });
  };
  const rows: [number[], number[]][] = [[[3, 4], [0, 2]], [[0, 0], [1, 0]], [[4, -3], [6, 8]], [[3, 4], [
    0,
    0,
  ]]];
  assertEquals(score("knorm", rows), [5, 0, 5, 5]);
  assertEquals(score("cur", rows).map((x) => x + 0), [-10, 0, -50, 0]);
  assertEquals(score("received", rows), [-0.25, -0.25, -0.25, -0.25]);
  assertEquals(score("leave-one-out", rows), [-0.75, -0.75, -0.75, -0.75]);
  // Means so far: [0, 2], [0.5, 1], [7/3, 10/3], [7/4, 10/4].
  const missed = [0, Math.hypot(0.5, 1) / 2, Math.hypot(11 / 3, 14 / 3) / 2, Math.hypot(7 / 4, 10 / 4) / 2];
  score("missed", rows).forEach((own, t) => assertAlmostEquals(own, -missed[t]!, 1e-12));
  const [first, none, second, third] = score("keydiff", rows) as [number, number, number, number];
  assertAlmostEquals(first, 1, 1e-12);
  assertEquals(none, 0);
  assertAlmostEquals(second, Math.SQRT1_2, 1e-7); // half-way between two that are at right angles
  assertAlmostEquals(third, 2 / Math.sqrt(5), 1e-7);
  const [one, opposite] = score("keydiff", [[[1, 0], [0, 0]], [[-2, 0], [0, 0]]]);
  assertEquals([one, opposite], [1, 0]); // their mean has no direction
});
