/**
 * The table of retrieval layers, from results/: loss increase with and without whole layers, paired by whole chunk.
 *
 * usage: deno run -A $(deno run -A --no-config --no-lock .std/flags.ts) experiments/studies/retrieval/table.ts
 */
import { formatInterval } from "../../../lib/plot/mod.ts";
import { pairedBootstrap } from "../../../lib/stats/mod.ts";
import { formatMarkdown, type PlainTable } from "../../commands/cli/output/table.ts";

interface LossBlocks {
  readonly sums: readonly number[];
  readonly sizes: readonly number[];
}

interface Trial {
  readonly kvFusion: string;
  readonly kvRatio: number;
  readonly whole: string;
  readonly schedule: string;
  readonly slope: number;
  readonly kvBytesHeld: number;
  readonly kvBytesAvoided: number;
  readonly lossBlocks: LossBlocks;
}

export interface RetrievalResults {
  readonly environment: { readonly context: number; readonly textTokens: number };
  readonly dense: { readonly lossBlocks: LossBlocks };
  readonly trials: readonly Trial[];
}

/** Reads committed results. */
export async function readResults(name = "wikitext2_32768"): Promise<RetrievalResults> {
  return JSON.parse(await Deno.readTextFile(new URL(`results/${name}.json`, import.meta.url)));
}

/** Chunks that a trial has read: the first ones. */
const countChunks = ({ environment, dense }: RetrievalResults, { sums }: LossBlocks) =>
  sums.length / dense.lossBlocks.sums.length * environment.textTokens / environment.context;

/**
 * Mean difference of losses and its 95% interval; a chunk is the unit, since one eviction acts on all that follows it. Where
 * a trial has read fewer chunks, it is of those.
 */
export function chunkInterval(results: RetrievalResults, own: LossBlocks, other: LossBlocks) {
  const { environment, dense } = results;
  const blocks = dense.lossBlocks.sums.length * environment.context / environment.textTokens;
  const chunks = Math.min(countChunks(results, own), countChunks(results, other));
  const differences = Float64Array.from({ length: chunks }, (_, chunk) => {
    const at = Array.from({ length: blocks }, (_, i) => chunk * blocks + i);
    const sum = (of: readonly number[]) => at.reduce((total, i) => total + of[i]!, 0);
    return (sum(own.sums) - sum(other.sums)) / sum(own.sizes);
  });
  return pairedBootstrap([differences], { blockSize: 1 });
}

const retained = ({ kvBytesHeld, kvBytesAvoided }: Trial) =>
  `${(100 * kvBytesHeld / (kvBytesHeld + kvBytesAvoided)).toFixed(1)}%`;

/** Rules of the preset, and chance; all others are methods of the literature. */
const OWN = ["key", "leave-one-out", "random"];
/** Methods of the literature, as their papers call them. */
const METHODS: { readonly [rule: string]: string } = {
  streaming: "StreamingLLM",
  snapkv: "SnapKV",
  h2o: "H2O",
  tova: "TOVA",
  "keydiff-cache": "KeyDiff",
  knorm: "Knorm",
  lagkv: "LagKV",
  "expected-attention": "ExpectedAttention",
  adakv: "AdaKV",
  "duo-attention": "DuoAttention",
  "razor-attention": "RazorAttention",
};
const nameOf = ({ kvFusion, schedule }: Trial) =>
  schedule === "ramp" ? "PyramidKV" : METHODS[kvFusion] ?? `\`${kvFusion}\``;

/** A row per method and ratio: as it is, with whole layers, and how far `key` with whole layers or heads is from it as it is. */
export function tabulateMethods(results: RetrievalResults): PlainTable {
  const { dense, trials } = results;
  const shown = (own: LossBlocks | undefined, other: LossBlocks | undefined) =>
    own && other ? formatInterval(chunkInterval(results, own, other), 3) : "-";
  const groups = Map.groupBy(
    trials.filter(({ kvFusion, whole }) => !OWN.includes(kvFusion) && whole !== "heads"),
    (trial) => `${trial.kvRatio} ${nameOf(trial)}`,
  );
  const rows = [...groups.values()].map((group) => {
    const of = (whole: string) => group.find((trial) => trial.whole === whole), [first] = group as [Trial];
    const ofKey = (whole: string) =>
      trials.find((trial) =>
        trial.kvFusion === "key" && trial.kvRatio === first.kvRatio && trial.whole === whole
      )?.lossBlocks;
    const asIs = of("none")?.lossBlocks, withWhole = of("auto")?.lossBlocks;
    return {
      ratio: first.kvRatio,
      loss: asIs ? chunkInterval(results, asIs, dense.lossBlocks).estimate : 0,
      cells: [
        nameOf(first),
        String(countChunks(results, asIs ?? first.lossBlocks)),
        retained(of("none") ?? first),
        shown(asIs, dense.lossBlocks),
        shown(withWhole, dense.lossBlocks),
        shown(withWhole, asIs),
        shown(ofKey("auto"), asIs),
        shown(ofKey("heads"), asIs),
      ],
    };
  });
  return {
    columns: [
      "method",
      "chunks",
      "cache retained",
      "as is",
      "with whole layers",
      "difference",
      "`key` with whole layers less as is",
      "`key` with whole heads less as is",
    ],
    left: [true],
    rows: rows.sort((a, b) => a.ratio - b.ratio || a.loss - b.loss).map(({ cells }) => cells),
  };
}

/** A row per rule with whole KV heads, next to the same rule with whole layers, on the chunks that both have read. */
export function tabulateHeads(results: RetrievalResults): PlainTable {
  const { dense, trials } = results;
  const rows = trials.filter(({ whole }) => whole === "heads").flatMap((heads) => {
    const { kvFusion, kvRatio, lossBlocks } = heads, chunks = countChunks(results, lossBlocks);
    const layers = trials.find((other) =>
      other.kvFusion === kvFusion && other.kvRatio === kvRatio && other.whole === "auto"
    );
    if (layers === undefined) return [];
    const count = Math.min(lossBlocks.sums.length, layers.lossBlocks.sums.length);
    const same = {
      sums: layers.lossBlocks.sums.slice(0, count),
      sizes: layers.lossBlocks.sizes.slice(0, count),
    };
    const shown = (own: LossBlocks, other: LossBlocks) =>
      formatInterval(chunkInterval(results, own, other), 3);
    return [[
      METHODS[kvFusion] ?? `\`${kvFusion}\``,
      String(chunks),
      retained(heads),
      shown(lossBlocks, dense.lossBlocks),
      shown(same, dense.lossBlocks),
      shown(lossBlocks, same),
    ]];
  });
  return {
    columns: ["rule", "chunks", "cache retained", "whole heads", "whole layers", "difference"],
    left: [true],
    rows,
  };
}

/** A row per rule and ratio: loss increase, and the difference from the same rule without whole layers. */
export function tabulateRetrieval(results: RetrievalResults): PlainTable {
  const { dense } = results,
    trials = results.trials.filter(({ kvFusion, whole }) => OWN.includes(kvFusion) && whole !== "heads");
  const shown = (own: LossBlocks, other: LossBlocks) => formatInterval(chunkInterval(results, own, other), 3);
  return {
    columns: ["rule", "whole layers", "cache retained", "loss increase", "difference from none whole"],
    left: [true, true],
    rows: trials.toSorted((a, b) => b.kvBytesHeld - a.kvBytesHeld || (a.kvFusion < b.kvFusion ? -1 : 1)).map(
      (trial) => {
        const { kvFusion, kvRatio, whole, lossBlocks } = trial;
        const alike = trials.find((other) =>
          other.kvFusion === kvFusion && other.kvRatio === kvRatio && other.whole === "none"
        );
        return [
          `\`${kvFusion}\``,
          whole === "auto" ? "17, 18, 20, 23" : "none",
          retained(trial),
          shown(lossBlocks, dense.lossBlocks),
          alike === undefined || alike === trial ? "-" : shown(lossBlocks, alike.lossBlocks),
        ];
      },
    ),
  };
}

if (import.meta.main) {
  const results = await readResults();
  for (const tabulate of [tabulateRetrieval, tabulateHeads, tabulateMethods]) {
    console.log(formatMarkdown(tabulate(results)) + "\n");
  }
}
