/** The table of RULER's tasks with and without whole layers and heads, from results/tasks.json. */
import { formatInterval } from "../../../lib/plot/mod.ts";
import { pairedShareInterval } from "../../../lib/stats/mod.ts";
import type { PlainTable } from "../../commands/cli/output/table.ts";
import { nameWhole, retained, type RetrievalResults } from "./table.ts";

/** A sweep over the items of one task and length. */
export interface TaskResults extends Pick<RetrievalResults, "dense" | "trials"> {
  readonly task: string;
  readonly tokens: number;
}

/** Reads committed results. */
export async function readTaskResults(): Promise<TaskResults[]> {
  return JSON.parse(await Deno.readTextFile(new URL("results/tasks.json", import.meta.url)));
}

/** A row per task, length, rule and whole layers or heads: the fraction found, and its differences from the full model and from fewer whole parts. */
export function tabulateTasks(all: readonly TaskResults[]): PlainTable {
  const found = (losses: readonly number[]) =>
    1 - losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
  const percent = (value: number) => `${(100 * value).toFixed(0)}%`;
  const less = (own: readonly number[], other: readonly number[]) => {
    const { estimate, low, high } = pairedShareInterval(own.map((loss, i) => other[i]! - loss));
    return formatInterval({ estimate: 100 * estimate, low: 100 * low, high: 100 * high }, 0);
  };
  const rows = all.flatMap(({ task, tokens, dense, trials }) => {
    const full = dense.lossBlocks.sums;
    return trials.map((trial) => {
      const own = trial.lossBlocks.sums;
      const from = (other: string) => {
        const found = trials.find(({ kvFusion, whole }) => kvFusion === trial.kvFusion && whole === other);
        return found === undefined ? "-" : less(own, found.lossBlocks.sums);
      };
      return [
        ...[`\`${task}\``, String(tokens), String(own.length), `\`${trial.kvFusion}\``, nameWhole(trial)],
        ...[retained(trial), percent(found(full)), percent(found(own)), less(own, full)],
        ...[trial.whole === "none" ? "-" : from("none"), trial.whole === "heads" ? from("auto") : "-"],
      ];
    });
  });
  return {
    columns: [
      ...["task", "tokens", "texts", "rule", "whole", "cache retained", "full model", "found"],
      ...["difference, points", "from none whole", "from whole layers"],
    ],
    left: [true, false, false, true, true],
    rows,
  };
}
