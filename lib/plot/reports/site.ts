/** A static site of reports: an index, and a page a result, all with links to each other and one plotly next to them. */
import { formatMetric, readMetric } from "../../eval/metrics.ts";
import { findTask } from "../../eval/tasks/mod.ts";
import type { HeadReport } from "../../heads/report.ts";
import type { Comparison } from "../../sweep/compare/comparison.ts";
import type { SweepSummary } from "../../sweep/trial.ts";
import { type BenchReport, renderBenchReport } from "./bench.ts";
import { formatPercent } from "../plots/methods/comparison.ts";
import { renderComparisonReport } from "./comparison.ts";
import { type Html, markup } from "../figure/html.ts";
import { renderHeadsReport } from "./heads.ts";
import { formatTime, renderPage, type ReportOptions } from "../figure/page.ts";
import { plural } from "../../plural.ts";
import { renderReproduction, type Reproduction } from "./reproduction.ts";
import { renderSweepReport } from "./sweep.ts";
import { findMethod } from "../../methods/list.ts";
import { isControl } from "../trials/trial_label.ts";

/** Texts for a kind of results: the title of its pages, the page of one, and the result in a line. */
interface Kind<Data> {
  readonly title: string;
  readonly render: (data: Data, options: ReportOptions) => string;
  readonly headline: (data: Data) => string;
}

interface Results {
  readonly sweep: SweepSummary;
  readonly heads: HeadReport;
  readonly compare: Comparison;
  readonly bench: BenchReport;
  readonly reproduce: Reproduction;
}

/** Every kind of results that has a page in a site. */
const KINDS: { readonly [name in keyof Results]: Kind<Results[name]> } = {
  sweep: {
    title: "Sweep",
    render: renderSweepReport,
    headline({ trials, dense, environment }) {
      const { headline } = findTask(environment.task), { name } = headline;
      const count = plural(trials.length, "trial"), front = trials.filter(({ pareto }) => pareto).length;
      return `${count}, ${front} on the Pareto front; dense ${name} ${
        formatMetric(headline, readMetric(dense, name))
      }.`;
    },
  },
  heads: {
    title: "Heads",
    render: renderHeadsReport,
    headline({ overall: { rules } }) {
      const own = rules.filter(({ rule, auroc }) => auroc !== null && !findMethod(rule)?.looks?.random);
      const best = own.sort((a, b) => b.auroc! - a.auroc!)[0];
      const finds = best && `; ${best.rule} finds redundant tokens best, AUROC ${best.auroc!.toFixed(3)}`;
      return `${rules.length} rules measured${finds ?? ""}.`;
    },
  },
  compare: {
    title: "Comparison",
    render: renderComparisonReport,
    headline({ methods }) {
      const best = methods.find(({ closed, nonCausal, options }) =>
        closed !== null && !nonCausal && !(options && isControl(options))
      );
      const closes = best && `${formatPercent(best.closed!)} of the gap from random to oracle`;
      const says = best ? `; ${best.name} is the best that is causal and closes ${closes}` : "";
      return `${plural(methods.length - 1, "method")}${says}.`;
    },
  },
  reproduce: {
    title: "Recipe",
    render: renderReproduction,
    headline({ recipe, parts, checks }) {
      const counts = [plural(parts.length, "part"), plural(checks.length, "dense number")].join(", ");
      return `Recipe ${recipe}: ${counts} checked against published ones.`;
    },
  },
  bench: {
    title: "Speed",
    render: renderBenchReport,
    headline({ kernels, lengths }) {
      const count = (key: "tokens" | "name", noun: string) =>
        plural(new Set(lengths.map((row) => row[key])).size, noun);
      const measured = plural(kernels.length, "kernel measurement");
      return `${measured}; ${count("tokens", "length")} of ${count("name", "method")}.`;
    },
  },
};

/** One result of a task, by the name of its folder. */
export type SiteEntry = {
  [kind in keyof Results]: { readonly name: string; readonly kind: kind; readonly data: Results[kind] };
}[keyof Results];

/** The texts of an entry's kind, typed for the data of the entry. */
const kindOf = ({ kind }: SiteEntry) => KINDS[kind] as Kind<SiteEntry["data"]>;

/** Names of a site's files that are always there. */
export const SITE_FILES = { index: "index.html", plotly: "plotly.min.js" } as const;

/**
 * Renders a site, without plotly's file, which must be next to the pages as `plotly.min.js`.
 *
 * @param entries In the order of the links; names may repeat.
 * @returns Texts by file name, `index.html` first.
 * @throws {RangeError} If there is no entry, or one does not have the fields of its kind.
 */
export function renderSite(entries: readonly SiteEntry[]): Map<string, string> {
  if (entries.length === 0) {
    throw new RangeError("Cannot make a site: found no result, expected at least one");
  }
  const files = nameFiles(entries);
  const sections = entries.map((entry, i) => explain(entry, () => renderSummary(entry, files[i]!)));
  const links = entries.map((entry, i) => ({
    file: files[i]!,
    label: `${kindOf(entry).title}: ${entry.name}`,
  }));
  const nav = (current: string) => {
    const all = [{ file: SITE_FILES.index as string, label: "All results" }, ...links];
    return markup`${
      all.map(({ file, label }, i) => {
        const own = markup`<span aria-current="page">${label}</span>`;
        return [i > 0 && "\n", file === current ? own : markup`<a href="${file}">${label}</a>`];
      })
    }`;
  };
  const plotly = { src: SITE_FILES.plotly };
  const index = renderPage({
    title: "Token Filtering: results",
    intro: markup`<p class="muted">${plural(sections.length, "result")}.</p>`,
    nav: nav(SITE_FILES.index),
    sections,
    plotly,
  });
  const pages = new Map<string, string>([[SITE_FILES.index, index]]);
  for (const [i, entry] of entries.entries()) {
    const options = { plotly, nav: nav(files[i]!) };
    pages.set(files[i]!, explain(entry, () => kindOf(entry).render(entry.data, options)));
  }
  return pages;
}

/** File names that any system takes, each once. */
function nameFiles(entries: readonly SiteEntry[]): string[] {
  const taken = new Set<string>();
  return entries.map(({ name, kind }) => {
    const base = `${name.replaceAll(/[^\w.-]+/g, "-").replace(/^[.-]+/, "") || "results"}_${kind}`;
    let file = `${base}.html`;
    for (let i = 2; taken.has(file.toLowerCase()); i++) file = `${base}_${i}.html`;
    taken.add(file.toLowerCase());
    return file;
  });
}

/** Renders a part of an entry; an error names the entry. */
function explain<Part>(entry: SiteEntry, render: () => Part): Part {
  try {
    return render();
  } catch (error) {
    const { kind, name } = entry, { message } = error as Error;
    throw new RangeError(
      `Cannot make a page of ${kind} "${name}": ${message} (was it written by another version?)`,
      { cause: error },
    );
  }
}

function renderSummary(entry: SiteEntry, file: string): Html {
  const { environment } = entry.data;
  const where = "model" in environment ? `${environment.model} on ${environment.text}` : environment.platform;
  const when = formatTime(environment.startedAt);
  const facts = [where, environment.backendDescription, `version ${environment.version}`, when];
  const { title, headline } = kindOf(entry);
  return markup`<h2><a href="${file}">${title}: ${entry.name}</a></h2>
<p>${headline(entry.data)}</p>
<p class="muted">${facts.join(" · ")}</p>`;
}
