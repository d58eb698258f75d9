/** A search and a race in words. */
import { showFraction } from "../../sweep/budgets.ts";
import type { SweepSummary } from "../../sweep/trial.ts";
import { plural } from "../../plural.ts";

/** The outcome of a search and the savings of a race, a line each; none where there was neither. */
export function describeSearch({ search, race, stopped = [], trials }: Pick<
  SweepSummary,
  "search" | "race" | "stopped" | "trials"
>): string[] {
  const lines: string[] = [];
  if (search !== undefined) {
    const { sampler, seed, proposed, repeated, refused, firstRefused, objectives, importances } = search;
    const rest = [
      ...(repeated > 0 ? [`${repeated} repeated what was known`] : []),
      ...(refused > 0 ? [`${refused} cannot be (the first: ${firstRefused})`] : []),
    ].join(", ");
    const count = plural(proposed, "proposal"), sought = objectives.join(" and ");
    lines.push(
      `Search by ${sampler}, seed ${seed}, for low ${sought}: ${count}${rest && `, of which ${rest}`}.`,
    );
    const shares = Object.entries(importances).map(([axis, share]) => `${axis} ${showFraction(share)}`);
    const what = "What sets the best tenth apart (PED-ANOVA; the bars of importance are of all trials)";
    if (shares.length > 1) lines.push(`${what}: ${shares.join(", ")}.`);
    if (search.hypervolume !== undefined) {
      lines.push(`Hypervolume of ${sought}, up to 1 each: ${search.hypervolume.toFixed(4)}.`);
    }
  }
  if (race !== undefined) {
    const all = plural(trials.length + stopped.length, "trial"),
      saved = showFraction(1 - race.read / race.of);
    lines.push(
      `Race (${race.kind}): ${stopped.length} of ${all} stopped early, ${saved} of the chunk evaluations saved.`,
    );
  }
  return lines;
}
