/**
 * Measures the costs of filtering, and the differences between rules, on one text: paired 95% intervals over blocks of
 * 64 tokens.
 *
 * usage: deno run -A experiments/studies/cheap_skips/measure.ts
 *          --text FILE --out FILE.json [--model tiny] [--tokens 8192] [--context 512] [--threads N] RUN…
 *
 * A RUN is `name={"option": value, …}`; runs of one name, such as seeds of random, are averaged token by token. Runs
 * that FILE.json already contains are not repeated, so more runs can be added. The final table has the loss increase of
 * each run, then the difference between each run and its neighbour, in the given order.
 */
import { parseArgs } from "@std/cli/parse-args";
import { openCpu } from "../../../ffi/mod.ts";
import { PerplexityEvaluation } from "../../../lib/eval/mod.ts";
import { createPruner, type MethodOptions } from "../../../lib/methods/mod.ts";
import { loadModel } from "../../../lib/model/mod.ts";
import { blockBootstrap, type Interval } from "../../../lib/stats/mod.ts";

interface Measured {
  readonly options: string;
  readonly losses: number[][];
  readonly kl: number;
  readonly kvBytes: number;
  readonly attentionFlops: number;
  readonly achievedRatio: number | null;
}

const args = parseArgs(Deno.args, {
  string: ["text", "out", "model", "tokens", "context", "threads"],
  stopEarly: true,
});
if (!args.text || !args.out) throw new TypeError("Cannot measure: expected --text FILE --out FILE.json");
const context = Number(args.context ?? 512), tokens = Number(args.tokens ?? 8192);
const runs = (args._ as unknown[]).map((asked) => {
  const [, name, options] = /^([^=]+)=(.*)$/s.exec(String(asked)) ?? [];
  return { name: name!, options: options! };
});

const threads = args.threads === undefined ? undefined : Number(args.threads);
const backend = await openCpu({ threads, build: true });
const { model, tokenizer, config } = await loadModel(args.model ?? "tiny", backend);
const text = await Deno.readTextFile(args.text);
const ids = tokenizer.encode(text.slice(0, tokens * 8), { bos: tokenizer.addsBos }).slice(0, tokens);
const evaluation = new PerplexityEvaluation(model, ids, { context });
const done: { [key: string]: Measured } = await Deno.readTextFile(args.out).then(JSON.parse, () => ({}));

const dense: Float64Array[] = [];
const { nll } = await evaluation.dense({ onLosses: (_, losses) => dense.push(losses) });
console.error(`dense ${nll.toFixed(4)} on ${ids.length} tokens in chunks of ${context}`);
for (const { options } of runs) {
  if (done[options] !== undefined) continue;
  const pruner = createPruner("token-filtering", config, JSON.parse(options) as MethodOptions, { backend });
  const losses: number[][] = [];
  const result = await evaluation.run(pruner, { onLosses: (_, own) => losses.push([...own]) });
  done[options] = {
    options,
    losses,
    kl: result.kl,
    kvBytes: result.kvBytesHeld / (result.kvBytesHeld + result.kvBytesAvoided),
    attentionFlops: 1 - result.attentionFlopsAvoided / result.attentionFlopsDense,
    achievedRatio: result.achievedRatio,
  };
  await Deno.writeTextFile(args.out, JSON.stringify(done));
  console.error(`${options}: +${result.nllDelta.toFixed(4)} in ${(result.timeMs / 1000).toFixed(0)} s`);
}

const shown = ({ estimate, low, high }: Interval) =>
  `${estimate < 0 ? "" : "+"}${estimate.toFixed(4)} [${low.toFixed(4)}, ${high.toFixed(4)}]`;
const groups = [...Map.groupBy(runs, ({ name }) => name)].map(([name, own]) => {
  const all = own.map(({ options }) => done[options]!);
  const mean = (of: (one: Measured) => number) => all.reduce((sum, one) => sum + of(one), 0) / all.length;
  const losses = dense.map((chunk, c) => chunk.map((_, i) => mean((one) => one.losses[c]![i]!)));
  return { name, runs: all.length, losses, mean };
});
console.log(`| run | loss increase | less the run above | KL | KV cache | attention FLOPs |`);
console.log("| --- | --- | --- | --- | --- | --- |");
groups.forEach(({ name, runs, losses, mean }, i) => {
  const less = (other: Float64Array[]) => shown(blockBootstrap([other, losses], ([a, b]) => b! - a!));
  const percent = (x: number) => `${(100 * x).toFixed(1)}%`;
  console.log(
    `| ${name}${runs > 1 ? `, mean of ${runs} seeds` : ""} | ${less(dense)} | ${
      i === 0 ? "" : less(groups[i - 1]!.losses)
    } | ${mean(({ kl }) => kl).toFixed(3)} | ${percent(mean(({ kvBytes }) => kvBytes))} | ${
      percent(mean(({ attentionFlops }) => attentionFlops))
    } |`,
  );
});
