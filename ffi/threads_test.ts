import { assert, assertEquals } from "@std/assert";
import { buildCpu } from "../build.ts";
import { createPruner, f32Data, loadModel, type MethodOptions, readBuiltinText } from "../mod.ts";
import { openCpu } from "./mod.ts";

/** Hidden states and decisions of the built-in model with a number of threads. */
async function run(threads: number, options: MethodOptions | undefined) {
  using backend = await openCpu({ threads, blas: "none" });
  const { model, tokenizer, config } = await loadModel("tiny", backend);
  const ids = tokenizer.encode((await readBuiltinText()).slice(0, 4000)).slice(0, 512);
  using sequence = model.start(options && createPruner("token-filtering", config, options, { backend }));
  return { hidden: f32Data(sequence.feed(ids)).slice(), keep: [...sequence.keep.values()] };
}

await buildCpu();

Deno.test("results have the same bits by any number of threads where nothing stays visible in a recent window", async () => {
  for (const options of [undefined, { preset: "paper" }, { fusion: "learned", recent: 0 }] as const) {
    const [one, two, three] = [await run(1, options), await run(2, options), await run(3, options)];
    assertEquals([two, three], [one, one], JSON.stringify(options));
  }
});

Deno.test("with a recent window decisions are the same by any number of threads, and hidden states up to rounding", async () => {
  for (const options of [{}, { fusion: "learned" }, { preset: "keys" }, { preset: "local" }] as const) {
    const one = await run(1, options), two = await run(2, options);
    assertEquals(two.keep, one.keep, JSON.stringify(options));
    const away = one.hidden.reduce((most, x, i) => Math.max(most, Math.abs(x - two.hidden[i]!)), 0);
    assert(away < 1e-5, `${JSON.stringify(options)}: ${away}`);
  }
});
