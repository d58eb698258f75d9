/** Both sides' decisions against those of an independent numpy implementation: experiments/tools/verify/make_golden.py. */
import { assertEquals } from "@std/assert";
import golden from "../filter/testdata/key_golden.json" with { type: "json" };
import { type Dataset, makeInputs } from "../methods/bind/golden_testing.ts";
import { createPruner, type MethodOptions } from "../methods/mod.ts";
import { ReferenceBackend } from "../reference/mod.ts";
import { emptyTensor, hostTensor } from "../tensor.ts";
import { KeyJudge } from "./run/key_judge.ts";
import { meanProbabilities } from "./run/signals.ts";

const backend = new ReferenceBackend();

golden.cases.forEach(({ dataset, options, ...want }, number) => {
  const { rho, kvRho, layer, chunk, seed, ...own } = options;
  Deno.test(`case ${number}, ${own.fusion} and ${own.kvFusion}: both sides decide as numpy does`, () => {
    const { T, H, d, numHeads } = dataset as Required<Dataset>, input = makeInputs(dataset);
    // Only the last layer of 1, 2 or 4 is filtered, so that its fraction is a power of two of the whole's.
    const numLayers = layer + 1, shape = { numLayers, numHeads, numKvHeads: H, headDim: d, hiddenSize: 2 };
    const plan = { pruneRatio: rho / numLayers, kvRatio: kvRho / numLayers, tail: 1 / numLayers };
    const asked = { ...own, ...plan, seed: BigInt(seed) } as MethodOptions;
    const pruner = createPruner("token-filtering", shape, asked, { backend }), side = pruner.keySide!;
    assertEquals([pruner.layers, side.layers], [[layer], [layer]]);
    const f32 = (shape: number[], values: Float32Array<ArrayBuffer>) => hostTensor("f32", shape, values);
    const keys = f32([T, H, d], input.keys!), values = f32([T, H, d], input.values!);
    const rows = { residual: f32([T, 2], input.residual), normed: f32([T, 2], input.normed) };
    const { keep } = pruner.start(chunk).decide({ layer, count: T, keys, values, ...rows }, 0);
    assertEquals(keep!.join(""), want.keep);

    const judge = new KeyJudge(pruner.spans, side.start(chunk), side.layers), judged: [number, number][] = [];
    judge.take({ layer, count: T, keys, values });
    let alive = Array.from({ length: 0 }, (): number => 0);
    const starts = [0, ...judge.starts(0, T)];
    starts.forEach((start, i) => {
      const before = judge.judged(layer), end = starts[i + 1] ?? T;
      const gone = new Set(judge.judge(layer, start + 1).gone.map(({ position }) => position));
      if (judge.judged(layer) > before) judged.push([start, judge.judged(layer) - before]);
      alive = [
        ...alive.filter((t) => !gone.has(t)),
        ...Array.from({ length: end - start }, (_, j) => start + j),
      ];
      const queries = Int32Array.from(alive.filter((t) => t >= start && keep![t] === 1));
      if (queries.length === 0) return;
      const gather = (data: Float32Array, tokens: Iterable<number>, width: number) =>
        Float32Array.from([...tokens].flatMap((t) => [...data.subarray(t * width, (t + 1) * width)]));
      const cached = f32([alive.length, H, d], gather(input.keys!, alive, H * d)),
        none = emptyTensor("f32", [0, H, d]);
      const i32 = (values: Int32Array<ArrayBuffer>) => hostTensor("i32", [values.length], values);
      const attention = meanProbabilities(backend, {
        queries: f32([queries.length, numHeads, d], gather(input.queries, queries, numHeads * d)),
        queryPositions: i32(queries),
        ...{ keys: cached, values: cached, keyPositions: i32(Int32Array.from(alive)), numKeys: alive.length },
        ...{ recentKeys: none, recentValues: none, recentPositions: i32(new Int32Array(0)) },
        ...{ numRecent: 0, recent: 0, scale: 1 / Math.sqrt(d) },
      }, alive.indexOf(judge.judged(layer)));
      const keys = Int32Array.from(alive.filter((t) => t >= judge.judged(layer)));
      judge.observe(layer, { positions: queries, keys, rows: { attention } });
    });
    assertEquals(judge.keep(T).get(layer)!.join(""), want.kvKeep);
    assertEquals(judged, want.judged);
  });
});

Deno.test("key_golden.json has 40 cases, every rule, skips and drops", () => {
  assertEquals(golden.cases.length, 40);
  assertEquals(new Set(golden.cases.map(({ options }) => options.kvFusion)).size, 15);
  const has = (of: "keep" | "kvKeep") => golden.cases.filter((one) => one[of].includes("0")).length > 30;
  assertEquals([has("keep"), has("kvKeep")], [true, true]);
});
