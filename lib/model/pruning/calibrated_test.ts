import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { scoreSequence } from "../../eval/mod.ts";
import { chooseLayersByLoss, chooseParts, createDropped } from "../../methods/mod.ts";
import { CONFIG, ids, truth } from "../small_testing.ts";
import { f32Data } from "../../tensor.ts";
import { modelOnText } from "./calibrated.ts";

const chunks = [ids(20), ids(12, 3)];
const alter = () => {
  throw new Error("altered");
};
const onText = modelOnText(truth, chunks, alter);

Deno.test("importance is 1 less the mean cosine of the stream before and after a part", () => {
  const importance = onText.importance, { hiddenSize, numLayers } = CONFIG;
  /** 1 less the mean cosine of the rows of pairs of matrices. */
  const farness = (pairs: readonly (readonly [Float32Array, Float32Array])[]) => {
    const cosines = pairs.flatMap(([a, b]) =>
      Array.from({ length: a.length / hiddenSize }, (_, t) => {
        const row = (all: Float32Array) => all.subarray(t * hiddenSize, (t + 1) * hiddenSize),
          x = row(a),
          y = row(b);
        return x.reduce((sum, v, i) => sum + v * y[i]!, 0) / (Math.hypot(...x) * Math.hypot(...y));
      })
    );
    return 1 - cosines.reduce((sum, cosine) => sum + cosine, 0) / cosines.length;
  };
  for (let layer = 0; layer < numLayers; layer++) {
    const { attention, mlp, block } = importance;
    // A layer's only attention is the layer without its MLP; the rest of its way is the MLP's.
    const alone = createDropped(CONFIG, { mlp: [layer] });
    const streams = chunks.map((ids) =>
      [
        ...[
          truth.residualAt(ids, layer),
          truth.start(alone).residualAt(ids, layer + 1),
          truth.residualAt(ids, layer + 1),
        ],
      ].map((stream) => f32Data(stream))
    );
    assertAlmostEquals(attention[layer]!, farness(streams.map(([a, b]) => [a!, b!])), 1e-6);
    assertAlmostEquals(mlp[layer]!, farness(streams.map(([, a, b]) => [a!, b!])), 1e-6);
    assertAlmostEquals(block[layer]!, farness(streams.map(([a, , b]) => [a!, b!])), 1e-6);
  }
  assertThrows(() => modelOnText(truth, [], alter), RangeError, "no calibration text");
});

Deno.test("chooseParts() takes those of least importance: of one kind, or whole layers", () => {
  const importance = { attention: [0.3, 0.1, 0.2], mlp: [0.1, 0.4, 0.05], block: [0.5, 0.5, 0.4] };
  const of = (kind: "attention" | "mlp" | "block", count: number) => {
    const { attention, mlp } = chooseParts(importance, kind, count);
    return [attention, mlp];
  };
  assertEquals(of("attention", 2), [[1, 2], []]);
  assertEquals(of("mlp", 2), [[], [0, 2]]);
  assertEquals(of("block", 2), [[0, 2], [0, 2]]);
  assertEquals(of("mlp", 0), [[], []]);
  assertThrows(() => of("attention", 4), RangeError, "from 0 to 3");
});

Deno.test("chooseLayersByLoss() leaves out what costs least, one after the other, between the barriers", () => {
  const lossOf = (gone: readonly number[]) => {
    const all = chunks.flatMap((
      ids,
    ) => [...scoreSequence(truth, ids, createDropped(CONFIG, { attention: gone, mlp: gone })).nll]);
    return all.reduce((sum, loss) => sum + loss, 0) / all.length;
  };
  const { layers, losses } = chooseLayersByLoss(onText, 2, 0), all = [0, 1, 2];
  const first = all.map((layer) => lossOf([layer]));
  assertEquals([losses[0], layers[0]], [Math.min(...first), first.indexOf(Math.min(...first))]);
  const second = all.map((layer) => layer === layers[0] ? Infinity : lossOf([layers[0]!, layer]));
  assertEquals([losses[1], layers[1]], [Math.min(...second), second.indexOf(Math.min(...second))]);
  assertEquals(chooseLayersByLoss(onText, 1).layers, [1]);
  assertThrows(() => chooseLayersByLoss(onText, 2), RangeError, "expected at most 1");
  const broken = {
    config: CONFIG,
    lossesWithout: (_: unknown, all: readonly number[]) => all.map(() => NaN),
  };
  assertThrows(
    () => chooseLayersByLoss(broken, 1, 0),
    RangeError,
    "found only losses that are NaN or infinite",
  );
});

Deno.test("whatever a fit asks for can be ended between its steps", () => {
  let steps = 0;
  const ending = modelOnText(truth, chunks, () => truth, () => {
    if (++steps % 2 === 0) throw new RangeError("enough");
  });
  const twice: { readonly [name: string]: () => unknown } = {
    importance: () => ending.importance,
    losses: () => ending.lossesWithout([], [0, 1]),
    run: () => ending.run([], () => {}),
    walk: () => ending.walk([], () => ({ see: () => {}, close: () => ({}) })),
  };
  for (const [name, ask] of Object.entries(twice)) {
    steps = 0;
    assertThrows(ask, RangeError, "enough", name);
    assertEquals(steps, 2, name);
  }
});
