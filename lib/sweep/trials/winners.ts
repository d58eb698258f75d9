/** The best trials of a search, each next to random decisions with the same options. */
import { type OptionsRecord, readRecord } from "../../methods/bind/options.ts";
import { filtersQueries } from "../../methods/bind/sides.ts";
import { BUDGETS } from "../budgets.ts";
import { controlFor, isBaseline } from "../compare/controls.ts";
import { frontOf, missesRequested } from "../summary.ts";
import type { SearchRequest, Trial, Winner } from "../trial.ts";
import { digestTrialOptions } from "./digest.ts";
import { observeTrial } from "./search.ts";
import type { TakenTrial } from "./trial_source.ts";

/** Most winners: each takes a run of its random baseline. */
const MOST_WINNERS = 5;

/** The side and the ratio that were asked of a trial. */
function askedOf(trial: OptionsRecord): string {
  const method = readRecord(trial), ofQueries = filtersQueries(method);
  return `${ofQueries} ${ofQueries ? method.pruneRatio : method.kvRatio}`;
}

/**
 * The best trials of a search: where most ratios have several trials, the best one at each of the highest ratios, by the
 * first objective; else some of the Pareto front, evenly over its attention FLOPs. All decide online, are within the limits, and have the requested
 * ratio.
 */
export function findWinners<T extends Trial>(
  trials: readonly T[],
  { objectives, limits }: Pick<SearchRequest, "objectives" | "limits">,
): T[] {
  const costs = new Map(
    trials.filter((trial) => !trial.nonCausal && !isBaseline(readRecord(trial)) && !missesRequested(trial))
      .map((trial) => [trial, observeTrial({}, trial, objectives, limits)] as const)
      .filter(([, { violation, values }]) => violation === 0 && values.every(Number.isFinite)),
  );
  const costOf = (trial: T) => costs.get(trial)!.values[0]!, spent = BUDGETS.attentionFlops.retained;
  const online = [...costs.keys()].sort((a, b) => costOf(a) - costOf(b)),
    groups = Map.groupBy(online, askedOf);
  if (groups.size <= online.length / 2) {
    const best = [...groups.values()].map(([first]) => first!);
    return best.sort((a, b) => spent(b) - spent(a)).slice(-MOST_WINNERS);
  }
  const isBest = frontOf(online, spent);
  const front = online.filter((_, i) => isBest[i]).sort((a, b) => spent(b) - spent(a));
  const step = (front.length - 1) / (MOST_WINNERS - 1);
  const chosen = Array.from({ length: MOST_WINNERS }, (_, i) => Math.round(i * step));
  return front.filter((_, i) => chosen.includes(i));
}

/**
 * Runs the random baseline of each winner, unless it is among the trials.
 *
 * @param run Runs a trial that no study has.
 */
export async function runControls<T extends Trial>(
  winners: readonly T[],
  trials: readonly T[],
  run: (taken: TakenTrial) => Promise<T>,
): Promise<Winner[]> {
  const known = new Map(trials.map((trial) => [trial.trial, trial])), found: Winner[] = [];
  for (const winner of winners) {
    const method = controlFor("random", readRecord(winner)), digest = method && digestTrialOptions(method);
    if (digest !== undefined && !known.has(digest)) known.set(digest, await run({ digest, method: method! }));
    found.push({ trial: winner.trial, ...(digest !== undefined && { control: known.get(digest)! }) });
  }
  return found;
}
