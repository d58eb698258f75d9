/** Methods that alter a model: removed parts act as if their weights were 0, and the remaining cost is counted. */
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { collectUntil } from "../../../ffi/collector_testing.ts";
import { attentionFlops, mlpFlops } from "../../cost.ts";
import {
  type Alteration,
  type Calibration,
  createPruner,
  definePruner,
  type MethodOptions,
  OFFLINE,
  preparationOf,
  type Pruner,
  setCalibration,
} from "../../methods/mod.ts";
import { reachOf } from "../../eval/filter_reach.ts";
import { f32Data, type HostTensor, hostTensor, type Tensor } from "../../tensor.ts";
import { toBf16 } from "../../math/half.ts";
import { asF32 } from "../formats/_file_tensor.ts";
import { Model } from "../model.ts";
import { CONFIG, ids, randomWeights } from "../small_testing.ts";
import { backend } from "../testing.ts";

const config = { ...CONFIG, numLayers: 4 }, weights = randomWeights(config);
const model = new Model(config, weights, backend), COUNT = 48;
const calibration: Calibration = { domain: "other", sha256: "none", chunks: [ids(40), ids(30, 3)] };

const altering = (alteration: Alteration, key = "test"): Pruner => ({
  ...definePruner({ name: "test", layers: [], start: () => ({ decide: fail, fork: fail }) }),
  prepare: { kind: "alter", key, calibration, alter: () => alteration },
});
const fail = (): never => {
  throw new Error("nothing is decided");
};

function run(own: Model, pruner?: Pruner, feeds: readonly number[] = [COUNT]) {
  const sequence = own.start(pruner);
  let at = 0;
  const rows = feeds.flatMap((count) => [...f32Data(sequence.feed(ids(COUNT).slice(at, at += count)))]);
  return { rows, usage: sequence.usage() };
}

/** A matrix without some columns' values. */
function without(tensor: HostTensor, gone: readonly number[]): HostTensor {
  const values = asF32(tensor).slice(), width = tensor.shape[1]!;
  for (let row = 0; row < tensor.shape[0]!; row++) gone.forEach((column) => values[row * width + column] = 0);
  return hostTensor("f32", tensor.shape, values);
}

Deno.test("heads and channels left out are as if their outputs were 0, and are not paid for", () => {
  const { headDim, numHeads, numKvHeads, intermediateSize, hiddenSize } = config;
  const width = numHeads / numKvHeads * headDim, goneChannels = [0, 5, 95];
  const channels = Array.from({ length: intermediateSize }, (_, i) => i).filter((i) =>
    !goneChannels.includes(i)
  );
  const bias = (scale: number) =>
    hostTensor("f32", [hiddenSize], Float32Array.from({ length: hiddenSize }, (_, i) => i / scale));
  const oBias = bias(100), downBias = bias(-70);
  const pruner = altering({
    layers: [{}, { groups: [1], tensors: { oBias } }, { channels, tensors: { downBias } }, {}],
  });
  const first = Array.from({ length: width }, (_, i) => i);
  const zeroed = new Model(config, {
    ...weights,
    layers: weights.layers.map((own, layer): Record<string, Tensor> => ({
      ...own,
      ...(layer === 1 && { o: without(own.o, first), oBias }),
      ...(layer === 2 && { down: without(own.down, goneChannels), downBias }),
    })) as never,
  }, backend);
  const want = run(zeroed), own = run(model, pruner), dense = run(model);
  own.rows.forEach((x, i) => assertAlmostEquals(x, want.rows[i]!, 2e-3));
  assert(own.rows.some((x, i) => Math.abs(x - dense.rows[i]!) > 0.1));
  for (const feeds of [Array<number>(COUNT).fill(1), [7, 1, 40]]) {
    run(model, pruner, feeds).rows.forEach((x, i) => assertAlmostEquals(x, own.rows[i]!, 2e-3));
  }
  const { usage } = own, one = { tokens: COUNT, queried: COUNT, kept: COUNT, pairs: COUNT * (COUNT + 1) / 2 };
  const half = { ...config, numHeads: numHeads / 2, numKvHeads: numKvHeads / 2 };
  assertEquals(usage.attentionFlopsAvoided, attentionFlops(config, one) - attentionFlops(half, one));
  assertEquals(usage.pairsAvoided, one.pairs / 2);
  assertEquals(usage.kvBytesAvoided, COUNT * 2 * 4 * headDim);
  assertEquals(
    usage.totalFlopsAvoided - usage.attentionFlopsAvoided,
    mlpFlops({ ...config, intermediateSize: 3 }, COUNT),
  );
  const heads = hiddenSize * headDim * (numHeads + numKvHeads);
  assertEquals(usage.parametersAvoided, heads + 3 * 3 * hiddenSize - 2 * hiddenSize);
  const { usage: full } = dense;
  assertEquals([full.parametersAvoided, full.parametersDense], [0, usage.parametersDense]);
  assertEquals(usage.pairsDense, full.pairsDense);
  assertEquals(usage.attentionFlopsDense, full.attentionFlopsDense);
  assertEquals(usage.totalFlopsDense, full.totalFlopsDense);
});

Deno.test("columns of a matrix whose values float16 does not hold are refused, not made infinite", () => {
  const { down } = weights.layers[0]!, values = asF32(down).slice();
  values[5] = 2 ** 17;
  const wide = hostTensor("bf16", down.shape, Uint16Array.from(values, toBf16));
  const layers = weights.layers.map((own, layer) => layer === 0 ? { ...own, down: wide } : own);
  const pruner = altering({ layers: [{ channels: [5, 6] }, {}, {}, {}] }, "wide");
  const start = () => new Model(config, { ...weights, layers }, backend).start(pruner);
  assertThrows(start, RangeError, "found a value of 131072, expected a float16");
});

Deno.test("a model is altered once for all pruners of one key, and every scored position is reached", async () => {
  let count = 0;
  const pruner = (): Pruner => {
    const own = altering({}, "once");
    const prepare = preparationOf(own, "alter")!;
    return { ...own, prepare: { ...prepare, alter: () => (count++, { drops: { mlp: [1] } }) } };
  };
  const all = [pruner(), pruner()];
  assertEquals(run(model, all[0]).rows, run(model, all[1]).rows);
  assertEquals(count, 1);
  // The model lives as long as a pruner that asked for it.
  let isCollected = false;
  const others = new FinalizationRegistry(() => isCollected = true);
  others.register({}, undefined);
  await collectUntil(() => isCollected);
  run(model, all[0]);
  assertEquals(count, 1);
  assertEquals(
    run(model, all[0]).usage.parametersAvoided,
    config.hiddenSize * (3 * config.intermediateSize + 1),
  );
  const { positions, ownFiltered, ownSkips } = reachOf(config, all[0]!, { keep: new Map() }, 2, 7);
  assertEquals([positions, ownFiltered, ownSkips], [5, 5, 20]);
});

const pruners = (name: (typeof OFFLINE)[number]["name"], options: MethodOptions = {}) =>
  createPruner(name, config, options, { calibration });

for (const { name } of OFFLINE) {
  Deno.test(`${name}: deterministic, fork-safe, causal, and a ratio of 0 is the full model, bit for bit`, () => {
    const own = run(model, pruners(name, { pruneRatio: 0.5 })), dense = run(model);
    assertEquals(run(model, pruners(name, { pruneRatio: 0.5, seed: 1 })).rows, own.rows);
    const none = run(model, pruners(name, { pruneRatio: 0 }));
    assertEquals(none.rows, dense.rows);
    const { kvBytesAllocated: _, ...usage } = dense.usage, { kvBytesAllocated: __, ...nothing } = none.usage;
    assertEquals(nothing, usage);
    const trunk = model.start(pruners(name, { pruneRatio: 0.5 })), { hiddenSize } = config;
    const head = f32Data(trunk.feed(ids(COUNT).slice(0, 20)));
    head.forEach((x, i) => assertAlmostEquals(x, own.rows[i]!, 2e-3));
    const branch = trunk.fork();
    branch.feed(ids(9, 5));
    f32Data(trunk.feed(ids(COUNT).slice(20))).forEach((x, i) =>
      assertAlmostEquals(x, own.rows[20 * hiddenSize + i]!, 2e-3)
    );
  });
}

Deno.test("the drops leave out the requested ratio of layers", () => {
  const { numLayers } = config, half = { pruneRatio: 0.5 };
  const whole = run(model).usage;
  for (const name of ["attention-drop", "shortgpt", "sleb"] as const) {
    assertEquals(run(model, pruners(name, half)).usage.queriesSkipped, whole.queriesDense / 2);
  }
  const { totalFlopsAvoided } = run(model, pruners("mlp-drop", half)).usage;
  assertEquals(totalFlopsAvoided, numLayers / 2 * mlpFlops(config, COUNT));
});

Deno.test("the width methods leave out the requested ratio of the blocks' parameters", () => {
  const fine = { ...config, numHeads: 32, numKvHeads: 16, headDim: 2 };
  const narrow = new Model(fine, randomWeights(fine), backend);
  for (const name of ["flap", "wanda-sp"] as const) {
    for (const pruneRatio of [0.25, 0.5]) {
      const own = createPruner(name, fine, { pruneRatio }, { calibration });
      const { parametersAvoided } = run(narrow, own).usage,
        ofBlock = 64 * 2 * (2 * 32 + 2 * 16) + 3 * 64 * 96;
      const biases = name === "flap" ? 4 * 2 * 64 : 0, share = (parametersAvoided + biases) / (4 * ofBlock);
      assert(Math.abs(share - pruneRatio) < 0.01, `${name}: ${share}`);
    }
  }
});

Deno.test("where KV heads are few, channels make up for the fraction that whole heads cannot", () => {
  const block = 64 * 32 * (2 * 4 + 2 * 2) + 3 * 64 * 96;
  for (const pruneRatio of [0.2, 0.4]) {
    const { parametersAvoided, kvBytesAvoided } = run(model, pruners("wanda-sp", { pruneRatio })).usage;
    assertEquals(kvBytesAvoided, 0);
    assert(Math.abs(parametersAvoided / (4 * block) - pruneRatio) < 0.01, `${parametersAvoided}`);
  }
});

Deno.test("probe-pruning leaves out, behind the warm-up, the channels that weighed least there", () => {
  const one = { ...config, numLayers: 1 }, { intermediateSize, hiddenSize } = config, warmup = 16;
  const layers = weights.layers.slice(0, 1), single = new Model(one, { ...weights, layers }, backend);
  const squares = new Float64Array(intermediateSize), down = asF32(layers[0]!.down);
  single.start(undefined, {
    see(_, name, x) {
      if (name !== "down") return;
      f32Data(x).forEach((value, i) =>
        i < warmup * intermediateSize && (squares[i % intermediateSize]! += value ** 2)
      );
    },
  }).feed(ids(COUNT));
  const scores = Array.from(squares, (square, j) => {
    const column = Array.from({ length: hiddenSize }, (_, row) => down[row * intermediateSize + j]!);
    return square * Math.hypot(...column.map((x) => x * x));
  });
  const gone = scores.map((_, j) => j).sort((a, b) => scores[a]! - scores[b]!).slice(0, intermediateSize / 2);
  const cut = { ...layers[0]!, down: without(layers[0]!.down, gone) };
  const want = run(new Model(one, { ...weights, layers: [cut] }, backend)), dense = run(single);
  for (const feeds of [[COUNT], [7, 1, 40]]) {
    const own = run(single, createPruner("probe-pruning", one, { pruneRatio: 0.5, warmup }), feeds);
    own.rows.forEach((x, i) => {
      const { rows } = i < warmup * hiddenSize ? dense : want;
      assertAlmostEquals(x, rows[i]!, 2e-3);
    });
    const half = mlpFlops({ ...one, intermediateSize: intermediateSize / 2 }, COUNT - warmup);
    assertEquals([own.usage.totalFlopsAvoided, own.usage.parametersAvoided], [half, 0]);
  }
  // A branch in the warm-up has seen what its trunk has.
  const trunk = single.start(createPruner("probe-pruning", one, { pruneRatio: 0.5, warmup }));
  trunk.feed(ids(COUNT).slice(0, 7));
  const branch = trunk.fork();
  branch.feed(ids(COUNT).slice(7, warmup));
  f32Data(branch.feed(ids(COUNT).slice(warmup))).forEach((x, i) =>
    assertAlmostEquals(x, want.rows[warmup * hiddenSize + i]!, 2e-3)
  );
  const reach = reachOf(config, pruners("probe-pruning", { warmup: 12 }), { keep: new Map() }, 10, 15);
  assertEquals([reach.positions, reach.ownFiltered, reach.ownSkips], [5, 3, 12]);
  assertThrows(() => pruners("probe-pruning", { warmup: 2 }), RangeError, "expected at least 4");
});

Deno.test("without a calibration text they are refused, and no key side goes with them", () => {
  const refused = () => createPruner("shortgpt", config);
  assertThrows(refused, RangeError, 'Cannot prune by "shortgpt" without a calibration text');
  setCalibration(calibration);
  refused();
  setCalibration(undefined);
  const both = { kvFusion: "knorm" } as const;
  assertThrows(() => pruners("sleb", both), RangeError, 'expected same since "sleb" alters the model');
});
