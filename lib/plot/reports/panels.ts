/** The figures of a report as a list: how the numbers of each are collected and plotted, and when they say something. */
import type { Figure } from "../figure/figure.ts";

/** A plot of a report: its figures, none where there is nothing to see. */
export type Panel<Report> = (report: Report) => readonly Figure[];

/**
 * A plot of a report.
 *
 * @param collect The numbers; undefined where the report has none.
 * @param when Whether they say something; left out: always.
 */
export function panel<Report, Numbers>(
  collect: (report: Report) => Numbers | undefined,
  plot: (numbers: Numbers) => Figure,
  when?: (numbers: Numbers) => boolean,
): Panel<Report> {
  return panelsOf((report) => [collect(report)].filter((numbers) => numbers !== undefined), plot, when);
}

/** A plot that a report has several times, as {@linkcode panel} has it. */
export function panelsOf<Report, Numbers>(
  collect: (report: Report) => readonly Numbers[],
  plot: (numbers: Numbers) => Figure,
  when: (numbers: Numbers) => boolean = () => true,
): Panel<Report> {
  return (report) => collect(report).filter((numbers) => when(numbers)).map((numbers) => plot(numbers));
}

/** The figures of a report, in the order of its list. */
export function drawPanels<Report>(report: Report, panels: readonly Panel<Report>[]): Figure[] {
  return panels.flatMap((draw) => draw(report));
}
