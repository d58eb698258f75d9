/** Holds the golden decisions to the numpy recurrence, and a whole model's losses where numpy is there. */
import { assert, assertEquals, assertLess } from "@std/assert";
import { scoreSequence } from "../../../lib/eval/mod.ts";
import { createPruner, type MethodOptions } from "../../../lib/methods/mod.ts";
import { loadModel } from "../../../lib/model/mod.ts";
import { ReferenceBackend } from "../../../lib/reference/mod.ts";
import { sha256 } from "../../../lib/sha256.ts";
import { unless } from "../../../lib/testing.ts";
import { withFolder } from "../../commands/testing.ts";
import { lackOfPython, runPython } from "../testing_python.ts";

const here = import.meta.dirname!, testdata = `${here}/../../../lib/filter/testdata`;
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

/** What the whole model is compared with: every substitute, a rule that learns, a schedule from the warm-up, both sides. */
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
        const gguf = `${here}/../../../lib/model/tiny/tiny-llama-4.8m.Q8_0.gguf`;
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
