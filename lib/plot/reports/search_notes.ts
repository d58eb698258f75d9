/** A search and a race in words. */
import type { SweepSummary } from "../../sweep/trial.ts";
import { plural } from "../../plural.ts";

const percent = (share: number) => `${(100 * share).toFixed(0)}%`;

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
    ];
    lines.push(
      `Search by ${sampler}, seed ${seed}, for low ${objectives.join(" and ")}: ${
        plural(proposed, "proposal")
      }${rest.length === 0 ? "" : `, of which ${rest.join(", ")}`}.`,
    );
    const shares = Object.entries(importances);
    if (shares.length > 1) {
      lines.push(
        `What sets the best tenth apart (PED-ANOVA; the bars of importance are of all trials): ${
          shares.map(([axis, share]) => `${axis} ${percent(share)}`).join(", ")
        }.`,
      );
    }
    if (search.hypervolume !== undefined) {
      lines.push(
        `Hypervolume of ${objectives.join(" and ")}, up to 1 each: ${search.hypervolume.toFixed(4)}.`,
      );
    }
  }
  if (race !== undefined) {
    lines.push(
      `Race (${race.kind}): ${stopped.length} of ${
        plural(trials.length + stopped.length, "trial")
      } stopped early, ${percent(1 - race.read / race.of)} of the chunk evaluations saved.`,
    );
  }
  return lines;
}
