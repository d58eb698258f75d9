/** How a study's best value fell, trial by trial. */
import { costOf, type Metric, readMetric } from "../../eval/metrics.ts";
import { findTask } from "../../eval/tasks/mod.ts";
import type { SweepSummary } from "../../sweep/trial.ts";
import { axis, type Figure } from "../figure/figure.ts";
import { chart, trace } from "../figure/parts.ts";
import { isControl } from "../trials/trial_label.ts";

/** Trials in the order in which they came. */
interface Progress {
  readonly headline: Pick<Metric, "better" | "label">;
  readonly trials: readonly {
    readonly number: number;
    readonly value?: number;
    readonly isControl?: boolean;
  }[];
}

/** The trials that were better than all before them; controls are none. */
export function collectBestSoFar(
  { headline, trials }: Progress,
): { readonly trial: number[]; readonly best: number[] } {
  const cost = (value: number) => costOf(headline, value), trial: number[] = [], best: number[] = [];
  for (const { number, value, isControl } of trials) {
    if (value === undefined || isControl || best.length > 0 && cost(value) >= cost(best.at(-1)!)) continue;
    trial.push(number);
    best.push(value);
  }
  return { trial, best };
}

/** The finished trials of a search, as they ended. */
export function progressOf({ trials, environment }: SweepSummary): Progress {
  const { headline } = findTask(environment.task);
  const ended = trials.toSorted((a, b) => a.finishedAt < b.finishedAt ? -1 : 1);
  return {
    headline,
    trials: ended.map((trial, i) => ({
      ...{ number: i + 1, value: readMetric(trial, headline.name), isControl: isControl(trial) },
    })),
  };
}

export function plotBestSoFar(progress: Progress): Figure {
  const { trial, best } = collectBestSoFar(progress), { headline: { label }, trials } = progress;
  const last = trials.findLast(({ value, isControl }) => value !== undefined && !isControl)!;
  return chart({
    title: `Best ${label} so far`,
    caption: "In the order of the trials, whatever they spend; controls left out.",
    height: 260,
    data: [trace({
      x: [...trial, last.number],
      y: [...best, best.at(-1)!],
      line: { shape: "hv", color: "@series0" },
      hover: "trial %{x}: %{y}",
    })],
    xaxis: axis("trial"),
    yaxis: axis(label),
  });
}
