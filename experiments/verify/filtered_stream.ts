/**
 * How well a rule ranks tokens in the stream that it makes itself: decisions are carried out, and what each token's
 * attention would have come to is computed beside them, as for the oracle. AUROC for the lowest rho share of r in each
 * layer, over tokens past the warm-up; means over filtered layers. Prints one line a rule.
 *
 *     deno run -A … experiments/verify/filtered_stream.ts MODEL TEXT TOKENS RULE…
 */
import { cutChunks } from "../../lib/eval/mod.ts";
import { createPruner, type Pruner, type RuleName, TokenFilter } from "../../lib/methods/mod.ts";
import { loadModel } from "../../lib/model/mod.ts";
import { auroc, spearman } from "../../lib/stats/mod.ts";
import { openCpu } from "../../ffi/mod.ts";

const CONTEXT = 512;

/** Scores and redundancies of the tokens past the warm-up, by layer. */
interface Ranked {
  readonly scores: number[];
  readonly r: number[];
}

/** A method that decides as before, while the redundancy of every token is noted. */
function watch(pruner: Pruner, note: (layer: number, r: Float64Array) => void): Pruner {
  return {
    ...pruner,
    looksAhead: "outputs",
    start(chunk) {
      const sequence = pruner.start(chunk);
      return {
        ...sequence,
        decide(input, start) {
          if (start === 0) note(input.layer, input.trueRedundancy!);
          return sequence.decide(input, start);
        },
      };
    },
  };
}

const [name, text, tokens, ...rules] = Deno.args;
const backend = await openCpu();
const { model, tokenizer, config } = await loadModel(name!, backend);
const ids = tokenizer.encode(await Deno.readTextFile(text!), { bos: tokenizer.addsBos }).slice(
  0,
  Number(tokens),
);
const chunks = cutChunks(Int32Array.from(ids), CONTEXT);

for (const fusion of rules as RuleName[]) {
  const { specs, options } = new TokenFilter(config, { fusion });
  const ranked = new Map<number, Ranked>(specs.map(({ layer }) => [layer, { scores: [], r: [] }]));
  const pruner = createPruner("token-filtering", config, { fusion }, {
    backend,
    trace: ({ redundancy }, layer) => ranked.get(layer)!.scores.push(...redundancy),
  });
  const watched = watch(pruner, (layer, r) => ranked.get(layer)!.r.push(...r));
  chunks.forEach((chunk, i) => model.start(watched, { chunk: i }).feed(chunk));
  const rated = specs.map(({ layer, skipRatio }) => {
    const { scores, r } = ranked.get(layer)!;
    const decided = [...r.keys()].filter((t) => t % CONTEXT >= options.warmup);
    const sorted = decided.toSorted((a, b) => r[a]! - r[b]!);
    const redundant = new Set(sorted.slice(0, Math.floor(skipRatio * decided.length + 0.5)));
    const own = Float64Array.from(decided, (t) => scores[t]!);
    return {
      layer,
      auroc: auroc(own, Uint8Array.from(decided, (t) => redundant.has(t) ? 1 : 0)),
      spearman: spearman(own, Float64Array.from(decided, (t) => -r[t]!)),
    };
  });
  const mean = (of: (one: typeof rated[0]) => number) =>
    rated.reduce((sum, one) => sum + of(one), 0) / rated.length;
  const byLayer = rated.map((one) => `${one.layer}: ${one.auroc.toFixed(3)}`).join(", ");
  console.log(
    `${fusion}: AUROC ${mean((one) => one.auroc).toFixed(3)}, Spearman ${
      mean((one) => one.spearman).toFixed(3)
    }; by ` +
      `layer ${byLayer}`,
  );
}
