/**
 * How much of the way from `random` to `oracle` the `learned` rule goes, on one text, with an interval.
 *
 * usage: deno run -A $(deno run -A --no-config --no-lock .std/flags.ts) experiments/verify/learned_gap.ts
 *          --text FILE [--model tiny] [--tokens 16000] [--context 500] [--prune-ratio 0.5] [--threads N] [--unwrap]
 *
 * `random` is the mean of five seeds. Every chunk is a sequence of its own; all rules share recent 16 and tail 0.75,
 * but for the paper's (variance, recent 0). Prints a Markdown table of mean losses and the share of the gap in mean loss
 * that is closed, with a 95% interval from resampled blocks of 64 tokens.
 * `--unwrap` makes a hard-wrapped book look like what `tiny` was trained on: a paragraph a line, quotes and dashes in ASCII.
 */
import { parseArgs } from "@std/cli/parse-args";
import { openCpu } from "../../ffi/mod.ts";
import { scoreSequence } from "../../lib/eval/mod.ts";
import { createPruner, type Pruner } from "../../lib/methods/mod.ts";
import { loadModel } from "../../lib/model/mod.ts";
import { blockBootstrap } from "../../lib/stats/mod.ts";

const args = parseArgs(Deno.args, {
  string: ["text", "model", "tokens", "context", "prune-ratio", "threads"],
  boolean: ["unwrap"],
});
if (!args.text) throw new TypeError("Cannot measure: expected --text FILE");
const context = Number(args.context ?? 500), tokens = Number(args.tokens ?? 16000);
const pruneRatio = Number(args["prune-ratio"] ?? 0.5);

const threads = args.threads === undefined ? undefined : Number(args.threads);
const backend = await openCpu({ threads, build: true });
const { model, tokenizer, config, name, sha256 } = await loadModel(args.model ?? "tiny", backend);
const text = await Deno.readTextFile(args.text);
const ids = tokenizer.encode(args.unwrap ? unwrap(text) : text).slice(0, tokens);
const chunks = Array.from(
  { length: Math.floor(ids.length / context) },
  (_, i) => ids.slice(i * context, (i + 1) * context),
);

function unwrap(book: string): string {
  const ascii = book.replaceAll(/[\u201c\u201d]/g, '"').replaceAll(/[\u2018\u2019]/g, "'").replaceAll(
    "\u2014",
    "--",
  );
  const paragraphs = ascii.split(/\n\s*\n/).map((paragraph) => paragraph.replaceAll(/\s+/g, " ").trim());
  return paragraphs.filter((paragraph) => paragraph !== "").join("\n") + "\n";
}

/** Losses of every chunk, and the share skipped after warm-up over all layers. */
function run(pruner?: Pruner): { nll: Float64Array[]; ratio: number } {
  let skipped = 0;
  const nll = chunks.map((chunk, index) => {
    const own = pruner && { ...pruner, start: () => pruner.start(index) };
    const score = scoreSequence(model, chunk, own);
    for (const mask of score.keep) skipped += mask.filter((kept) => kept === 0).length;
    return score.nll;
  });
  return { nll, ratio: skipped / (chunks.length * (context - 32) * config.numLayers) };
}

const filtering = (options: Parameters<typeof createPruner>[2]) =>
  createPruner("token-filtering", config, { pruneRatio, ...options }, { backend });
const runs = {
  dense: run(),
  "paper (variance, recent 0)": run(filtering({ preset: "paper" })),
  "variance, recent 16": run(filtering({ fusion: "variance" })),
  "variance inverted, recent 16": run(filtering({ fusion: "variance", invert: true })),
  learned: run(filtering({ fusion: "learned" })),
  oracle: run(createPruner("oracle", config, { pruneRatio }, { backend })),
};
const random = Array.from({ length: 5 }, (_, seed) => run(filtering({ fusion: "random", seed })));
const randomMean = {
  nll: random[0]!.nll.map((chunk, c) =>
    chunk.map((_, i) => random.reduce((sum, { nll }) => sum + nll[c]![i]!, 0) / 5)
  ),
  ratio: random.reduce((sum, { ratio }) => sum + ratio, 0) / 5,
};

console.log(
  `${name} (${sha256.slice(0, 12)}), ${
    args.text.split("/").at(-1)
  }: ${chunks.length} x ${context} tokens; ${backend.description}\n`,
);
console.log(
  "| rule | skipped | mean loss | 95% interval of the difference to dense | perplexity |\n| --- | --- | --- | --- | --- |",
);
for (const [rule, { nll, ratio }] of Object.entries({ ...runs, "random (mean of 5 seeds)": randomMean })) {
  const { estimate, low, high } = blockBootstrap([runs.dense.nll, nll], ([dense, own]) => own! - dense!);
  const loss = blockBootstrap([nll], ([own]) => own!, { resamples: 1 }).estimate;
  const difference = rule === "dense"
    ? ""
    : `+${estimate.toFixed(3)} [${low.toFixed(3)}, ${high.toFixed(3)}]`;
  console.log(
    `| ${rule} | ${ratio.toFixed(3)} | ${loss.toFixed(4)} | ${difference} | ${Math.exp(loss).toFixed(1)} |`,
  );
}
const closed = blockBootstrap(
  [randomMean.nll, runs.learned.nll, runs.oracle.nll],
  ([chance, learned, oracle]) => (chance! - learned!) / (chance! - oracle!),
);
const percent = (value: number) => `${(100 * value).toFixed(1)}%`;
console.log(
  `\nlearned closes ${percent(closed.estimate)} of the gap from random to oracle (95% interval ${
    percent(closed.low)
  } to ${percent(closed.high)}).`,
);
