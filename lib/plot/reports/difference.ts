/** The report of two runs side by side: a summary of their differences, and the table. */
import { blockOf, formatMetric, lossUnit } from "../../eval/metrics.ts";
import { findTask } from "../../eval/tasks/mod.ts";
import {
  type DifferenceRow,
  type DifferenceSide,
  type RunDifference,
  signOf,
} from "../../sweep/compare/difference.ts";
import { markup } from "../figure/html.ts";
import {
  formatTime,
  renderFacts,
  renderPage,
  renderTable,
  renderVerdict,
  type ReportOptions,
  SORT_NOTE,
  tableSection,
  tabulate,
  type TextTable,
} from "../figure/page.ts";
import { plural } from "../../plural.ts";
import { MISSED_NOTE } from "../trials/trial_label.ts";
import { formatInterval } from "../plots/methods/comparison.ts";
import { collectRunDifferences, nameRows, plotRunDifferences } from "../plots/methods/run_differences.ts";
import { formatCsv } from "../csv.ts";

/** A summary of the differences of two runs, in sentences, first the main one. */
export function describeDifference(diff: RunDifference): string[] {
  const { rows, names: [a, b], paired, unpaired, dense, options } = diff, task = findTask(diff.task);
  const both = rows.filter(({ difference }) => difference !== null);
  const count = (sign: number) => both.filter(({ difference }) => signOf(difference!) === sign).length;
  const alone = (side: "a" | "b") => rows.filter((row) => row[side] === null).length;
  const names = nameRows(rows), nameOf = (row: DifferenceRow) => names[rows.indexOf(row)]!;
  const widest =
    both.toSorted((a, b) => Math.abs(b.difference!.estimate) - Math.abs(a.difference!.estimate))[0];
  const what = diff.kind === "sweep" ? "trial" : diff.kind === "compare" ? "method" : "text";
  const shown = (row: DifferenceRow) => `${formatInterval(row.difference!, 4)} ${lossUnit(task)}`;
  const spread = widest && Number.isNaN(widest.difference!.low);
  const all = plural(both.length, what);
  const first = widest === undefined
    ? `No ${what} is in both runs: nothing to compare.`
    : both.length === 1
    ? `B's loss less A's${diff.kind === "score" ? "" : `, “${nameOf(widest)}”`}: ${shown(widest)}.`
    : spread
    ? `${all} in both runs, on one block of text: too short to tell differences from chance.`
    : count(0) === both.length
    ? `Of ${all} none costs more or less in B than in A.`
    : `Of ${all}, ${count(-1)} cost less in B than in A, ${count(1)} more, and ` +
      `${count(0)} no different beyond 95% intervals.`;
  const missing = [["A", alone("b")], ["B", alone("a")]] as const;
  return [
    first,
    ...(widest === undefined || both.length === 1
      ? []
      : [`Furthest apart: “${nameOf(widest)}”, ${shown(widest)}.`]),
    ...options.map(({ name, a, b }) =>
      `Option ${name}: ${a || "without effect"} in A, ${b || "without effect"} in B.`
    ),
    ...(dense?.difference && (signOf(dense.difference) !== 0) && paired
      ? [`The full models differ: ${shown(dense)}.`]
      : []),
    paired
      ? "Paired: both read the same tokens; differences are those of " +
        `${plural(blockOf(task), task.loss.of)} each, intervals by Student's t over these, each by itself.`
      : `Not paired, since ${unpaired}: differences are those of the losses above each run's own full model, with ` +
        "intervals as if the runs were independent.",
    ...missing.flatMap(([name, n]) => n === 0 ? [] : [`${plural(n, what)} in ${name} alone.`]),
    `A: ${a}; B: ${b}.`,
  ];
}

/** Lays two runs out: the full model, then a row per method. Shared by the terminal and the report. */
export function tabulateDifference(diff: RunDifference): TextTable {
  const { rows, dense, kind } = diff, { headline, loss } = findTask(diff.task);
  const hasKeys = rows.some(({ a, b }) => (a?.kvAchievedRatio ?? b?.kvAchievedRatio ?? null) !== null);
  const names = nameRows(rows), all = [...(dense ? [dense] : []), ...rows];
  const pair = (row: DifferenceRow, cell: (side: DifferenceSide) => string) => {
    const cells = [row.a, row.b].map((side) => side === null ? "-" : cell(side));
    return cells[0] === cells[1] ? cells[0]! : cells.join(" | ");
  };
  const ratio = (value: number | null) => value === null ? "-" : value.toFixed(3);
  const metric = (side: DifferenceSide | null) =>
    side === null ? "-" : formatMetric(headline, headline.fromLoss(side.loss));
  return tabulate(all, [
    [
      kind === "score" ? "run" : kind === "compare" ? "method" : "trial",
      "rule, options that vary, and the ratio that was asked for",
      (row) => row === dense ? "dense" : names[rows.indexOf(row)]!,
      true,
    ],
    [
      "Q skipped",
      "achieved pruning ratio: queries skipped, in A | B where they differ",
      (row) => pair(row, (side) => `${ratio(side.achievedRatio)}${side.missed ? " !" : ""}`),
    ],
    hasKeys && [
      "KV evicted",
      "achieved compression ratio: keys and values evicted, likewise",
      (row) => pair(row, (side) => ratio(side.kvAchievedRatio)),
    ],
    [`${headline.label} A`, `${headline.formula}, in A`, (row) => metric(row.a)],
    [`${headline.label} B`, "the same in B", (row) => metric(row.b)],
    [
      "B - A",
      `difference of ${
        diff.paired ? `mean ${loss.label}` : `${loss.label} increase`
      }, ${loss.unit}, with its 95% interval`,
      ({ difference }) => difference === null ? "-" : formatInterval(difference, 4),
    ],
    [
      "sign",
      "< B costs less, > B costs more, beyond the interval",
      ({ difference }) => difference === null ? "" : ["<", "=", ">"][signOf(difference) + 1]!,
    ],
  ]);
}

/** Rows as flat records, for CSV. */
export function listDifferences({ rows, dense }: RunDifference): object[] {
  const short = (side: DifferenceSide | null) => {
    if (side === null) return null;
    const { blocks: _, ...rest } = side;
    return rest;
  };
  const all = [...(dense ? [dense] : []), ...rows], names = [...(dense ? ["dense"] : []), ...nameRows(rows)];
  return all.map(({ a, b, difference }, i) => ({ name: names[i], a: short(a), b: short(b), difference }));
}

/** All of it but the losses' blocks, as plain JSON; the full model is the first row. */
export function recordDifference(diff: RunDifference): object {
  const { dense: _, ...rest } = diff;
  return { ...rest, rows: listDifferences(diff) };
}

/**
 * Renders two runs side by side as a self-contained page.
 *
 * @returns HTML that loads nothing from anywhere.
 */
export function renderDifferenceReport(diff: RunDifference, page: ReportOptions): string {
  const { names: [a, b], conditions, options, environments } = diff;
  const facts = environments.flatMap((environment, i) =>
    environment === undefined ? [] : [
      [
        `${"AB"[i]}: ${diff.names[i]}`,
        `${environment.model} on ${environment.text}, ${formatTime(environment.startedAt)}`,
      ] as const,
    ]
  );
  const differing = [...options.map((value) => ({ ...value, name: `option ${value.name}` })), ...conditions];
  const table = {
    columns: ["", "A", "B"],
    rows: differing.map(({ name, a, b }) => [name, a || "-", b || "-"]),
    left: [true, true, true],
  };
  return renderPage({
    ...page,
    title: `Two runs: ${a} and ${b}`,
    intro: [renderVerdict(describeDifference(diff).slice(0, -1)), renderFacts(facts)],
    sections: [
      plotRunDifferences(collectRunDifferences(diff)),
      tableSection("Method by method", `${MISSED_NOTE}. ${SORT_NOTE}`, tabulateDifference(diff)),
      markup`<h2>What differs in how they ran</h2>${
        differing.length === 0
          ? markup`<p class="muted">Nothing that the records hold.</p>`
          : renderTable(table)
      }`,
    ],
    downloads: [
      { name: "diff.csv", text: formatCsv(listDifferences(diff)) },
      { name: "diff.json", text: JSON.stringify(recordDifference(diff)) },
    ],
  });
}
