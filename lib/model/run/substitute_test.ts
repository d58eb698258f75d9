/** Substitutes of skipped outputs: the keys of local queries, the added output, the learned outcomes, and the cost. */
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import type { AttentionArgs, Backend } from "../../backend.ts";
import {
  createCustomRule,
  createPruner,
  createReplay,
  type MethodOptions,
  type Outcomes,
  type Pruner,
} from "../../methods/mod.ts";
import { f32Data, hostData, type Tensor } from "../../tensor.ts";
import { batchUnsupportedReason } from "./batch/batch_decoder.ts";
import { Model } from "../model.ts";
import { OutputMemory } from "./cache/output_memory.ts";
import { CONFIG as config, ids, weights } from "../small_testing.ts";
import { backend, patternPruner } from "../testing.ts";
import { LayerTally } from "./usage.ts";

const small = (numLayers: number, on: Backend = backend) =>
  new Model({ ...config, numLayers }, weights as never, on);
const model = small(2), COUNT = 70;
const FEEDS = [[COUNT], Array<number>(COUNT).fill(1), [5, 1, 3, 40, 21]];
const local = (sinks: number) => ({ kind: "local", sinks, block: 8 }) as const;

Deno.test("OutputMemory gives the last output, or the mean of earlier blocks without the first four tokens", () => {
  const outputs = (...values: number[]) => Float32Array.from(values.flatMap((x) => [x, 2 * x]));
  const firsts = (rows: Float32Array) => [...rows].filter((_, i) => i % 2 === 0);
  const last = new OutputMemory("last", { warmup: 2, block: 4 }, 2);
  const a = last.take(0, Uint8Array.of(0, 1, 0, 0, 1), outputs(3, 7));
  assertEquals([...a.substitutes], [0, 0, 3, 6, 3, 6]);
  assertEquals([...a.errors].map((x) => x / Math.sqrt(5)), [3, 4]);
  const branch = last.clone();
  assertEquals(firsts(branch.take(5, Uint8Array.of(1, 0), outputs(9)).substitutes), [9]);
  assertEquals(firsts(last.take(5, Uint8Array.of(0), outputs()).substitutes), [7]);

  // Blocks 0-1, 2-3, 4-7, 8-11: the first output that counts is token 4's, and it is known from 8 on.
  const keep = Uint8Array.of(1, 1, 1, 0, 1, 0, 1, 0, 0, 1, 0, 0, 0);
  for (const cuts of [[13], [1, 5, 8, 9, 12, 13], Array.from({ length: 13 }, (_, i) => i + 1)]) {
    let mean = new OutputMemory("mean", { warmup: 2, block: 4 }, 2), at = 0, row = 0;
    const substitutes: number[] = [], errors: number[] = [];
    for (const end of cuts) {
      const part = keep.slice(at, end), kept = part.filter((x) => x === 1).length;
      const all = [100, 100, 100, 2, 6, 13];
      const got = mean.take(at, part, outputs(...all.slice(row, row + kept)));
      substitutes.push(...firsts(got.substitutes));
      errors.push(...got.errors.map((x) => x / Math.sqrt(5)));
      [at, row, mean] = [end, row + kept, mean.clone()];
    }
    assertEquals(substitutes, [0, 0, 0, 4, 4, 4, 7]);
    errors.forEach((x, i) => assertAlmostEquals(x, [100, 100, 100, 2, 6, 9][i]!, 1e-12));
  }
});

/** A model of one layer whose backend records the keys of each query, and the output of the attention block. */
function watchedModel() {
  const seen = new Map<number, number[]>(), added: Float32Array[] = [];
  const list = (tensor: Tensor) => [...hostData(tensor)] as number[];
  const watched: Backend = Object.assign(Object.create(backend), {
    attention(args: AttentionArgs) {
      const keys = list(args.keyPositions).slice(0, args.numKeys),
        windows = args.windows && list(args.windows);
      const recent = list(args.recentPositions).slice(0, args.numRecent);
      for (const [row, p] of list(args.queryPositions).entries()) {
        const w = windows?.[row] ?? -1;
        const cached = keys.filter((j) => j <= p && (w < 0 || p - j <= w || j < (args.sinks ?? 0)));
        const others = recent.filter((j) => j <= p && p - j <= args.recent);
        seen.set(p, [...cached, ...others].sort((a, b) => a - b));
      }
      backend.attention(args);
    },
    add(x: Tensor, delta: Tensor) {
      added.push(f32Data(delta).slice());
      backend.add(x, delta);
    },
    addRmsNorm(x: Tensor, delta: Tensor, ...rest: [Tensor, number, Tensor]) {
      added.push(f32Data(delta).slice());
      backend.addRmsNorm(x, delta, ...rest);
    },
  });
  return { model: small(1, watched), seen, added };
}

Deno.test("local queries see the sinks and the recent window, kept or not; full ones what they saw before", () => {
  const keeps = (t: number) => t < 6 || t % 3 === 0, recent = 5, sinks = 2;
  for (const cacheSkipped of [false, true]) {
    const more = { recent, cacheSkipped, substitute: local(sinks) };
    for (const feeds of FEEDS) {
      const { model, seen } = watchedModel(), sequence = model.start(patternPruner([0], keeps, more));
      let at = 0;
      for (const count of feeds) sequence.feed(ids(COUNT).slice(at, at += count));
      for (let p = 0; p < COUNT; p++) {
        const near = (t: number) => p - t <= recent;
        const want = Array.from({ length: p + 1 }, (_, t) => t)
          .filter((t) => keeps(p) ? cacheSkipped || keeps(t) || near(t) : t < sinks || near(t));
        assertEquals(seen.get(p), want, `query ${p}`);
      }
    }
  }
});

Deno.test("a method is given how far full outputs are from local ones, where that counts", () => {
  const recent = 5, sinks = 2, first = recent + sinks + 8;
  const run = (pruner: Pruner) => {
    const { model, added } = watchedModel();
    model.start(pruner).feed(ids(COUNT));
    return added[0]!;
  };
  const more = { recent, cacheSkipped: true, substitute: local(sinks) };
  const full = run(patternPruner([0], () => true, more)), near = run(patternPruner([0], () => false, more));
  const width = config.hiddenSize, keeps = (t: number) => t % 4 !== 1;
  const want = Array.from({ length: COUNT }, (_, t) => t).filter(keeps).map((t) =>
    t < first
      ? 0
      : Math.hypot(...Array.from({ length: width }, (_, a) => full[t * width + a]! - near[t * width + a]!))
  );
  for (const piece of [COUNT, 9, 1]) {
    const errors: number[] = [],
      norms: number[] = [],
      pruner = patternPruner([0], keeps, {
        ...more,
        needs: ["outputs"],
      });
    const watching = {
      ...pruner,
      start: () => ({
        ...pruner.start(),
        observe(_: number, { outputNorms, residualNorms }: Outcomes) {
          errors.push(...outputNorms);
          norms.push(...residualNorms);
        },
      }),
    };
    const sequence = small(1).start(watching);
    for (let at = 0; at < COUNT; at += piece) sequence.feed(ids(COUNT).slice(at, at + piece));
    assertEquals(errors.length, want.length);
    errors.forEach((x, i) => assertAlmostEquals(x, want[i]!, 1e-4));
    assert(errors.at(-1)! > 0.01 && norms.every((x) => x > 0));
  }
});

Deno.test("skipped tokens get the last or the mean output, and computed ones tell how far theirs is from it", () => {
  const keeps = (t: number) => t < 8 || t % 3 === 0, width = config.hiddenSize;
  const residual = small(1).embed(ids(COUNT));
  for (const kind of ["last", "mean"] as const) {
    const errors: number[] = [];
    const pruner = patternPruner([0], keeps, {
      cacheSkipped: true,
      substitute: { kind, sinks: 0, block: 8 },
      warmup: 8,
      needs: ["outputs"],
    });
    const watching = {
      ...pruner,
      start: () => ({
        ...pruner.start(),
        observe: (_: number, seen: Outcomes) => void errors.push(...seen.outputNorms),
      }),
    };
    let after: Float32Array | undefined;
    const watched: Backend = Object.assign(Object.create(backend), {
      rmsNorm(...args: Parameters<Backend["rmsNorm"]>) {
        if (args[1] === weights.layers[0]!.ffnNorm) after = f32Data(args[0]).slice();
        backend.rmsNorm(...args);
      },
    });
    small(1, watched).start(watching).feed(ids(COUNT));
    const o = after!.map((x, i) => x - f32Data(residual)[i]!);
    const row = (t: number) => [...o.slice(t * width, (t + 1) * width)];
    let index = 0;
    for (let t = 0; t < COUNT; t++) {
      const earlier = Array.from({ length: t }, (_, j) => j).filter(keeps);
      const used = kind === "last" ? earlier.slice(-1) : earlier.filter((j) => j >= 4 && j < t - t % 8);
      const want = Array.from(
        { length: width },
        (_, a) => used.reduce((sum, j) => sum + row(j)[a]! / used.length, 0),
      );
      if (keeps(t)) {
        assertAlmostEquals(errors[index++]!, Math.hypot(...row(t).map((x, a) => x - want[a]!)), 1e-4);
      } else row(t).forEach((x, a) => assertAlmostEquals(x, want[a]!, 1e-4, `${kind} of token ${t}`));
    }
    assertEquals(index, errors.length);
  }
});

const options: readonly MethodOptions[] = [
  {
    fusion: "learned",
    kvFusion: "received",
    substitute: "local",
    recent: 4,
    sinks: 2,
    schedule: "allocated",
  },
  { fusion: "learned", substitute: "local", recent: 3, sinks: 2, block: 4 },
  { fusion: "random", kvFusion: "key", substitute: "local", recent: 4, sinks: 2, schedule: "allocated" },
  { fusion: "learned", substitute: "mean", block: 8, recent: 2 },
  { fusion: "variance", substitute: "last", recent: 2, schedule: "allocated" },
];

for (const own of options) {
  const all = { tail: 1, warmup: 32, block: 8, ...own };
  Deno.test(`${JSON.stringify(own)}: any feed, forks, nothing ahead, and dense at 0`, () => {
    const pruner = createPruner("token-filtering", model.config, all);
    const run = (feeds: readonly number[], tokens = ids(COUNT), sequence = model.start(pruner)) => {
      const rows: number[] = [];
      let at = 0;
      for (const count of feeds) rows.push(...f32Data(sequence.feed(tokens.slice(at, at += count))));
      const { kvBytesAllocated: _, ...usage } = sequence.usage();
      return { rows, keep: sequence.keep, kvKeep: sequence.kvKeep, usage };
    };
    const { rows: want, ...whole } = run([COUNT]);
    assert([...whole.keep.values()].some((mask) => mask.includes(0)));
    for (const feeds of FEEDS.slice(1)) {
      const { rows, ...rest } = run(feeds);
      assertEquals(rest, whole);
      rows.forEach((x, i) => assertAlmostEquals(x, want[i]!, 1e-3));
    }
    const tokens = ids(COUNT), other = tokens.map((id, t) => t < 50 ? id : (id + 5) % 131);
    const trunk = model.start(pruner);
    trunk.feed(tokens.slice(0, 50));
    const branch = trunk.fork();
    branch.feed(other.slice(50));
    trunk.feed(tokens.slice(50));
    assertEquals([trunk.keep, trunk.kvKeep], [whole.keep, whole.kvKeep]);
    const elsewhere = run([COUNT], other);
    assertEquals(branch.keep, elsewhere.keep);
    assertEquals(
      elsewhere.rows.slice(0, 50 * config.hiddenSize),
      want.slice(0, 50 * config.hiddenSize),
    );
    const zero = createPruner("token-filtering", model.config, { ...all, pruneRatio: 0, kvRatio: 0 });
    const dense = model.start(), none = model.start(zero);
    assertEquals(none.feed(tokens), dense.feed(tokens));
    // A replay of the masks is the same run.
    const { spans: { recent, warmup }, skipped: { substitute } } = pruner;
    if (pruner.keySide === undefined) {
      const replay = createReplay(model.config, {
        keep: whole.keep,
        recent,
        warmup,
        ...(substitute && { substitute }),
      });
      f32Data(model.start(replay).feed(tokens)).forEach((x, i) => assertAlmostEquals(x, want[i]!, 1e-3));
    }
  });
}

Deno.test("LayerTally counts what a local query sees, and that its output is projected", () => {
  const keep = Uint8Array.of(1, 1, 1, 0, 0, 1, 0, 0, 0, 1);
  for (const cacheSkipped of [true, false]) {
    const tally = new LayerTally({
      spans: { recent: 2 },
      skipped: { cached: cacheSkipped, substitute: local(1) },
      needs: [],
    });
    tally.take(keep);
    let pairs = 0;
    keep.forEach((full, p) => {
      for (let t = 0; t <= p; t++) {
        if (full ? cacheSkipped || keep[t] === 1 || p - t <= 2 : t < 1 || p - t <= 2) pairs++;
      }
    });
    assertEquals([tally.pairs, tally.kept, tally.projected, tally.queried], [pairs, 5, 10, 10]);
  }
  const plain = new LayerTally({
    spans: { recent: 2 },
    skipped: { cached: true, substitute: { ...local(1), kind: "last" } },
    needs: [],
  });
  plain.take(keep);
  assertEquals([plain.projected, plain.queried], [5, 5]);
  const sequence = model.start(
    patternPruner([0, 1], (t) => t < 30, { ...{ recent: 4, cacheSkipped: true }, substitute: local(2) }),
  );
  sequence.feed(ids(COUNT));
  const { attentionFlopsAvoided } = sequence.usage(), perHead = config.numHeads * config.headDim;
  const saved = Array.from({ length: 40 }, (_, i) => 30 + i + 1 - 7).reduce((a, b) => a + b);
  assertEquals(attentionFlopsAvoided, 2 * 4 * perHead * saved);
});

Deno.test("local attention is refused on a device, and in layers with a window of their own", () => {
  const reason = (own: MethodOptions) =>
    batchUnsupportedReason(createPruner("token-filtering", model.config, own));
  assertEquals(reason({ substitute: "last" }), "skipped outputs are replaced on the host");
  assertEquals(reason({ schedule: "allocated" }), "each sequence has ratios of its own");
  assertEquals(reason({}), undefined);
  const layers = [{}, { window: 9 }];
  const windowed = new Model({ ...config, numLayers: 2, layers }, weights as never, backend);
  const start = (layer: number) =>
    windowed.start(patternPruner([layer], () => true, { recent: 4, substitute: local(2) }));
  start(0);
  const refused =
    "Cannot use local attention in layer 1 as a substitute: expected a layer without a window of its own";
  assertThrows(() => start(1), RangeError, refused);
  // A method is bound to a model's shape before anything is run.
  const shape = { ...config, numLayers: 3, layers: [{}, { window: 9 }, {}] };
  const own = { substitute: "local", pruneRatio: 0.5, recent: 8 } as const;
  assertThrows(() => createPruner("token-filtering", shape, { preset: "local" }), RangeError, refused);
  assertThrows(() => createCustomRule(shape, () => 0, own), RangeError, refused);
  createPruner("token-filtering", shape, { preset: "keys" });
});
