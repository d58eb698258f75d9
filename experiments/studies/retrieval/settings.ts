/** Tables of single questions, from results/: a ratio of 0.9, ratios by score, and queries skipped by layer. */
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

/** A trial in which the layers that are not whole keep a fraction in proportion to a power of their score. */
interface PowerTrial extends Trial {
  readonly power: number;
}

/** A row per rule and power. */
export function tabulatePowers(results: RetrievalResults): PlainTable {
  const trials = results.trials as readonly PowerTrial[];
  return {
    columns: ["rule", "power", "chunks", "cache retained", "loss increase", "difference from equal ratios"],
    left: [true],
    rows: trials.map((trial) => {
      const equal = trials.find(({ kvFusion, power }) => kvFusion === trial.kvFusion && power === 0);
      return [
        ...[
          nameOf(trial),
          String(trial.power),
          String(countChunks(results, trial.lossBlocks)),
          retained(trial),
        ],
        ...compare(results, trial, [equal]),
      ];
    }),
  };
}

/** A trial that skips queries; `skipped` names them. */
interface QueryTrial extends Trial {
  readonly skipped: string;
  readonly substitute: string;
  readonly queriesDense: number;
  readonly queriesSkipped: number;
}

/** A row per set of skipped queries. */
export function tabulateQueries(results: RetrievalResults): PlainTable {
  const trials = results.trials as readonly QueryTrial[];
  return {
    columns: [
      "queries that are skipped",
      "their output",
      "fraction",
      "loss increase",
      "difference from random queries",
    ],
    left: [true, true],
    rows: trials.map((trial) => {
      const random = trials.find(({ skipped, substitute }) =>
        skipped.startsWith("random in each layer") && substitute === trial.substitute
      );
      return [
        ...[
          trial.skipped,
          trial.substitute,
          `${(100 * trial.queriesSkipped / trial.queriesDense).toFixed(1)}%`,
        ],
        ...compare(results, trial, [random]),
      ];
    }),
  };
}
