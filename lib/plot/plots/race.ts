/** A race of trials: how far each was behind the best of its share, chunk by chunk, and where it was stopped. */
import { lossUnit } from "../../eval/metrics.ts";
import { findTask } from "../../eval/tasks/mod.ts";
import { readRecord } from "../../methods/options.ts";
import type { SweepSummary } from "../../sweep/trial.ts";
import { chunkMeans, raceGroup } from "../../sweep/trial_race.ts";
import { axis, baseLayout, emptyFigure, Figure, type JsonObject } from "../figure/figure.ts";
import { plural } from "../figure/page.ts";
import { configurationLines } from "../figure/trial_label.ts";

const TITLE = "The race: who was stopped, and when";

/** One trial of a race. */
export interface RaceCurve {
  /** Mean loss beyond the best finished trial of the same share, over the first 1, 2, … chunks. */
  readonly behind: readonly number[];
  /** Why it was stopped; undefined where it read all chunks. */
  readonly stopped?: string;
  /** Configuration, lines of plotly's HTML. */
  readonly hover: string;
}

/** The numbers of the plot. */
export interface RaceCurves {
  /** A curve a trial, the best ones aside. */
  readonly curves: readonly RaceCurve[];
  /** Chunks that a whole trial reads. */
  readonly chunks: number;
  /** Share of the chunks that was not read. */
  readonly saved: number;
  /** Unit of the loss: `nats a token`. */
  readonly unit: string;
}

/** Gathers the losses; undefined where there was no race. */
export function collectRace(summary: SweepSummary): RaceCurves | undefined {
  const { race, stopped = [], trials, dense: { chunks }, environment } = summary;
  if (race === undefined) return undefined;
  const finished = trials.map((trial) => {
    const means = chunkMeans(trial.lossBlocks, chunks);
    return { trial, losses: race.order.map((chunk) => means[chunk]!), stopped: undefined };
  });
  const all = [
    ...finished,
    ...stopped.map((trial) => ({ trial, losses: trial.chunkLosses, stopped: trial.stopped })),
  ];
  const total = (losses: readonly number[]) => losses.reduce((a, b) => a + b, 0);
  const groups = Map.groupBy(all, ({ trial }) => raceGroup(readRecord(trial)));
  const curves = [...groups.values()].flatMap((group): RaceCurve[] => {
    const whole = group.filter(({ stopped }) => stopped === undefined);
    if (whole.length === 0) return [];
    const best = whole.reduce((a, b) => total(b.losses) < total(a.losses) ? b : a);
    return group.filter((one) => one !== best).map(({ trial, losses, stopped }) => {
      let sum = 0;
      return {
        behind: losses.map((loss, i) => (sum += loss - best.losses[i]!) / (i + 1)),
        ...(stopped !== undefined && { stopped }),
        hover: configurationLines(trial).join("<br>"),
      };
    });
  });
  return { curves, chunks, saved: 1 - race.read / race.of, unit: lossUnit(findTask(environment.task)) };
}

/** Draws a line a trial; a cross where one was stopped. */
export function plotRace(numbers: RaceCurves | undefined): Figure {
  if (numbers === undefined) return emptyFigure(TITLE, "No trial was raced here: --race does");
  const { curves, chunks, saved, unit } = numbers;
  const count = curves.filter(({ stopped }) => stopped !== undefined).length;
  const line = ({ behind, stopped, hover }: RaceCurve): JsonObject => ({
    type: "scatter",
    mode: "lines",
    x: behind.map((_, i) => i + 1),
    y: behind,
    text: behind.map(() => hover),
    hovertemplate: "%{text}<br>after %{x} chunks: %{y:.3f} behind<extra></extra>",
    line: { color: stopped === undefined ? "@series0" : "@muted", width: stopped === undefined ? 2 : 1 },
    showlegend: false,
  });
  const ends = curves.filter(({ stopped }) => stopped !== undefined);
  const crosses: JsonObject = {
    type: "scatter",
    mode: "markers",
    name: "stopped early",
    x: ends.map(({ behind }) => behind.length),
    y: ends.map(({ behind }) => behind.at(-1)!),
    text: ends.map(({ hover, stopped }) => `${hover}<br>stopped: ${stopped}`),
    hovertemplate: "%{text}<extra></extra>",
    marker: { symbol: "x", size: 8, color: "@ink" },
  };
  return new Figure({
    title: TITLE,
    caption:
      `How far each trial's mean loss lies above that of the best finished trial of its share, on the chunks that it has ` +
      `read. Crosses: ${plural(count, "trial")} stopped early, with no result; ${
        (100 * saved).toFixed(0)
      }% of the chunks were not read.`,
    height: 380,
    data: [...curves.map(line), ...(ends.length === 0 ? [] : [crosses])],
    layout: baseLayout({
      xaxis: axis("chunks read", { range: [0, chunks + 1] }),
      yaxis: axis(`behind the best, ${unit}`),
      showlegend: false,
    }),
  });
}
