/** A task's metrics: definitions, and how tables, plots and reports read and show them, for any task. */

/** Metrics that every scored unit has, by name: a value a unit. */
export type UnitMetrics = { readonly [name: string]: Float64Array };

/** @internal A number of a task's results: its name and how it is shown. */
export interface Metric {
  /** Its key in records. */
  readonly name: string;
  /** Its column in tables. */
  readonly label: string;
  readonly help: string;
  readonly better: "lower" | "higher";
  readonly digits: number;
  /** Whether it is a fraction, shown in percent. */
  readonly percent?: boolean | undefined;
  /** From the mean over units to the metric; default: the mean itself. */
  readonly fromMean?: (mean: number) => number;
  /** Whether it is a distance of the filtered model from the full one; the full model then has no value. */
  readonly isDistance?: boolean;
  /** For a metric that is plotted against the skipped fraction: the figure's title, axis, and a sentence about it. */
  readonly figure?: { readonly title: string; readonly axis: string; readonly caption: string };
}

/** @internal The metric that a task is known by: a function of the mean loss. */
export interface Headline extends Omit<Metric, "figure" | "fromMean" | "isDistance"> {
  /** From a mean loss to the metric; a linear function where higher is better. */
  readonly fromLoss: (loss: number) => number;
  /** The same in words. */
  readonly formula: string;
}

/** @internal The losses of a task. */
export interface Loss {
  /** Key of the mean loss in the full model's record; differences of it are `<name>Delta` and `<name>DeltaSe`. */
  readonly name: string;
  /** Its name in tables and plots. */
  readonly label: string;
  /** Unit, plural: `nats`. */
  readonly unit: string;
  /** The unit of a loss, singular: `token`. */
  readonly of: string;
  /** Units a block of standard errors and intervals: neighbouring tokens depend on each other; default: {@linkcode BLOCK_UNITS}. */
  readonly block?: number;
}

/** @internal The numbers that a task reports. */
export interface TaskMeasures {
  readonly loss: Loss;
  /** Its main metric: that of the Pareto front and of the order of trials. */
  readonly headline: Headline;
  /** Further metrics of its results. */
  readonly metrics: readonly Metric[];
}

/** Units a block of the paired standard error; blocks do not cross chunks. */
export const BLOCK_UNITS = 64;

/** Units a block of a task's standard errors and intervals. */
export const blockOf = ({ loss }: Pick<TaskMeasures, "loss">): number => loss.block ?? BLOCK_UNITS;

/** Whether a task's units are answers, right, wrong or between: its loss and its metrics in percent are fractions of independent ones. */
export const isOfAnswers = ({ loss, headline }: Pick<TaskMeasures, "loss" | "headline">): boolean =>
  headline.percent === true && blockOf({ loss }) === 1;

const capitalize = (name: string) => name[0]!.toUpperCase() + name.slice(1);

/** Keys in a filtered model's record: the full model's headline, and the paired difference of the mean loss. */
export function excessKeys(
  { loss, headline }: Omit<TaskMeasures, "metrics">,
): { dense: string; delta: string; standardError: string } {
  const delta = `${loss.name}Delta`;
  return { dense: `dense${capitalize(headline.name)}`, delta, standardError: `${delta}Se` };
}

/** A loss's unit: `nats per token`. */
export function lossUnit({ loss: { unit, of } }: Pick<TaskMeasures, "loss">): string {
  return `${unit} per ${of}`;
}

/**
 * The headline as a mean over units, or as a function of such a mean. The mean is of losses, or of the metric's values
 * where higher is better.
 */
export function metricOfUnits({ fromLoss, formula: _, ...headline }: Headline): Metric {
  return headline.better === "higher" ? headline : { ...headline, fromMean: fromLoss };
}

/** The values whose mean is used by {@linkcode metricOfUnits}. */
export const valuesOfUnits = ({ better, fromLoss }: Headline, losses: Float64Array): Float64Array =>
  better === "higher" ? losses.map(fromLoss) : losses;

/** Everything that a task measures, in the order of tables. */
export function listMetrics(task: TaskMeasures): readonly (Headline | Metric)[] {
  const { delta, standardError } = excessKeys(task),
    label = `${task.loss.label} increase`,
    block = blockOf(task);
  const excess = { better: "lower", digits: 4 } as const;
  return [
    task.headline,
    {
      ...excess,
      name: delta,
      label,
      help: `mean loss minus the full model's, ${lossUnit(task)}`,
    },
    {
      ...excess,
      name: standardError,
      label: "95%",
      help: `95% interval of ${label}: paired, over ${
        block === 1 ? "" : `blocks of ${block} `
      }${task.loss.of}s`,
    },
    ...task.metrics,
  ];
}

/** A number of a record; NaN where it has none (JSON keeps no NaN, and null is a number that could not be had). */
export function readMetric(record: object, name: string): number {
  return (record as { readonly [name: string]: number | null })[name] ?? NaN;
}

/** A metric's value as text with limited decimals, from a million on as `1.2e6`; `-` if there is none. */
export function formatMetric(
  { digits, percent }: Pick<Metric, "digits" | "percent">,
  value: number,
  most: number = digits,
): string {
  if (Number.isNaN(value)) return "-";
  if (percent) return `${(100 * value).toFixed(digits)}%`;
  return value < 1e6 ? value.toFixed(Math.min(digits, most)) : value.toExponential(1).replace("e+", "e");
}

/** How a metric of many units is shown: as a fraction in percent, else with its own digits. */
type Shown = Pick<Metric, "digits" | "percent" | "fromMean">;

/** By how much a metric moves where the mean behind it moves from one place by a change: in the metric's own unit. */
const moveOf = ({ fromMean = (mean) => mean }: Shown, mean: number, change: number): number =>
  fromMean(mean + change) - fromMean(mean);

/** A spread of the mean behind a metric, from a mean upwards, in the metric's unit: of a fraction in points. */
export function formatSpread(metric: Shown, spread: number, mean: number): string {
  const { percent, digits, fromMean } = metric, moved = Math.abs(moveOf(metric, mean, spread));
  if (percent) return (100 * moved).toFixed(digits);
  return fromMean === undefined ? moved.toFixed(Math.max(digits, 3)) : formatMetric({ digits }, moved);
}

/** A change of the mean behind a metric, from a mean on, likewise, with its sign. */
export function formatChange(metric: Shown, change: number, mean: number): string {
  const { percent, digits, fromMean } = metric, moved = moveOf(metric, mean, change);
  if (percent) return signed(100 * moved, 1);
  if (fromMean === undefined) return signed(moved, 3);
  return `${moved < 0 ? "-" : "+"}${formatMetric({ digits }, Math.abs(moved))}`;
}

const STEP = 1e-6;

/** A metric's value with its standard error, of a function of a mean by the delta method: `52.0% ±3.5`. */
export function formatMean(
  metric: Shown,
  { value, mean, standardError }: {
    readonly value: number;
    readonly mean: number;
    readonly standardError: number | null;
  },
): string {
  if (standardError === null) return formatMetric(metric, value);
  const slope = (moveOf(metric, mean, STEP) - moveOf(metric, mean, -STEP)) / (2 * STEP);
  // In the metric's unit already: as of a mean itself.
  const { percent, digits, fromMean } = metric, spread = Math.abs(slope) * standardError;
  const shown = fromMean === undefined
    ? formatSpread({ digits, percent }, spread, 0)
    : formatMetric({ digits }, spread);
  return `${formatMetric(metric, value)} ±${shown}`;
}

export const signed = (value: number, digits: number): string =>
  `${value < 0 ? "" : "+"}${value.toFixed(digits)}`;

/** Turns a metric into a cost: lower is better. */
export const costOf = ({ better }: Pick<Metric, "better">, value: number): number =>
  better === "lower" ? value : -value;
