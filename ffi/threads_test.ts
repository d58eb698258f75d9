import { assert, assertEquals } from "@std/assert";
import { buildCpu } from "../build.ts";
import { createPruner, f32Data, loadModel, type MethodOptions, readBuiltinText } from "../mod.ts";
import { openCpu } from "./mod.ts";

await buildCpu();

const TEXT = (await readBuiltinText()).slice(0, 4000);
/** The built-in model by number of threads. */
const models = await Promise.all([1, 2, 3].map(async (threads) => {
  const backend = await openCpu({ threads, blas: "none" });
  return { backend, ...await loadModel("tiny", backend) };
}));

/** Hidden states and decisions with each number of threads. */
function runAll(options: MethodOptions | undefined, counts: readonly number[]) {
  return counts.map((threads) => {
    const { backend, model, tokenizer, config } = models[threads - 1]!;
    const ids = tokenizer.encode(TEXT).slice(0, 512);
    using sequence = model.start(options && createPruner("token-filtering", config, options, { backend }));
    return { hidden: f32Data(sequence.feed(ids)).slice(), keep: [...sequence.keep.values()] };
  });
}

Deno.test("results have the same bits by any number of threads where nothing stays visible in a recent window", () => {
  for (const options of [undefined, { preset: "paper" }, { fusion: "learned", recent: 0 }] as const) {
    const [one, two, three] = runAll(options, [1, 2, 3]);
    assertEquals([two, three], [one, one], JSON.stringify(options));
  }
});

Deno.test("with a recent window decisions are the same by any number of threads, and hidden states up to rounding", () => {
  for (const options of [{}, { fusion: "learned" }, { preset: "keys" }, { preset: "local" }] as const) {
    const [one, two] = runAll(options, [1, 2]);
    assertEquals(two.keep, one.keep, JSON.stringify(options));
    const away = one.hidden.reduce((most, x, i) => Math.max(most, Math.abs(x - two.hidden[i]!)), 0);
    assert(away < 1e-5, `${JSON.stringify(options)}: ${away}`);
  }
});
