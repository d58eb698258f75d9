/** Reads and shows a task's metrics: what tables, plots and reports need of them, whichever task it is. */
import { BLOCK_UNITS, type EvaluationTask, type Headline, type Metric } from "./task.ts";

/** What a task says of its numbers. */
export type TaskMeasures = Pick<EvaluationTask, "loss" | "headline" | "metrics">;

const capitalize = (name: string) => name[0]!.toUpperCase() + name.slice(1);

/** Keys in a filtered model's record: the dense model's headline, and the paired difference of the mean loss. */
export function excessKeys(
  { loss, headline }: Omit<TaskMeasures, "metrics">,
): { dense: string; delta: string; standardError: string } {
  const delta = `${loss.name}Delta`;
  return { dense: `dense${capitalize(headline.name)}`, delta, standardError: `${delta}Se` };
}

/** A loss's unit: `nats a token`. */
export function lossUnit({ loss: { unit, of } }: Pick<TaskMeasures, "loss">): string {
  return `${unit} ${/^[aeiou]/.test(of) ? "an" : "a"} ${of}`;
}

/** Everything that a task measures, in the order of tables. */
export function listMetrics(task: TaskMeasures): readonly (Headline | Metric)[] {
  const { delta, standardError } = excessKeys(task), label = `d${task.loss.label}`;
  const excess = { better: "lower", digits: 4 } as const;
  return [
    task.headline,
    {
      ...excess,
      name: delta,
      label,
      help: `mean loss above the dense model's, ${lossUnit(task)}`,
    },
    {
      ...excess,
      name: standardError,
      label: "se",
      help: `standard error of ${label}: paired, over blocks of ${BLOCK_UNITS} ${task.loss.of}s`,
    },
    ...task.metrics,
  ];
}

/** A number of a record; NaN where it has none (JSON keeps no NaN, and null is a number that could not be had). */
export function readMetric(record: object, name: string): number {
  return (record as { readonly [name: string]: number | null })[name] ?? NaN;
}

/** A metric's value as text, in at most so many decimals, from a million on as `1.2e6`; `-` for what could not be had. */
export function formatMetric(
  { digits, percent }: Pick<Metric, "digits" | "percent">,
  value: number,
  most: number = digits,
): string {
  if (Number.isNaN(value)) return "-";
  if (percent) return `${(100 * value).toFixed(digits)}%`;
  return value < 1e6 ? value.toFixed(Math.min(digits, most)) : value.toExponential(1).replace("e+", "e");
}

/** How a metric of many units is shown: as a share in percent, else with its own digits. */
type Shown = Pick<Metric, "digits" | "percent">;

/** A standard error, or another spread, in a metric's own digits: of a share in points, else of the loss behind it. */
export const formatSpread = ({ percent, digits }: Shown, value: number): string =>
  percent ? (100 * value).toFixed(digits) : value.toFixed(Math.max(digits, 3));

/** A difference, likewise, with its sign. */
export const formatChange = ({ percent }: Shown, value: number): string =>
  signed(percent ? 100 * value : value, percent ? 1 : 3);

/** A metric's value with its standard error: `52.0% ±3.5`. */
export const formatMean = (
  metric: Shown,
  { value, standardError }: { readonly value: number; readonly standardError: number | null },
): string =>
  `${formatMetric(metric, value)}${standardError === null ? "" : ` ±${formatSpread(metric, standardError)}`}`;

/** A number with its sign. */
export const signed = (value: number, digits: number): string =>
  `${value < 0 ? "" : "+"}${value.toFixed(digits)}`;

/** Turns a metric into a cost: lower is better. */
export const costOf = ({ better }: Pick<Metric, "better">, value: number): number =>
  better === "lower" ? value : -value;
