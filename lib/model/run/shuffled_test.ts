/** A method's own decisions in another order: as many in every layer, on both sides, and the same run with them replayed. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { judgedTokens } from "../../filter/blocks.ts";
import {
  createPruner,
  createReplay,
  type MethodOptions,
  resolveOptions,
  shuffleDecisions,
} from "../../methods/mod.ts";
import { comparedMethods } from "../../sweep/compare/compared_methods.ts";
import { f32Data } from "../../tensor.ts";
import { Model } from "../model.ts";
import { CONFIG, ids, weights } from "../small_testing.ts";
import { backend } from "../testing.ts";

const model = new Model(CONFIG, weights, backend), COUNT = 120;
const plan = { warmup: 16, tail: 1, recent: 4, block: 8, pruneRatio: 0.4, kvRatio: 0.5 } as const;

function run(options: MethodOptions) {
  const pruner = createPruner("token-filtering", CONFIG, { ...plan, ...options }, { backend });
  const sequence = model.start(pruner), rows = [...f32Data(sequence.feed(ids(COUNT)))];
  return { pruner, rows, keep: sequence.keep, kvKeep: sequence.kvKeep, usage: sequence.usage() };
}

const gone = (masks: ReadonlyMap<number, Uint8Array>) =>
  [...masks].map(([layer, mask]) => [layer, mask.filter((kept) => kept === 0).length]);

for (
  const options of [{ fusion: "variance" }, { side: "key", fusion: "key" }, {
    kvFusion: "mean",
  }] as MethodOptions[]
) {
  Deno.test(`${JSON.stringify(options)} shuffled: as many in each layer, of other tokens, as a replay of the first run's`, () => {
    const own = run(options), shuffled = run({ ...options, shuffle: true, seed: 3 });
    assertEquals([gone(shuffled.keep), gone(shuffled.kvKeep)], [gone(own.keep), gone(own.kvKeep)]);
    assert(String([...shuffled.keep, ...shuffled.kvKeep]) !== String([...own.keep, ...own.kvKeep]));
    const { keySide, spans, skipped: { cached: cacheSkipped } } = own.pruner,
      seed = 3n,
      { warmup, recent, block } = plan;
    const end = keySide && judgedTokens(COUNT, spans);
    const replay = createReplay(CONFIG, {
      ...{ warmup, recent, block, cacheSkipped, keep: shuffleDecisions(own.keep, { warmup, seed }) },
      kvKeep: shuffleDecisions(own.kvKeep, { warmup, end, seed }),
    });
    const again = model.start(replay), rows = f32Data(again.feed(ids(COUNT)));
    assertEquals(rows.findIndex((x, i) => x !== shuffled.rows[i]), -1);
    assertEquals(again.usage(), shuffled.usage);
    const other = run({ ...options, shuffle: true, seed: 4 });
    assert(other.rows.at(-1) !== shuffled.rows.at(-1));
    assertEquals(shuffled.usage.queriesSkipped, own.usage.queriesSkipped);
  });
}

Deno.test("shuffled decisions are non-causal, start where dense layers end, and are refused where there are none", () => {
  const pruner = createPruner("token-filtering", CONFIG, {
    ...plan,
    tail: 0.33,
    pruneRatio: 0.2,
    shuffle: true,
  }, { backend });
  assertEquals([pruner.at, pruner.layers], ["prefill", [2]]);
  const below = model.start(pruner).feedResidual(model.residualAt(ids(COUNT), 2), 2);
  const whole = f32Data(model.start(pruner).feed(ids(COUNT)));
  assertEquals(f32Data(below).findIndex((x, i) => x !== whole[i]), -1);
  const sequence = model.start(pruner);
  sequence.feed(ids(30));
  assertThrows(() => sequence.feed(ids(5)), RangeError, "expected one prefill");
  assertThrows(
    () => run({ side: "key", kvFusion: "h2o", shuffle: true }),
    RangeError,
    "Cannot shuffle the decisions",
  );
  assertThrows(() => resolveOptions({ fusion: "sleb", shuffle: true }), RangeError, "decides no token");
});

Deno.test("compared as a control, they come with every method that has an order", () => {
  const names = comparedMethods(["variance", "keys", "h2o", "flap", "random", "shuffled"], {}, 2);
  const shuffled = names.filter(({ options }) => options.shuffle);
  assertEquals([...new Set(shuffled.map(({ name }) => name))], [
    "shuffled",
    "shuffled for keys",
  ]);
  assertEquals(shuffled.map(({ options }) => options.seed), [0n, 1n, 0n, 1n]);
  assert(names.every(({ name, options }) => options.shuffle === name.startsWith("shuffled")));
});
