/**
 * Tests how well the probe ranks layers: its scores next to the ablation of each layer. An ablated layer attends only
 * to the first keys and the recent window. Both run on random ids and on a text, each with its repetition.
 *
 * usage: deno run -A experiments/studies/retrieval/ablation.ts
 *          [--text FILE] [--model tiny] [--seeds 0,1] [--tokens 256] [--threads N] [--out FILE.json]
 */
import { parseArgs } from "@std/cli/parse-args";
import { openCpu } from "../../../ffi/mod.ts";
import { findRetrievalLayers, loadModel, type Tokenizer } from "../../../lib/model/mod.ts";
import { uniform } from "../../../lib/math/random.ts";
import { spearman } from "../../../lib/stats/mod.ts";
import { formatMarkdown, type PlainTable } from "../../commands/cli/output/table.ts";
import { measureLayers } from "../cheap_skips/layers.ts";

/** Measurements of a model. */
export interface Ablations {
  readonly model: string;
  readonly modelSha256: string;
  /** Scores of the probe by layer, with its first seed. */
  readonly scores: readonly number[];
  /** KL divergence in nats per token that the ablation of each layer costs, by text. */
  readonly divergences: { readonly [text: string]: readonly number[] };
}

/** Random ids without control tokens: others than those of the probe. */
function drawIds(tokenizer: Tokenizer, count: number, seed: number): number[] {
  const ids: number[] = [];
  for (let counter = BigInt(seed + 1000) << 32n; ids.length < count; counter++) {
    const id = Math.floor(uniform(counter) * tokenizer.vocabSize);
    if (tokenizer.bytes(id).length > 0) ids.push(id);
  }
  return ids;
}

/** A row for each text and one for their mean: rank correlation with the probe, and the layers that cost most. */
export function tabulateAblations({ scores, divergences }: Ablations): PlainTable {
  const all = Object.values(divergences);
  const mean = scores.map((_, layer) => all.reduce((sum, found) => sum + found[layer]!, 0) / all.length);
  return {
    columns: ["repeated", "rank correlation with the probe", "largest divergences"],
    left: [true, false, true],
    rows: Object.entries({ ...divergences, "their mean": mean }).map(([text, found]) => {
      const order = found.map((_, layer) => layer).sort((a, b) => found[b]! - found[a]!).slice(0, 6);
      return [
        text,
        spearman(Float64Array.from(found), Float64Array.from(scores)).toFixed(2),
        order.join(", "),
      ];
    }),
  };
}

if (import.meta.main) {
  const args = parseArgs(Deno.args, { string: ["text", "model", "seeds", "tokens", "threads", "out"] });
  const threads = args.threads === undefined ? undefined : Number(args.threads);
  const backend = await openCpu({ threads, build: true }), name = args.model ?? "tiny";
  const loaded = await loadModel(name, backend), { tokenizer } = loaded, count = Number(args.tokens ?? 256);
  const texts: { [name: string]: number[] } = {};
  for (const seed of (args.seeds ?? "0").split(",").map(Number)) {
    texts[`random ids, seed ${seed}`] = drawIds(tokenizer, count, seed);
  }
  if (args.text) {
    const text = (await Deno.readTextFile(args.text)).slice(0, count * 16);
    texts["text"] = [...tokenizer.encode(text, { bos: false })].slice(0, count);
  }
  const divergences: { [name: string]: number[] } = {};
  for (const [name, ids] of Object.entries(texts)) {
    const spans = { recent: 32, warmup: 32 };
    divergences[name] = await measureLayers({ ...loaded, backend }, Int32Array.from([...ids, ...ids]), spans);
  }
  const { scores } = findRetrievalLayers(loaded);
  const found: Ablations = { model: name, modelSha256: loaded.sha256, scores, divergences };
  if (args.out) await Deno.writeTextFile(args.out, `${JSON.stringify(found)}\n`);
  console.log(formatMarkdown(tabulateAblations(found)));
}
