/** The table of RULER's tasks with and without whole layers and heads, from results/tasks.json. */
import { mean } from "../../../lib/math/mean.ts";
import type { PlainTable } from "../../commands/cli/output/table.ts";
import { percent, points } from "./needles.ts";

interface Losses {
  readonly lossBlocks: { readonly sums: readonly number[] };
}

/** A sweep over the items of one task and length. */
export interface TaskResults {
  readonly task: string;
  readonly tokens: number;
  readonly dense: Losses;
  readonly trials: readonly (Losses & {
    readonly kvFusion: string;
    readonly whole: string;
    readonly kvBytesHeld: number;
    readonly kvBytesAvoided: number;
  })[];
}

const WHOLE: { readonly [whole: string]: string } = { none: "none", auto: "4 layers", heads: "7 KV heads" };

/** Reads committed results. */
export async function readTaskResults(): Promise<TaskResults[]> {
  return JSON.parse(await Deno.readTextFile(new URL("results/tasks.json", import.meta.url)));
}

/** A row per task, length, rule and whole layers or heads: the fraction found, and its differences from the full model and from fewer whole parts. */
export function tabulateTasks(all: readonly TaskResults[]): PlainTable {
  const found = (losses: readonly number[]) => percent(1 - mean(losses));
  const more = (own: readonly number[], other: readonly number[]) =>
    points(own.map((loss, i) => other[i]! - loss));
  const rows = all.flatMap(({ task, tokens, dense, trials }) => {
    const full = dense.lossBlocks.sums;
    return trials.map((trial) => {
      const own = trial.lossBlocks.sums;
      const from = (other: string) => {
        const same = trials.find(({ kvFusion, whole }) => kvFusion === trial.kvFusion && whole === other);
        return same === undefined ? "-" : more(own, same.lossBlocks.sums);
      };
      return [
        ...[`\`${task}\``, String(tokens), String(own.length), `\`${trial.kvFusion}\``, WHOLE[trial.whole]!],
        ...[
          `${(100 * trial.kvBytesHeld / (trial.kvBytesHeld + trial.kvBytesAvoided)).toFixed(1)}%`,
          found(full),
          found(own),
          more(own, full),
        ],
        ...[trial.whole === "none" ? "-" : from("none"), trial.whole === "heads" ? from("auto") : "-"],
      ];
    });
  });
  return {
    columns: [
      ...["task", "tokens", "texts", "rule", "whole", "cache retained", "full model", "found"],
      ...["difference, points", "from none", "from 4 layers"],
    ],
    left: [true, false, false, true, true],
    rows,
  };
}
