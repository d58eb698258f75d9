/** Evicted keys and values: the keys that queries attend to, the rows in use, and feeding in pieces. */
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import type { AttentionArgs, Backend } from "../../backend.ts";
import { judgedAt, type Spans } from "../../filter/blocks.ts";
import type { Rule, RuleToken } from "../../filter/rule.ts";
import {
  createPruner,
  type DecisionTrace,
  type KeySequence,
  type KeySide,
  type MethodOptions,
  openJudgement,
  type Pruner,
  TokenFilter,
} from "../../methods/mod.ts";
import { f32Data, hostData, hostTensor, type Tensor } from "../../tensor.ts";
import { batchUnsupportedReason } from "./batch/batch_decoder.ts";
import { LayerCache, PAGE_ROWS } from "./cache/kv_cache.ts";
import { Model } from "../model.ts";
import { meanProbabilities } from "./signals.ts";
import { CONFIG as config, ids, weights } from "../small_testing.ts";
import { backend, patternPruner } from "../testing.ts";

const small = (numLayers: number, on: Backend = backend) =>
  new Model({ ...config, numLayers }, weights as never, on);
const model = small(2), COUNT = 70;
const FEEDS = [[COUNT], Array<number>(COUNT).fill(1), [5, 1, 3, 40, 21], [16, 16, 16, 16, 6]];

/** A key side whose decisions are known. */
function patternKeys(keeps: (t: number) => boolean, more: Partial<KeySide> = {}): KeySide {
  const open = (seen: ReadonlyMap<number, number>): KeySequence => {
    const own = new Map(seen);
    return {
      decide({ layer, count }) {
        const at = own.get(layer) ?? 0;
        own.set(layer, at + count);
        return { keep: Uint8Array.from({ length: count }, (_, i) => keeps(at + i) ? 1 : 0) };
      },
      fork: () => open(own),
    };
  };
  return { layers: [1], needs: [], at: "arrival", start: () => open(new Map()), ...more };
}

const SPANS: Spans = { warmup: 8, block: 4, recent: 3 };
const withKeys = (
  keySide: KeySide,
  spans = SPANS,
  query: Pruner = patternPruner([], () => true),
): Pruner => ({ ...query, spans, skipped: { cached: true }, keySide });

/** A model of one layer whose backend records the keys that each query attends to, by position. */
function watchedModel(): { model: Model; seen: Map<number, number[]> } {
  const seen = new Map<number, number[]>(), list = (tensor: Tensor) => [...hostData(tensor)];
  const watched: Backend = Object.assign(Object.create(backend), {
    attention(args: AttentionArgs) {
      const keys = list(args.keyPositions).slice(0, args.numKeys), ends = args.keyEnds && list(args.keyEnds);
      for (const p of list(args.queryPositions)) {
        seen.set(p, keys.filter((key, row) => key <= p && p < (ends?.[row] ?? Infinity)));
      }
      backend.attention(args);
    },
  });
  return { model: small(1, watched), seen };
}

Deno.test("queries see a key until it is decided, and later only where it stayed", () => {
  const keeps = (t: number) => t % 3 !== 0;
  for (
    const [warmup, block, recent] of [[8, 4, 3], [10, 4, 0], [0, 16, 5], [1, 1, 2], [100, 4, 0]] as const
  ) {
    const side = patternKeys(keeps, { layers: [0] }), spans = { warmup, block, recent };
    const visible = (p: number) =>
      Array.from({ length: p + 1 }, (_, t) => t).filter((t) => keeps(t) || p < judgedAt(t, spans));
    for (const feeds of FEEDS) {
      const { model, seen } = watchedModel(), sequence = model.start(withKeys(side, spans));
      let at = 0;
      for (const count of feeds) sequence.feed(ids(COUNT).slice(at, at += count));
      assertEquals(seen.size, COUNT);
      for (const [p, keys] of seen) {
        assertEquals(
          keys,
          visible(p),
          `query ${p} of ${warmup}, ${block}, ${recent}`,
        );
      }
      const kept = sequence.kvKeep.get(0)!;
      const gone = (t: number) => !keeps(t) && judgedAt(t, spans) < COUNT;
      assertEquals([...kept], Array.from({ length: COUNT }, (_, t) => gone(t) ? 0 : 1));
      assertEquals([...sequence.kvKeep.keys()], [0]);
    }
  }
});

const options: readonly (MethodOptions & { readonly name: string })[] = [
  { name: "keys alone", side: "key", warmup: 8, recent: 4, block: 8 },
  { name: "both sides", fusion: "learned", kvFusion: "key", warmup: 8, recent: 2, block: 8, pruneRatio: 0.3 },
  {
    name: "received beside skips",
    fusion: "mean",
    kvFusion: "received",
    warmup: 8,
    recent: 6,
    block: 8,
    tail: 1,
  },
  { name: "leave-one-out alone", side: "key", kvFusion: "leave-one-out", warmup: 8, recent: 4, block: 8 },
  {
    name: "keydiff, pre-rope",
    kvFusion: "keydiff",
    pruneRatio: 0,
    warmup: 0,
    recent: 0,
    keyState: "pre-rope",
  },
];

for (const { name, ...own } of options) {
  Deno.test(`${name}: masks and losses are those of any feed, forks go on, nothing reads ahead`, () => {
    const pruner = createPruner("token-filtering", model.config, { kvRatio: 0.6, ...own });
    const run = (feeds: readonly number[], tokens = ids(COUNT), sequence = model.start(pruner)) => {
      const rows: number[] = [];
      let at = 0;
      for (const count of feeds) rows.push(...f32Data(sequence.feed(tokens.slice(at, at += count))));
      const { kvBytesAllocated: _, ...usage } = sequence.usage();
      return { rows, keep: sequence.keep, kvKeep: sequence.kvKeep, usage };
    };
    const whole = run([COUNT]);
    const dropped = [...whole.kvKeep.values()].map((mask) => mask.filter((kept) => kept === 0).length);
    assert(dropped.every((count) => count > 15), `${dropped}`);
    for (const feeds of FEEDS.slice(1)) {
      const { rows, ...rest } = run(feeds);
      const { rows: want, ...others } = whole;
      assertEquals(rest, others);
      rows.forEach((x, i) => assertAlmostEquals(x, want[i]!, 1e-3));
    }
    const trunk = model.start(pruner),
      tokens = ids(COUNT),
      other = tokens.map((id, t) => t < 50 ? id : (id + 5) % 131);
    trunk.feed(tokens.slice(0, 50));
    const branch = trunk.fork();
    const [a, b] = [trunk, branch].map((sequence, i) => {
      sequence.feed((i === 0 ? tokens : other).slice(50));
      return sequence;
    });
    assertEquals([a!.keep, a!.kvKeep], [whole.keep, whole.kvKeep]);
    const elsewhere = run([COUNT], other);
    assertEquals([b!.keep, b!.kvKeep], [elsewhere.keep, elsewhere.kvKeep]);
    assertEquals(
      elsewhere.rows.slice(0, 50 * config.hiddenSize),
      whole.rows.slice(0, 50 * config.hiddenSize),
    );
  });
}

Deno.test("a ratio of 0 on both sides is the full model, bit for bit", () => {
  for (const kvFusion of ["variance", "received", "leave-one-out"] as const) {
    const pruner = createPruner("token-filtering", model.config, {
      ...{ fusion: "key", kvFusion, pruneRatio: 0, tail: 1, warmup: 4 },
    });
    for (const feed of [COUNT, 1]) {
      const [sequence, dense] = [model.start(pruner), model.start()];
      for (let at = 0; at < 40; at += feed) {
        const piece = ids(COUNT).slice(at, at + feed);
        assertEquals(sequence.feed(piece), dense.feed(piece));
      }
      assertEquals(sequence.usage().attentionFlopsAvoided, 0);
    }
  }
});

Deno.test("usage() counts pairs and rows of live keys, and memory falls with them", () => {
  const side = patternKeys((t) => t % 4 === 0), spans = { warmup: 8, block: 8, recent: 8 };
  const query = (t: number) => t % 5 !== 4, count = 240;
  const pruner = withKeys(side, spans, patternPruner([1], query));
  const dense = model.start(), sequence = model.start(pruner);
  for (const one of [dense, sequence]) one.feed(ids(count));
  const alive = (t: number, p: number) => t % 4 === 0 || p < judgedAt(t, spans);
  let pairs = 0, held = 0;
  for (let p = 0; p < count; p++) {
    for (let t = 0; t <= p; t++) {
      if (query(p) && alive(t, p)) pairs++;
      if (p === count - 1 && alive(t, p)) held++;
    }
  }
  const { kvBytesHeld, kvBytesAllocated, attentionFlopsAvoided, ...usage } = sequence.usage();
  const row = LayerCache.rowBytes("f32", config.numKvHeads * config.headDim);
  assertEquals(kvBytesHeld, (count + held) * row);
  const perHead = config.numHeads * config.headDim;
  const skipped = Array.from({ length: count }, (_, t) => t).filter((t) => !query(t)).length;
  assertEquals(
    attentionFlopsAvoided,
    4 * perHead * (count * (count + 1) / 2 - pairs) + 4 * config.hiddenSize * perHead * skipped,
  );
  const causal = count * (count + 1) / 2;
  assertEquals([usage.pairsDense, usage.pairsAvoided], [2 * causal, causal - pairs]);
  assertEquals([usage.queriesDense, usage.queriesSkipped], [2 * count, skipped]);
  assertEquals(usage.projectionFlopsAvoided, 4 * config.hiddenSize * perHead * skipped);
  assertEquals(usage.projectionFlopsDense - usage.attentionFlopsDense, -4 * perHead * 2 * causal);
  const room = Math.ceil(count / PAGE_ROWS) * PAGE_ROWS;
  assertEquals([dense.usage().kvBytesAllocated, kvBytesAllocated], [2 * room * row, (room + held) * row]);
  const { caches } = sequence.exportState();
  assertEquals(caches[1]!.heldBytes, held * row);
});

Deno.test("meanProbabilities() gives each key's probability for a query, averaged over heads", () => {
  // Two query heads share one KV head of size 2: with three rows looked at, two calls.
  const f32 = (shape: number[], values: number[]) => hostTensor("f32", shape, Float32Array.from(values));
  const i32 = (values: number[]) => hostTensor("i32", [values.length], Int32Array.from(values));
  const none = f32([0, 1, 2], []);
  const keys = [[0, 0], [1, 0], [0, 1], [2, 0], [9, 9]], queries = [[[1, 0], [0, 1]], [[0, 0], [1, 1]]];
  const args: AttentionArgs = {
    queries: f32([2, 2, 2], queries.flat(2)),
    queryPositions: i32([5, 7]),
    keys: f32([5, 1, 2], keys.flat()),
    values: f32([5, 1, 2], Array(10).fill(3)),
    keyPositions: i32([0, 4, 5, 6, 0]),
    numKeys: 4,
    recentKeys: none,
    recentValues: none,
    recentPositions: i32([]),
    numRecent: 0,
    recent: 0,
    scale: 0.5,
    out: f32([2, 2, 2], Array(8).fill(7)),
  };
  const want = [5, 7].flatMap((p, row) => {
    const shares = queries[row]!.map((q) => {
      const scores = keys.slice(0, 4).map((k, j) =>
        [0, 4, 5, 6][j]! <= p ? Math.exp(0.5 * (q[0]! * k[0]! + q[1]! * k[1]!)) : 0
      );
      return scores.map((x) => x / scores.reduce((a, b) => a + b));
    });
    return [1, 2, 3].map((j) => (shares[0]![j]! + shares[1]![j]!) / 2);
  });
  const calls = { alloc: 0, upload: 0, free: 0, attention: 0 };
  const counting = new Proxy<Backend>(backend, {
    get(target, name) {
      if (name in calls) calls[name as keyof typeof calls]++;
      const member = target[name as keyof Backend];
      return typeof member === "function" ? member.bind(target) : member;
    },
  });
  const got = [...meanProbabilities(counting, args, 1)];
  assertEquals(calls, { alloc: 2, upload: 4, free: 6, attention: 2 });
  meanProbabilities(counting, args, 2);
  assertEquals(calls.attention, 3, "two rows are one call");
  assertEquals(got.length, want.length);
  got.forEach((x, i) => assertAlmostEquals(x, want[i]!, 1e-7));
  assertEquals([...f32Data(args.out)], Array(8).fill(7));
  // The reference's attention computes the same by itself.
  const shares = hostTensor("f64", [2, 3], new Float64Array(6).fill(NaN));
  backend.attention({ ...args, shares });
  shares.data.forEach((x, i) => assertAlmostEquals(x, want[i]!, 1e-12));
});

/** Blocks and window of {@linkcode readSignals}. */
const WATCHED: Spans = { warmup: 4, block: 4, recent: 2 };

/** Signals that a rule reads of each token of a layer when it is decided, and how many tokens are decided at once. */
function readSignals(query: (t: number) => boolean, count: number) {
  const judged: number[] = [], tokens: Pick<RuleToken, "attention" | "distant" | "change">[] = [];
  const options = { side: "key", kvFusion: "leave-one-out", kvRatio: 0.5, tail: 1, ...WATCHED } as const;
  const trace: DecisionTrace = ({ keep }) => judged.push(keep.length);
  const [spec] = new TokenFilter({ ...config, numLayers: 1 }, options).specs;
  const rule: Rule = {
    name: "reading",
    score({ attention, distant, change }: RuleToken) {
      tokens.push({ attention, distant, change });
      return NaN; // stays
    },
  };
  const start = () => openJudgement([{ ...spec!, rule, reads: ["attention", "change"] }], trace);
  const ask = {
    rows: [],
    keys: ["attention", "change"],
    last: Infinity,
    undecided: true,
    distance: 1,
  } as const;
  const side: KeySide = { layers: [0], needs: [], asks: new Map([[0, ask]]), at: "block", start };
  small(1).start(withKeys(side, WATCHED, patternPruner([0], query))).feed(ids(count));
  return { judged, tokens };
}

Deno.test("attention that tokens received is what later, computed queries gave them, until they are decided", () => {
  const count = 24;
  const query = (t: number) => t < 9 || t % 3 === 0; // of three blocks, tokens without a later query
  const { judged, tokens } = readSignals(query, count);
  const got = tokens.map(({ attention }) => attention), afar = tokens.map(({ distant }) => distant);
  assertEquals(judged, [2, 4, 4, 4, 4]); // at 4, 8, 12, 16 and 20
  // The same from the layer's own queries and keys.
  const keys: number[] = [], queries: number[] = [];
  const watching: Backend = Object.assign(Object.create(backend), {
    attention(args: AttentionArgs) {
      queries.push(...f32Data(args.queries));
      keys.push(...f32Data(args.keys));
      backend.attention(args);
    },
  });
  small(1, watching).start().feed(ids(count));
  const { numHeads, numKvHeads, headDim } = config;
  const probability = (p: number, t: number) => {
    let sum = 0;
    for (let head = 0; head < numHeads; head++) {
      const kv = Math.floor(head / (numHeads / numKvHeads));
      const scores = Array.from({ length: p + 1 }, (_, j) => {
        let dot = 0;
        for (let i = 0; i < headDim; i++) {
          dot += queries[(p * numHeads + head) * headDim + i]! * keys[(j * numKvHeads + kv) * headDim + i]!;
        }
        return Math.exp(dot / Math.sqrt(headDim));
      });
      sum += scores[t]! / scores.reduce((a, b) => a + b);
    }
    return sum / numHeads;
  };
  got.forEach((x, t) => {
    const later = Array.from({ length: judgedAt(t, WATCHED) }, (_, p) => p).filter((p) => p > t && query(p));
    const mean = (queries: number[]) =>
      queries.length === 0 ? 0 : queries.reduce((sum, p) => sum + probability(p, t), 0) / queries.length;
    assertAlmostEquals(x, mean(later), 1e-6, `token ${t}`);
    const distant = later.filter((p) => p - t > 1); // more than half of the window of two
    assertAlmostEquals(afar[t]!, mean(distant.length > 0 ? distant : later), 1e-6, `token ${t}, from afar`);
  });
});

Deno.test("tokens that no query saw after they came have received nothing", () => {
  const { judged, tokens } = readSignals((t) => t < 9, 20);
  assertEquals(judged, [2, 4, 4, 4]);
  const later = tokens.slice(6); // decided at 12 and 16
  for (const name of ["attention", "distant", "change"] as const) {
    assertEquals(later.map((token) => token[name] > 0), [true, true, ...Array(6).fill(false)], name);
  }
});

Deno.test("a batch is not decoded where keys are decided on the host, and layers must be the model's", () => {
  const pruner = withKeys(patternKeys(() => true));
  assertEquals(batchUnsupportedReason(pruner), "keys and values are decided on the host, or traced");
  assertThrows(
    () => model.startBatch(pruner, { batch: 1, capacity: 4 }),
    RangeError,
    "Cannot decode a batch on a device: keys and values are decided on the host",
  );
  const beyond = withKeys(patternKeys(() => true, { layers: [2] }));
  assertThrows(() => model.start(beyond), RangeError, "Cannot filter layer 2");
  const sequence = model.start(withKeys(patternKeys(() => true, { layers: [0] })));
  const residual = model.residualAt(ids(3), 1);
  assertThrows(() => sequence.feedResidual(residual, 1), RangeError, "a layer below it is filtered");
});
