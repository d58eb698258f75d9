/** Loss against each axis of a search, a point per trial. */
import { lossUnit } from "../../../eval/metrics.ts";
import { findTask } from "../../../eval/tasks/mod.ts";
import { excessLoss } from "../../../sweep/importance.ts";
import type { SweepSummary } from "../../../sweep/trial.ts";
import { axis, escapeText, type Figure, type Json, titleUnderScale } from "../../figure/figure.ts";
import { chart, colorScale, isWide, scaleAbove, trace } from "../../figure/parts.ts";
import { hoverLines, isControl, optionText, trialOptions } from "../../trials/trial_label.ts";

/** @internal The numbers of the plot. */
export interface LossSlices {
  /** Unit of the loss: `nats per token`. */
  readonly unit: string;
  readonly axes: readonly {
    readonly name: string;
    readonly isLog: boolean;
    /** Trials in which the axis has an effect. */
    readonly points: readonly {
      readonly value: number | string;
      readonly loss: number;
      /** Its place in the order in which trials ended, from 1. */
      readonly number: number;
      readonly hover: string;
    }[];
  }[];
}

/** Most axes: the most important ones. */
const MAX_AXES = 6;

/** Gathers the trials of a search by each axis that varies, the most important first; undefined where there is no search. */
export function collectSlices({ search, trials, environment }: SweepSummary): LossSlices | undefined {
  if (search === undefined) return undefined;
  const { space, importances } = search, importanceOf = (name: string) => importances[name] ?? 0;
  const rows = trials.filter((trial) => !isControl(trial) && Number.isFinite(excessLoss(trial)))
    .sort((a, b) => a.finishedAt < b.finishedAt ? -1 : 1)
    .map((trial, i) => ({
      options: trialOptions(trial),
      loss: excessLoss(trial),
      number: i + 1,
      hover: [`<b>trial ${i + 1}</b>`, ...hoverLines(trial)].join("<br>"),
    }));
  const axes = space.map((own) => {
    const points = rows.flatMap(({ options, ...row }) => {
      const value = options[own.name];
      if (value === undefined) return [];
      return [{ value: typeof value === "number" ? value : optionText(own.name, value), ...row }];
    });
    const numbers = points.map(({ value }) => value).filter((value) => typeof value === "number");
    const isLog = "log" in own && own.log === true || numbers.length === points.length && isWide(numbers);
    return { name: own.name, isLog, points };
  });
  const varying = axes.filter(({ points }) => new Set(points.map(({ value }) => value)).size > 1);
  const shown = varying.sort((a, b) => importanceOf(b.name) - importanceOf(a.name)).slice(0, MAX_AXES);
  return shown.length === 0 ? undefined : { unit: lossUnit(findTask(environment.task)), axes: shown };
}

const ROW_PIXELS = 250, GAP = 0.12;

/** Draws two axes a row; colours tell early trials from late ones. */
export function plotSlices({ unit, axes }: LossSlices): Figure {
  const columns = Math.min(2, axes.length), rows = Math.ceil(axes.length / columns);
  const losses = axes.flatMap(({ points }) => points.map(({ loss }) => loss));
  const last = Math.max(...axes.flatMap(({ points }) => points.map(({ number }) => number)));
  const yaxes: { [name: string]: Json } = {}, xaxes: { [name: string]: Json } = {};
  axes.forEach(({ name, isLog, points }, i) => {
    const id = i === 0 ? "" : String(i + 1), column = i % columns, row = Math.floor(i / columns);
    const width = (1 - GAP * (columns - 1)) / columns, height = (1 - GAP * (rows - 1)) / rows;
    const left = column * (width + GAP), top = 1 - row * (height + GAP);
    const isText = points.some(({ value }) => typeof value === "string");
    xaxes[`xaxis${id}`] = axis("", {
      title: titleUnderScale(escapeText(name)),
      domain: [left, left + width],
      anchor: `y${id}`,
      ...(isText ? { type: "category" } : isLog ? { type: "log" } : {}),
      nticks: 5,
    });
    yaxes[`yaxis${id}`] = axis(column === 0 ? "loss increase" : "", {
      domain: [top - height, top],
      anchor: `x${id}`,
      ...(i > 0 && { matches: "y" }),
      ...(isWide(losses) && { type: "log", dtick: "D2" }),
      nticks: 5,
    });
  });
  return chart(
    {
      title: "Loss against each axis of the search",
      caption:
        `Loss increase in ${unit} of each trial, controls left out; the axis that sets the best trials apart most comes ` +
        "first. Colours tell early trials from late ones. An axis has no point of a trial on which it has no effect.",
      height: 100 + ROW_PIXELS * rows,
      margin: { l: 58, r: 14, t: 34, b: 82 },
      data: axes.map(({ points }, i) =>
        trace({
          showlegend: false,
          xaxis: `x${i === 0 ? "" : i + 1}`,
          yaxis: `y${i === 0 ? "" : i + 1}`,
          x: points.map(({ value }) => value),
          y: points.map(({ loss }) => loss),
          hover: points.map(({ hover }) => hover),
          marker: {
            color: points.map(({ number }) => number),
            cmin: 1,
            cmax: last,
            colorscale: colorScale("heat"),
            size: 8,
            line: { color: "@ink", width: 0.7 },
            ...(i === 0 &&
              {
                showscale: true,
                colorbar: scaleAbove({ title: { text: "trial", side: "top" }, nticks: 5 }),
              }),
          },
        })
      ),
      ...xaxes,
      ...yaxes,
    } as unknown as Parameters<typeof chart>[0],
  );
}
