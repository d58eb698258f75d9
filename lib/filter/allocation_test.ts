import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { TokenFilter, type TokenFilterOptions } from "../methods/mod.ts";
import { normalCdf } from "../math/normal.ts";
import { allocate } from "./allocation.ts";
import { MAX_ALLOCATED } from "./schedule.ts";
import { makeStream } from "./testing.ts";

Deno.test("normalCdf() is that of tables, on both sides of where its two ways meet", () => {
  const table = [[0, 0.5], [1, 0.841344746068543], [2.9, 0.998134186699616], [3.1, 0.999032396786782]];
  for (const [x, p] of [...table, [-5, 2.86651571879194e-7], [-10, 7.61985302416053e-24]] as const) {
    assertAlmostEquals(normalCdf(x!) / p!, 1, 1e-13);
    assertAlmostEquals(normalCdf(-x!), 1 - p!, 1e-14);
  }
});

Deno.test("allocate() finds the threshold whose mean fraction is the ratio, and gives no layer more than 0.97", () => {
  const layers = [{ mean: -3, sd: 0.45 }, { mean: -1, sd: 0.15 }, { mean: 0, sd: 0.95 }];
  for (const ratio of [0.1, 0.5, 0.9, MAX_ALLOCATED]) {
    const shares = allocate(layers, ratio);
    assertAlmostEquals(shares.reduce((a, b) => a + b) / 3, ratio, 1e-12);
    assert(shares.every((share) => share >= 0 && share <= MAX_ALLOCATED));
  }
  // By hand: layer 0 is full at 0.97; theta = -1 gives the others 1/2 and Phi(-1).
  const want = [0.97, 0.5, 0.158655253931457];
  const got = allocate(layers, want.reduce((a, b) => a + b) / 3);
  got.forEach((share, i) => assertAlmostEquals(share, want[i]!, 1e-11));
  assertEquals(allocate(layers, 0), [0, 0, 0]);
  assertEquals(allocate([{ mean: 5, sd: 0 }], MAX_ALLOCATED).length, 1);
});

const shape = { numLayers: 3, numHeads: 4, numKvHeads: 2, headDim: 4, hiddenSize: 12 };
const COUNT = 120;
/** Outputs of layers: attention that adds less and less. */
const streams = [0, 1, 2].map((layer) => {
  const stream = makeStream(layer + 5, { count: COUNT, numKvHeads: 2, headDim: 4, hiddenSize: 12 });
  return { ...stream, outputNorms: stream.outputNorms.map((norm) => norm * Math.exp(-layer / 4)) };
});

/** Decisions of all layers, with the warm-up through all of them first. */
function run(options: TokenFilterOptions, warmup: number, fork = false): string[] {
  let sequence = new TokenFilter(shape, { warmup, ...options }).start();
  const keep = ["", "", ""];
  for (const [from, to] of [[0, 5], [5, warmup], [warmup, COUNT]] as const) {
    if (fork) sequence = sequence.fork();
    for (const [layer, { keys, values, residual, normed, outputNorms, residualNorms }] of streams.entries()) {
      for (let start = from; start < to;) {
        const cut = <T extends { readonly data: { subarray(a: number, b: number): unknown } }>(x: T) =>
          x.data.subarray(0, to * (x.data as Float32Array).length / COUNT) as Float32Array<ArrayBuffer>;
        const extra = { residual: cut(residual), normed: cut(normed) };
        const { taken, keep: own } = sequence.scan(layer, cut(keys), cut(values), extra, start);
        const kept = [...own.keys()].filter((i) => own[i] === 1).map((i) => start + i);
        const of = (norms: Float64Array) => Float64Array.from(kept, (t) => norms[t]!);
        if (options.schedule === "allocated" || options.fusion === "learned") {
          sequence.observe(layer, of(outputNorms), of(residualNorms));
        }
        keep[layer] += own.join("");
        start += taken;
      }
    }
  }
  return keep;
}

Deno.test("allocated decides as with the ratios that the warm-up's outcomes give, in any feed and in forks", () => {
  const common = { tail: 1, recent: 1, sinks: 2, block: 8 } as const;
  for (
    const options of [
      { ...common, fusion: "variance", substitute: "none" },
      { ...common, fusion: "learned", substitute: "none" },
      { ...common, fusion: "random", substitute: "local" },
      { ...common, fusion: "learned", substitute: "mean", invert: true },
    ] as const
  ) {
    const warmup = 40, first = options.substitute === "local" ? 11 : 0;
    const outcomes = streams.map(({ outputNorms, residualNorms }) => {
      const y = [...outputNorms.slice(first, warmup)].map((o, i) => {
        const x = residualNorms[first + i]!;
        return options.substitute === "none" ? Math.log((o + 1e-6) / (x + 1e-6)) : Math.log(o / x + 1e-3);
      });
      const mean = y.reduce((a, b) => a + b) / y.length;
      return { mean, sd: Math.sqrt(y.reduce((sum, x) => sum + (x - mean) ** 2, 0) / y.length) };
    });
    const skipRatios = allocate(outcomes, 0.4);
    assert(skipRatios[2]! > skipRatios[0]! + 0.1);
    const want = run({ ...options, skipRatios }, warmup);
    assert(want.every((keep) => keep.includes("0")));
    const asked = { ...options, schedule: "allocated", pruneRatio: 0.4 } as const;
    assertEquals(run(asked, warmup), want);
    assertEquals(run(asked, warmup, true), want);
  }
});

Deno.test("allocated with a ratio of 0 keeps all, and asks for the warm-up of all layers first", () => {
  const options = { tail: 1, schedule: "allocated", warmup: 8, pruneRatio: 0 } as const;
  assert(run({ ...options, pruneRatio: 0 }, 8).every((keep) => !keep.includes("0")));
  const sequence = new TokenFilter(shape, options).start(), { keys, values } = streams[0]!;
  assertEquals(sequence.scan(0, keys, values).taken, 8);
  sequence.observe(0, new Float64Array(8).fill(1), new Float64Array(8).fill(1));
  assertThrows(
    () => sequence.scan(0, keys, values, {}, 8),
    RangeError,
    "Cannot scan layer 0: found 0 outcomes of layer 1, expected those of the warm-up in all layers first",
  );
  assertThrows(
    () => new TokenFilter(shape, { ...options, pruneRatio: 0.98 }),
    RangeError,
    "layer 2 needs a skip ratio of 0.98, expected at most 0.97: use a pruneRatio of at most 0.97",
  );
  new TokenFilter(shape, { ...options, pruneRatio: 0.97 });
});
