/** The table of a ratio of 0.9, from results/. */
import { formatInterval } from "../../../lib/plot/mod.ts";
import type { PlainTable } from "../../commands/cli/output/table.ts";
import {
  chunkInterval,
  countChunks,
  nameOf,
  nameWhole,
  retained,
  type RetrievalResults,
  type Trial,
} from "./table.ts";

/** The loss increase of a trial, and its distance from others; "-" for a trial that is not there or is the same. */
function compare(results: RetrievalResults, own: Trial, others: readonly (Trial | undefined)[]): string[] {
  const shown = (blocks: Trial["lossBlocks"]) =>
    formatInterval(chunkInterval(results, own.lossBlocks, blocks), 3);
  return [
    shown(results.dense.lossBlocks),
    ...others.map((other) => other === undefined || other === own ? "-" : shown(other.lossBlocks)),
  ];
}

/** A row per trial of a ratio that leaves room for few whole heads. */
export function tabulateHighRatio(results: RetrievalResults): PlainTable {
  const { trials } = results, duo = trials.find(({ kvFusion }) => kvFusion === "duo-attention");
  return {
    columns: [
      ...["rule", "whole", "chunks", "cache retained", "loss increase"],
      ...["difference from none whole", "from DuoAttention"],
    ],
    left: [true, true],
    rows: trials.map((trial) => {
      const none = trials.find(({ kvFusion, whole }) => kvFusion === trial.kvFusion && whole === "none");
      const isRival = trial === duo;
      return [
        ...[nameOf(trial), isRival ? "as it is" : nameWhole(trial)],
        ...[String(countChunks(results, trial.lossBlocks)), retained(trial)],
        ...compare(results, trial, [isRival ? undefined : none, duo]),
      ];
    }),
  };
}
