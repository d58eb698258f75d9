/**
 * Finds retrieval layers. On a text and its repetition, one layer at a time attends only to the warm-up and the window;
 * the divergence from the full model is its score. A few layers have nearly all of it. --out is a file for
 * `--skip-ratios`: these layers keep every key, and the others drop more, to the same mean.
 *
 * usage: deno run -A experiments/studies/cheap_skips/layers.ts
 *          --text FILE [--model tiny] [--tokens 1024] [--recent 64] [--warmup 64] [--whole 4] [--kv-ratio 0.75]
 *          [--threads N] [--out FILE.json]
 */
import { parseArgs } from "@std/cli/parse-args";
import { openCpu } from "../../../ffi/mod.ts";
import type { Backend } from "../../../lib/backend.ts";
import { type EvaluatedModel, PerplexityEvaluation } from "../../../lib/eval/mod.ts";
import { createPruner } from "../../../lib/methods/mod.ts";
import { loadModel, type ModelConfig } from "../../../lib/model/mod.ts";
import { formatMarkdown } from "../../commands/cli/output/table.ts";

/** The model that is measured. */
export interface Measured {
  readonly model: EvaluatedModel;
  readonly config: ModelConfig;
  readonly backend: Backend;
}

/** Mean divergences in nats per token, by layer, if only this layer drops all keys outside of its window. */
export async function measureLayers(
  { model, config, backend }: Measured,
  ids: Int32Array<ArrayBuffer>,
  options: { readonly recent: number; readonly warmup: number },
): Promise<number[]> {
  const evaluation = new PerplexityEvaluation(model, ids, { context: ids.length }), found: number[] = [];
  for (let layer = 0; layer < config.numLayers; layer++) {
    const skipRatios = Array.from({ length: config.numLayers }, (_, i) => Number(i === layer));
    const pruner = createPruner(
      "token-filtering",
      config,
      { side: "key", kvFusion: "key", skipRatios, ...options },
      { backend },
    );
    found.push((await evaluation.run(pruner)).kl);
  }
  return found;
}

/** Ratios with mean `kvRatio`: the `whole` layers of largest `divergences` keep all keys, the others drop equally. */
export function spareLayers(divergences: readonly number[], whole: number, kvRatio: number): number[] {
  const count = divergences.length, ratio = kvRatio * count / (count - whole);
  if (!(ratio <= 1)) {
    throw new RangeError(
      `Cannot spare ${whole} of ${count} layers: the others would drop ${ratio}, expected at most 1`,
    );
  }
  const least = divergences.toSorted((a, b) => b - a)[whole] ?? -Infinity;
  return divergences.map((divergence) => divergence > least ? 0 : ratio);
}

if (import.meta.main) {
  const args = parseArgs(Deno.args, {
    string: ["text", "model", "tokens", "recent", "warmup", "whole", "kv-ratio", "threads", "out"],
  });
  if (!args.text) {
    console.error("Cannot measure: expected --text FILE");
    Deno.exit(2);
  }
  const number = (name: string, otherwise: number) => Number(args[name] ?? otherwise);
  const backend = await openCpu({
    threads: args.threads === undefined ? undefined : Number(args.threads),
    build: true,
  });
  const { model, tokenizer, config } = await loadModel(args.model ?? "tiny", backend);
  const tokens = number("tokens", 1024), text = await Deno.readTextFile(args.text);
  const said = tokenizer.encode(text.slice(0, tokens * 16), { bos: false }).slice(0, tokens);
  const divergences = await measureLayers({ model, config, backend }, Int32Array.from([...said, ...said]), {
    recent: number("recent", 64),
    warmup: number("warmup", 64),
  });
  console.log(formatMarkdown({
    columns: ["layer", "KL"],
    left: [],
    rows: divergences.map((kl, i) => [String(i), kl.toFixed(4)]),
  }));
  const ratios = spareLayers(divergences, number("whole", 4), number("kv-ratio", 0.75));
  const list = JSON.stringify(ratios.map((ratio) => Number(ratio.toFixed(4))));
  if (args.out) await Deno.writeTextFile(args.out, `${list}\n`);
  console.log(`\n--side key --skip-ratios ${args.out ?? `FILE.json, which holds\n${list}`}`);
}
