/** The tables of a recipe, next to published numbers: each by its protocol, on one page. */
import { readMetric } from "../../eval/metrics.ts";
import { findTask } from "../../eval/tasks/mod.ts";
import type { LengthRow } from "../../eval/lengths.ts";
import type { Environment } from "../../environment.ts";
import type { Comparison } from "../../sweep/compare/comparison.ts";
import { type Html, markup } from "../figure/html.ts";
import {
  recordSection,
  renderFacts,
  renderPage,
  renderVerdict,
  type ReportOptions,
  runFacts,
  tableSection,
  tabulate,
  type TextTable,
} from "../figure/page.ts";
import { collectComparison, plotComparison } from "../plots/methods/comparison.ts";
import { collectLengths, plotLengths } from "../plots/methods/lengths.ts";
import { tabulateLengths } from "./bench.ts";
import { formatCsv, formatShort } from "../csv.ts";
import { PAPER_LEGEND, tabulatePaper } from "./paper_table.ts";
import { describeBest, warnOfDense } from "./verdict.ts";

export interface PublishedNumber {
  /** Method and ratio: `FLAP 20%`, `dense`. */
  readonly row: string;
  readonly value: number;
  readonly source: string;
}

/** Published numbers of a model under one protocol. */
interface Published {
  /** Its name among the published protocols. */
  readonly protocol: string;
  readonly label: string;
  readonly says: string;
  readonly numbers: readonly PublishedNumber[];
}

/** A protocol of a recipe on one model. */
interface ReproducedPart extends Omit<Published, "numbers"> {
  /** Whether all of the protocol's data were used. */
  readonly isWhole: boolean;
  /** Whether they came from a folder, and have no digest that they were compared with. */
  readonly isUnchecked?: boolean;
  readonly published: readonly PublishedNumber[];
  readonly comparison: Comparison;
}

/** The full model next to the published dense number of the same protocol. */
export interface DenseCheck {
  readonly label: string;
  readonly found: number;
  readonly published: number;
  readonly source: string;
}

/** The content of `reproduce.json`. */
export interface Reproduction {
  readonly recipe: string;
  readonly version: number;
  readonly about: string;
  /** The model that published numbers are of; left out where there are none. */
  readonly model?: string;
  readonly checks: readonly DenseCheck[];
  readonly parts: readonly ReproducedPart[];
  /** Published numbers of the model under protocols that no whole part has. */
  readonly others: readonly Published[];
  /** Time and memory against length; empty where none were measured. */
  readonly lengths: readonly LengthRow[];
  readonly environment: Environment;
}

const PUBLISHED = " (published)", PROTOCOLS = "Protocols";

/** Whether published numbers of a part's protocol may stand in its column. */
export const isComparable = (
  { isWhole, isUnchecked }: Pick<ReproducedPart, "isWhole" | "isUnchecked">,
): boolean => isWhole && isUnchecked !== true;

/** The main table as a paper prints it: a column has one protocol, and published numbers stand in no other one. */
export function tabulateReproduction({ parts }: Pick<Reproduction, "parts">): TextTable {
  return tabulatePaper(parts.map((part) => ({
    ...part.comparison,
    label: headOf(part),
    ...(isComparable(part) && { published: showPublished(part.published) }),
  })));
}

/** The head of a part's column. */
const headOf = ({ label, isWhole }: ReproducedPart) => isWhole ? label : `${label} (part)`;

/** Numbers by row; where two sources differ, both. */
function showPublished(numbers: readonly PublishedNumber[]): ReadonlyMap<string, string> {
  const rows = Map.groupBy(numbers, ({ row }) => row + PUBLISHED);
  return new Map([...rows].map(([row, own]) => [row, own.map(({ value }) => value).join(" / ")]));
}

/** All tables of a reproduction, the main one first. */
export function listReproductionTables(
  reproduction: Reproduction,
): { readonly title: string; readonly note: string; readonly table: TextTable }[] {
  const { parts, others, lengths, model } = reproduction;
  const protocols = tabulate(parts, [
    ["column", "", headOf, true],
    ["protocol", "", ({ says }) => says, true],
    ["data", "", ({ comparison: { environment } }) => environment.text, true],
    ["SHA-256", "of the data", ({ comparison }) => comparison.environment.textSha256.slice(0, 12), true],
    [
      "comparable",
      "whether published numbers of this protocol are comparable",
      (part) => {
        if (part.published.length === 0) return "none published";
        if (!part.isWhole) return "no: a part of the data";
        return isComparable(part) ? "yes" : "no: a file without a known digest";
      },
      true,
    ],
  ]);
  return [
    { title: "Results", note: PAPER_LEGEND.join(" "), table: tabulateReproduction(reproduction) },
    {
      title: PROTOCOLS,
      note: "Published numbers are in the table of results only where protocol and data are the same.",
      table: protocols,
    },
    ...[...Map.groupBy(lengths, ({ batch = 1 }) => batch)].map(([batch, rows]) => ({
      title: `Time and memory against length${batch === 1 ? "" : `, ${batch} sequences`}`,
      note: batch === 1
        ? "Medians on this machine, one sequence at a time."
        : `Medians on this machine, of ${batch} sequences: prefilled one by one, decoded together.`,
      table: tabulateLengths(rows),
    })),
    ...others.map(({ label, says, numbers }) => ({
      title: `Published for ${model}: ${label}`,
      note: `Not comparable with the results: another protocol, or only a part of its data. ${says}.`,
      table: tabulate(numbers, [
        ["method", "", ({ row }) => row, true],
        ["value", "", ({ value }) => String(value)],
        ["source", "", ({ source }) => source, true],
      ]),
    })),
  ];
}

/** The protocols as a list: their texts are too long for a table of a page. */
const listProtocols = (note: string, { columns, rows }: TextTable): Html =>
  markup`<h2>${PROTOCOLS}</h2>\n<p class="muted">${note}</p>\n${
    rows.map(([name, ...cells]) =>
      markup`<p><b>${name}</b>: ${cells.map((cell, i) => `${columns[i + 1]}: ${cell}`).join("; ")}.</p>\n`
    )
  }`;

/** The checks of a reproduction, and methods that filtered nothing, in sentences. */
export function describeChecks({ checks, parts, model }: Reproduction): string[] {
  const checked = checks.map(({ label, found, published, source }) =>
    `Dense ${model} on ${label}: ${found.toFixed(2)}, published ${published} (${source}), ` +
    `${(100 * Math.abs(found / published - 1)).toFixed(1)}% apart.`
  );
  const untouched = parts.flatMap(({ label, comparison: { methods } }) =>
    methods.filter(({ options, reach }) => options && reach && reach.missedKeys + reach.ownSkips === 0)
      .map(({ name }) => `${name} on ${label}`)
  );
  return [
    ...(checks.length > 0 ? checked : ["No published dense number has the same model and protocol."]),
    ...(untouched.length === 0 ? [] : [
      `These reached no scored position, so that their numbers are the full model's: ${
        untouched.join(", ")
      }.`,
    ]),
  ];
}

/** A reproduction in sentences: the first part, then the checks. */
export const describeReproduction = (reproduction: Reproduction): string[] => [
  ...describeBest(reproduction.parts[0]!.comparison),
  ...reproduction.parts.flatMap(({ label, comparison: { environment, methods: [dense] } }) => {
    const { headline } = findTask(environment.task);
    return warnOfDense(label, headline, readMetric(dense!, headline.name));
  }),
  ...describeChecks(reproduction),
];

/**
 * Renders a reproduction as a self-contained page.
 *
 * @returns HTML that loads nothing from anywhere.
 */
export function renderReproduction(reproduction: Reproduction, page: ReportOptions): string {
  const { recipe, version, about, parts, environment } = reproduction;
  const lengths = reproduction.lengths.filter(({ batch = 1 }) => batch === 1);
  const [verdict, ...rest] = describeReproduction(reproduction);
  return renderPage({
    ...page,
    title: `Recipe ${recipe}: ${environment.model}`,
    intro: markup`${renderVerdict([verdict!, ...rest])}<p class="muted">${about}.</p>${
      renderFacts([["recipe", `${recipe}, version ${version}`], ...runFacts(environment)])
    }`,
    sections: [
      ...listReproductionTables(reproduction).map(({ title, note, table }) =>
        title === PROTOCOLS ? listProtocols(note, table) : tableSection(title, note, table)
      ),
      ...(lengths.length === 0
        ? []
        : (["prefill", "memory"] as const).map((measure) => plotLengths(collectLengths(lengths, measure)))),
      ...parts.map(({ comparison, label }) => {
        const figure = plotComparison(collectComparison(comparison, "dense"));
        return { ...figure, title: `${figure.title}: ${label}` };
      }),
      recordSection(
        "Environment",
        environment.protocol,
        JSON.stringify(parts.map(({ comparison }) => comparison.environment), null, 2),
      ),
    ],
    downloads: [
      { name: "reproduce.csv", text: formatCsv(listRows(reproduction)) },
      { name: "reproduce.json", text: formatShort(reproduction) },
    ],
  });
}

/** Every result as a record: a metric of a method under a protocol. */
export function listRows({ parts }: Pick<Reproduction, "parts">): object[] {
  return parts.flatMap(({ protocol, isWhole, comparison: { results = [] } }) =>
    results.map((row) => ({ protocol, isWhole, ...row }))
  );
}
