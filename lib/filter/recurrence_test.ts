/** Compares the golden decisions with the numpy recurrence, and a whole model's losses where numpy is there. */
import { assert, assertEquals, assertLess } from "@std/assert";
import { openCpu } from "../../ffi/mod.ts";
import { scoreSequence } from "../eval/mod.ts";
import { createPruner, type MethodOptions } from "../methods/mod.ts";
import { loadModel } from "../model/mod.ts";
import { ReferenceBackend } from "../reference/mod.ts";
import { uniform } from "../math/random.ts";
import { sha256 } from "../sha256.ts";
import { IN_SLOW_TIER, unless, withFolder } from "../testing.ts";
import { lackOfPython, runPython } from "../../experiments/tools/testing_python.ts";

const testdata = `${import.meta.dirname}/testdata`;
/** The scripts of the recurrence. */
const here = `${import.meta.dirname}/../../experiments/tools/verify`;
const GOLDEN = ["golden.json", "key_golden.json"];
const readJson = (path: string) => JSON.parse(Deno.readTextFileSync(path));

Deno.test("golden decisions are those of the recurrence in the tree", async () => {
  const code = ["recurrence.py", "make_golden.py"].map((name) => Deno.readTextFileSync(`${here}/${name}`));
  const source = await sha256(code.join(""));
  for (const name of GOLDEN) {
    assertEquals(readJson(`${testdata}/${name}`).source, source, `${name}: run make_golden.py again`);
  }
});

Deno.test({
  ...unless(lackOfPython(["numpy"]), "the recurrence gives the golden decisions"),
  fn: () =>
    withFolder(async (folder) => {
      await runPython(`${here}/make_golden.py`, folder);
      const decisions = (path: string) =>
        readJson(path).cases.map((one: Record<string, unknown>) => [one.keep, one.kvKeep, one.judged]);
      for (const name of GOLDEN) {
        assertEquals(decisions(`${folder}/${name}`), decisions(`${testdata}/${name}`));
      }
    }),
});

/**
 * Methods with which the whole model is compared: every substitute, a rule that learns, a schedule from the warm-up,
 * both sides.
 */
const METHODS: Record<string, MethodOptions> = {
  "the paper's rule": { fusion: "variance" },
  "keys by received attention": { preset: "keys", kvFusion: "received", warmup: 16, recent: 8 },
  "learned, for the mean output": { fusion: "learned", substitute: "mean", warmup: 16, kvFusion: "none" },
  "the last output": { fusion: "key", substitute: "last", keyState: "pre-rope", recent: 0 },
  "local": { preset: "local", recent: 4, sinks: 2, warmup: 32 },
};

for (const [name, options] of Object.entries(METHODS)) {
  Deno.test({
    ...unless(lackOfPython(["numpy", "gguf"]), `tiny by numpy, ${name}: the same decisions and losses`),
    fn: () =>
      withFolder(async (folder) => {
        const backend = new ReferenceBackend(), { model, config } = await loadModel("tiny", backend);
        const ids = Int32Array.from({ length: 96 }, (_, t) => 3 + (t * t * 7919 + (t % 12) * 31) % 2000);
        const files = ["ids", "options", "out"].map((file) => `${folder}/${file}.json`);
        Deno.writeTextFileSync(files[0]!, JSON.stringify([Array.from(ids)]));
        Deno.writeTextFileSync(files[1]!, JSON.stringify(options));
        const gguf = `${import.meta.dirname}/../model/tiny/tiny-llama-4.8m.Q8_0.gguf`;
        await runPython(`${here}/numpy_llama.py`, gguf, ...files);
        const [want] = readJson(files[2]!);
        const score = scoreSequence(
          model,
          ids,
          createPruner("token-filtering", config, options, { backend }),
        );
        const rows = (masks: readonly Uint8Array[]) => masks.map((mask) => mask.join(""));
        const own = { keep: rows(score.keep), layers: score.layers, kvKeep: rows(score.kvKeep) };
        const text = (masks: number[][]) => masks.map((mask) => mask.join(""));
        assertEquals(own, { keep: text(want.keep), layers: want.layers, kvKeep: text(want.kvKeep) });
        assert([...own.keep, ...own.kvKeep].join("").includes("0"));
        score.nll.forEach((nll, t) => assertLess(Math.abs(nll - want.nll[t]), 1e-4));
      }),
  });
}

Deno.test({
  ...unless(
    IN_SLOW_TIER || lackOfPython(["numpy", "gguf"]),
    "tiny by numpy, 40 draws with whole layers or heads: the same decisions and losses",
  ),
  fn: () =>
    withFolder(async (folder) => {
      const backend = await openCpu({ build: true }), { model, config } = await loadModel("tiny", backend);
      let drawn = 0n;
      const draw = () => uniform(drawn++),
        pick = <T>(list: readonly T[]) => list[Math.floor(draw() * list.length)]!;
      const cases = Array.from({ length: 40 }, (_, i) => {
        const whole = i % 4 === 0
          ? [...new Set([0, 1, 2].map(() => Math.floor(10 * draw())))]
          : i % 4 === 1
          ? "auto"
          : "heads";
        const scored = whole === "heads" ? config.numLayers * config.numKvHeads : config.numLayers;
        const spans = { warmup: pick([0, 8, 16]), recent: pick([0, 4, 12]), block: pick([4, 8, 32]) };
        const options: MethodOptions = {
          ...{
            side: "key",
            kvFusion: pick(["key", "variance", "random", "keydiff", "received", "knorm"] as const),
            whole,
            ...spans,
          },
          ...{
            wholeFraction: pick([0.3, 0.6, 0.9]),
            kvRatio: pick([0.2, 0.5, 0.65]),
            seed: i,
            pruneRatio: 0,
          },
        };
        const retrieval = Array.from({ length: scored }, () => draw() ** 4);
        const ids = Int32Array.from({ length: 64 }, () => 3 + Math.floor(2000 * draw()));
        return { options, retrieval, ids };
      });
      const files = ["ids", "options", "out"].map((file) => `${folder}/${file}.json`);
      Deno.writeTextFileSync(files[0]!, JSON.stringify(cases.map(({ ids }) => Array.from(ids))));
      const asked = cases.map(({ options: { side: _, ...own }, retrieval }) => ({ ...own, retrieval }));
      Deno.writeTextFileSync(files[1]!, JSON.stringify(asked));
      const gguf = `${import.meta.dirname}/../model/tiny/tiny-llama-4.8m.Q8_0.gguf`;
      await runPython(`${here}/numpy_llama.py`, gguf, ...files);
      const wanted = readJson(files[2]!) as {
        kvKeep: number[][];
        kvLayers: number[];
        nll: number[];
        margin: number;
      }[];
      let compared = 0;
      cases.forEach(({ options, retrieval, ids }, chunk) => {
        const want = wanted[chunk]!;
        if (want.margin < 1e-5) return; // rounding may decide
        compared++;
        const pruner = createPruner("token-filtering", { ...config, retrieval }, options, { backend });
        const { keySide } = pruner,
          score = scoreSequence(model, ids, {
            ...pruner,
            keySide: { ...keySide!, start: () => keySide!.start(chunk) },
          });
        assertEquals(
          [score.kvLayers, score.kvKeep.map((mask) => mask.join(""))],
          [want.kvLayers, want.kvKeep.map((mask) => mask.join(""))],
          JSON.stringify(options),
        );
        score.nll.forEach((nll, t) => assertLess(Math.abs(nll - want.nll[t]!), 2e-4));
      });
      assert(compared >= 30, `${compared} of 40 were not decided by rounding`);
    }),
});
