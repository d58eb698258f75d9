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

/** Mean loss increase and its 95% interval; a chunk is the unit, since one eviction acts on all that follows it. */
export function chunkInterval({ environment }: RetrievalResults, own: LossBlocks, other: LossBlocks) {
  const chunks = environment.textTokens / environment.context, blocks = own.sums.length / chunks;
  const differences = Float64Array.from({ length: chunks }, (_, chunk) => {
    const at = Array.from({ length: blocks }, (_, i) => chunk * blocks + i);
    const sum = (of: readonly number[]) => at.reduce((total, i) => total + of[i]!, 0);
    return (sum(own.sums) - sum(other.sums)) / sum(own.sizes);
  });
  return pairedBootstrap([differences], { blockSize: 1 });
}

/** A row per rule and ratio: loss increase, and the difference from the same rule without whole layers. */
export function tabulateRetrieval(results: RetrievalResults): PlainTable {
  const { dense, trials } = results;
  const shown = (own: LossBlocks, other: LossBlocks) => formatInterval(chunkInterval(results, own, other), 3);
  return {
    columns: ["rule", "whole layers", "cache retained", "loss increase", "difference from none whole"],
    left: [true, true],
    rows: trials.toSorted((a, b) => b.kvBytesHeld - a.kvBytesHeld || (a.kvFusion < b.kvFusion ? -1 : 1)).map(
      (trial) => {
        const { kvFusion, kvRatio, whole, kvBytesHeld, kvBytesAvoided, lossBlocks } = trial;
        const alike = trials.find((other) =>
          other.kvFusion === kvFusion && other.kvRatio === kvRatio && other.whole === "none"
        );
        return [
          `\`${kvFusion}\``,
          whole === "auto" ? "17, 18, 20, 23" : "none",
          `${(100 * kvBytesHeld / (kvBytesHeld + kvBytesAvoided)).toFixed(1)}%`,
          shown(lossBlocks, dense.lossBlocks),
          alike === undefined || alike === trial ? "-" : shown(lossBlocks, alike.lossBlocks),
        ];
      },
    ),
  };
}

if (import.meta.main) console.log(formatMarkdown(tabulateRetrieval(await readResults())));
