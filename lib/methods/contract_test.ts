/**
 * Requirements of a model on every method. A new method gets these tests by being in METHODS: with its defaults, and
 * with each of its own options changed.
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import type { Option } from "../filter/option.ts";
import { makeStream, type Stream, uniform } from "../filter/testing.ts";
import { rowsOf, type Tensor } from "../tensor.ts";
import {
  createDense,
  createPruner,
  createReplay,
  EVICTIONS,
  type Method,
  type MethodName,
  type MethodOptions,
  METHODS,
  OPTIONS,
  type Pruner,
  type PrunerContext,
  type SideSequence,
  takesWhole,
} from "./mod.ts";

const COUNT = 600;
const PRUNE_RATIO = 0.45;
const WARMUP = 32;
const shape = { numLayers: 6, numHeads: 4, numKvHeads: 2, headDim: 8, hiddenSize: 16 };
const plan = { pruneRatio: PRUNE_RATIO, tail: 0.5, warmup: WARMUP };

const next = uniform(3);
/** Masks for replay that skip the plan's ratio. */
const masks = new Map([3, 4, 5].map((layer) => [
  layer,
  Uint8Array.from({ length: COUNT }, (_, t) => t >= WARMUP && next() < 0.9 ? 0 : 1),
]));

/** The first `at` tokens of one stream, then those of another. */
function withTail(stream: Stream, other: Stream, at: number): Stream {
  const copy = structuredClone(stream);
  for (const part of ["keys", "values", "residual", "normed", "queries"] as const) {
    const { data } = copy[part], first = at * data.length / COUNT;
    (data as Float32Array).set(other[part].data.subarray(first), first);
  }
  copy.outputNorms.set(other.outputNorms.subarray(at), at);
  copy.residualNorms.set(other.residualNorms.subarray(at), at);
  return copy;
}

const EVICTED: readonly string[] = EVICTIONS.map(({ name }) => name);

/** Values of an option that are not its default. */
function others(option: Option): unknown[] {
  switch (option.type) {
    case "number":
      return [option.default === 0 ? 1 : (option.default ?? 1) / 2];
    case "integer":
      return [option.default > 1 ? Math.floor(option.default / 2) : option.default + 1];
    case "flag":
      return [!option.default];
    case "name":
      // Nothing here reads keys and values; evictions have their contract in ../model/run/eviction_test.ts.
      return option.names.filter((name) => name !== option.default && !EVICTED.includes(name));
    case "names":
      return [option.names.filter((name) => name !== "local")]; // which needs its substitute
    case "seed":
      return [5n];
    case "layers":
    case "ratios":
      return [];
  }
}

/** Options of the plan, which is the same in all variants, and those that select the method. */
const PLANNED = [
  "preset",
  "shuffle", // needs a model, as ../model/shuffled_test.ts has
  "side",
  "fusion",
  "pruneRatio",
  "tail",
  "schedule",
  "slope",
  "skipRatios",
  "whole", // of keys and values, as ../model/retrieval_test.ts has
  "wholeFraction",
  "warmup",
];

/** A method's defaults, and each option by itself changed: its own, or for the first method the shared ones. */
function variantsOf(method: Method, index: number): MethodOptions[] {
  const changed = Object.entries(OPTIONS).filter(([name, { of }]) =>
    !PLANNED.includes(name) && (of?.fusion?.includes(method.name) ?? index === 0)
  );
  return [
    {},
    ...changed.flatMap(([name, option]) => {
      const { fusion: _, ...policies } = option.of ?? {};
      const owner = Object.entries(policies).map(([policy, [first]]) => [policy, first]);
      return others(option).map((value) => ({ ...Object.fromEntries(owner), [name]: value }));
    }),
  ];
}

/** A way in which a method is tried. */
interface Variant {
  readonly title: string;
  /** Name of the pruner. */
  readonly name: string;
  /** Whether it aims at the plan's ratio. */
  readonly aims: boolean;
  make(context?: PrunerContext): Pruner;
}

const VARIANTS: readonly Variant[] = [
  ...METHODS.flatMap((method: Method, index) =>
    variantsOf(method, index).map((options): Variant => ({
      title: `${method.name} ${JSON.stringify(options, (_, x) => typeof x === "bigint" ? String(x) : x)}`,
      name: "create" in method ? method.name : "token-filtering",
      aims: options.threshold !== "fixed",
      make: (context) => createPruner(method.name as MethodName, shape, { ...plan, ...options }, context),
    }))
  ),
  ...["learned", "random"].map((fusion): Variant => ({
    title: `${fusion} beside local attention`,
    name: "token-filtering",
    aims: true,
    make: (context) =>
      createPruner(fusion as MethodName, shape, { ...plan, substitute: "local", recent: 4 }, context),
  })),
  {
    title: "replay",
    name: "replay",
    aims: true,
    make: (context) => createReplay(shape, { keep: masks, warmup: WARMUP, recent: 4 }, context),
  },
];

/** One stream per layer; together they stand for the layers of a model. */
const streams = Array.from(
  { length: shape.numLayers },
  (_, layer) =>
    makeStream(layer, { count: COUNT, numKvHeads: 2, headDim: 8, hiddenSize: 16, drift: 0.5, noise: 1.5 }),
);

/** Plays the model: feeds rows [from, to) of a layer in one piece, and lets the method observe its outcomes. */
function feed(
  pruner: Pruner,
  sequence: SideSequence,
  layer: number,
  stream: Stream,
  from: number,
  to: number,
) {
  const part = (tensor: Stream["keys"]): Tensor => rowsOf(tensor, from, to);
  const input = {
    layer,
    count: to - from,
    keys: part(stream.keys),
    values: part(stream.values),
    residual: part(stream.residual),
    normed: part(stream.normed),
    ...(pruner.needs.includes("queries") && { queries: part(stream.queries) }),
    ...(pruner.needs.includes("future outputs") && {
      futureOutputs: stream.outputNorms.slice(from, to).map((o, i) => o / stream.residualNorms[from + i]!),
    }),
  };
  const decided: number[] = [];
  for (let start = 0; start < to - from;) {
    const keep = sequence.decide(input, start).keep!;
    assert(keep.length >= 1 && start + keep.length <= to - from, `${keep.length} decisions`);
    if (observes(pruner)) {
      const kept = [...keep.keys()].filter((i) => keep[i] === 1).map((i) => from + start + i);
      const of = (norms: Float64Array) => Float64Array.from(kept, (t) => norms[t]!);
      sequence.observe!(layer, {
        outputNorms: of(stream.outputNorms),
        residualNorms: of(stream.residualNorms),
      });
    }
    decided.push(...keep);
    start += keep.length;
  }
  return decided;
}

/** Whether it is to be given outputs. */
const observes = ({ needs }: Pruner) => needs.includes("outputs") || needs.includes("warm-up outputs");

/** All decisions of a sequence fed in chunks that end at the given tokens, layer by layer as a model would. */
function run(pruner: Pruner, ends: readonly number[], data = streams, sequence = pruner.start(), from = 0) {
  const decisions = new Map<number, number[]>(pruner.layers.map((layer) => [layer, []]));
  for (const end of ends) {
    for (const layer of pruner.layers) {
      decisions.get(layer)!.push(...feed(pruner, sequence, layer, data[layer]!, from, end));
    }
    from = end;
  }
  return decisions;
}

Deno.test("dense asks for nothing and decides nothing", () => {
  const pruner = createDense();
  const { name, start: _, ...rest } = pruner;
  assertEquals([name, rest], ["dense", {
    layers: [],
    needs: [],
    at: "arrival",
    spans: { warmup: 0, block: 32, recent: 0 },
    skipped: { cached: false },
  }]);
  for (const sequence of [pruner.start(3), pruner.start().fork()]) {
    for (const [layer, stream] of streams.entries()) {
      const error = `Cannot filter layer ${layer}: the dense method filters none`;
      assertThrows(() => feed(pruner, sequence, layer, stream, 0, 8), RangeError, error);
    }
  }
});

for (const { title, name, aims, make } of VARIANTS) {
  const causal = !takesWhole(make());

  Deno.test(`${title} says what it is`, () => {
    const pruner = make();
    assertEquals(pruner.name, name);
    assert(pruner.layers.length > 0, "every test below loops over its layers");
    assertEquals([...pruner.layers].sort((a, b) => a - b), [...pruner.layers]);
    assert(
      pruner.layers.every((layer) => Number.isInteger(layer) && layer >= 0 && layer < shape.numLayers),
    );
    assert(!observes(pruner) || pruner.start().observe !== undefined);
  });

  Deno.test(`${title} keeps the warm-up and comes near the asked ratio`, () => {
    const pruner = make();
    const decisions = run(pruner, [COUNT]);
    assertEquals(pruner.spans.warmup, WARMUP);
    let skipped = 0;
    for (const keep of decisions.values()) {
      assertEquals(keep.length, COUNT);
      assert(keep.every((kept) => kept === 0 || kept === 1));
      assert(keep.slice(0, WARMUP).every((kept) => kept === 1), "a token of the warm-up was skipped");
      skipped += keep.filter((kept) => kept === 0).length;
    }
    const ratio = skipped / (shape.numLayers * (COUNT - WARMUP));
    assert(!aims || Math.abs(ratio - PRUNE_RATIO) < 0.02, `skipped ${ratio}, asked for ${PRUNE_RATIO}`);
  });

  Deno.test(`${title} decides anew in every sequence`, () => {
    const pruner = make();
    assertEquals(run(pruner, [COUNT]), run(pruner, [COUNT]));
  });

  Deno.test(`${title} traces the decisions it makes`, () => {
    const traced = new Map<number, number[]>();
    const pruner = make({
      trace(rows, layer, chunk) {
        assertEquals(chunk, 3);
        assertEquals(rows.redundancy.length, rows.keep.length);
        traced.set(layer, [...traced.get(layer) ?? [], ...rows.keep]);
      },
    });
    assertEquals(run(pruner, [COUNT], streams, pruner.start(3)), traced);
  });

  if (!causal) {
    Deno.test(`${title} refuses to go on with a sequence, since it is non-causal`, () => {
      const pruner = make(), sequence = pruner.start();
      run(pruner, [300], streams, sequence);
      assertThrows(() => run(pruner, [COUNT], streams, sequence, 300), RangeError, "a whole sequence");
    });
    continue;
  }

  Deno.test(`${title} decides the same in any chunks`, () => {
    const pruner = make(), whole = run(pruner, [COUNT]);
    assertEquals(run(pruner, Array.from({ length: COUNT }, (_, t) => t + 1)), whole);
    assertEquals(run(pruner, [1, 8, 31, 33, 97, 98, 350, COUNT]), whole);
  });

  Deno.test(`${title} looks at nothing that comes later`, () => {
    const pruner = make(), before = run(pruner, [COUNT]), at = 300;
    const changed = streams.map((stream, layer) => withTail(stream, streams.at(layer - 1)!, at));
    const after = run(pruner, [COUNT], changed);
    for (const layer of pruner.layers) {
      assertEquals(after.get(layer)!.slice(0, at), before.get(layer)!.slice(0, at));
    }
  });

  Deno.test(`${title} forks into independent sequences`, () => {
    const pruner = make(), straight = run(pruner, [200, COUNT]);
    const trunk = pruner.start();
    run(pruner, [200], streams, trunk);
    const branch = trunk.fork();
    run(pruner, [COUNT], [...streams].reverse(), branch, 200); // continues with other input
    const rest = run(pruner, [COUNT], streams, trunk.fork(), 200);
    for (const layer of pruner.layers) assertEquals(rest.get(layer), straight.get(layer)!.slice(200));
    assertEquals(run(pruner, [COUNT], streams, trunk, 200), rest);
  });
}
