/** Where a task's results go. */

/** A folder named by the time: `results/2026-01-02T03-04-05`. */
export function newResultsFolder(): string {
  return `results/${new Date().toISOString().slice(0, 19).replaceAll(":", "-")}`;
}
