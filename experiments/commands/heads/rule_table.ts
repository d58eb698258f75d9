/** A table of the rules' ranking quality, for the terminal. */
import type { HeadReport } from "../../../lib/heads/mod.ts";
import type { Interval } from "../../../lib/stats/mod.ts";
import type { PlainTable } from "../cli/output/table.ts";

function shown(interval: Interval | null): string {
  if (interval === null) return "-";
  const { estimate, low, high } = interval;
  return `${estimate.toFixed(3)} [${low.toFixed(3)}, ${high.toFixed(3)}]`;
}

export const RULE_COLUMNS = ["rule", "AUROC", "minus random", "above random", "Spearman"] as const;

/** One row per rule, best first: AUROC, its difference from `random`, and Spearman's correlation, over all layers. */
export function tabulateRules({ overall, layers }: HeadReport): PlainTable {
  const rules = overall.rules.toSorted((a, b) => (b.auroc ?? 0) - (a.auroc ?? 0));
  return {
    columns: [...RULE_COLUMNS],
    left: [true, false, false, false, false],
    rows: rules.map(({ rule, aurocInterval, spearmanInterval }) => {
      const toRandom = (comparisons: typeof overall.comparisons) =>
        comparisons.find((one) => one.rule === rule && one.against === "random")?.auroc ?? null;
      const compared = layers.map(({ comparisons }) => toRandom(comparisons)).filter((one) => one !== null);
      const above = compared.filter(({ low }) => low > 0);
      return [
        rule,
        shown(aurocInterval),
        shown(toRandom(overall.comparisons)),
        compared.length === 0 ? "-" : `${above.length}/${compared.length}`,
        shown(spearmanInterval),
      ];
    }),
  };
}
