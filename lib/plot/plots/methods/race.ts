/** A race of trials: how far each was behind the best of its fraction, chunk by chunk, and where it was stopped. */
import { lossUnit } from "../../../eval/metrics.ts";
import { findTask } from "../../../eval/tasks/mod.ts";
import { readRecord } from "../../../methods/bind/options.ts";
import type { SweepSummary } from "../../../sweep/trial.ts";
import { chunkMeans, raceGroup } from "../../../sweep/trials/trial_race.ts";
import { axis, emptyFigure, type Figure } from "../../figure/figure.ts";
import { plural } from "../../../plural.ts";
import { chart, trace } from "../../figure/parts.ts";
import { configurationLines } from "../../trials/trial_label.ts";

const TITLE = "The race: who was stopped, and when";

/**
 * The numbers of the plot: one curve per trial, the best ones aside, and the fraction of the chunks that was not read.
 * `behind` is a trial's mean loss over the first 1, 2, … chunks, less that of the best finished trial of its fraction.
 */
type RaceCurves = NonNullable<ReturnType<typeof collectRace>>;

/** Gathers the losses; undefined where there was no race. */
export function collectRace(summary: SweepSummary) {
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
  const curves = [...groups.values()].flatMap((group) => {
    const whole = group.filter(({ stopped }) => stopped === undefined);
    if (whole.length === 0) return [];
    const best = whole.reduce((a, b) => total(b.losses) < total(a.losses) ? b : a);
    return group.filter((one) => one !== best).map(({ trial, losses, stopped }) => {
      let sum = 0;
      return {
        behind: losses.map((loss, i) => (sum += loss - best.losses[i]!) / (i + 1)),
        stopped,
        hover: configurationLines(trial).join("<br>"),
      };
    });
  });
  return { curves, chunks, saved: 1 - race.read / race.of, unit: lossUnit(findTask(environment.task)) };
}

/** Draws a line per trial; a cross where one was stopped. */
export function plotRace(numbers: RaceCurves | undefined): Figure {
  if (numbers === undefined) return emptyFigure(TITLE, "No trial was raced here: --race does");
  const { curves, chunks, saved, unit } = numbers;
  const ends = curves.filter(({ stopped }) => stopped !== undefined);
  const crosses = trace({
    name: "stopped early",
    x: ends.map(({ behind }) => behind.length),
    y: ends.map(({ behind }) => behind.at(-1)!),
    hover: ends.map(({ hover, stopped }) => `${hover}<br>stopped: ${stopped}`),
    marker: { symbol: "x", size: 8, color: "@ink" },
  });
  const lines = curves.map(({ behind, stopped, hover }) =>
    trace({
      x: behind.map((_, i) => i + 1),
      y: behind,
      text: behind.map(() => hover),
      hover: "%{text}<br>after %{x} chunks: %{y:.3f} behind",
      line: stopped === undefined ? { color: "@series0", width: 2 } : { color: "@muted", width: 1 },
      showlegend: false,
    })
  );
  return chart({
    title: TITLE,
    caption:
      `How far each trial's mean loss lies above that of the best finished trial of its fraction, on the chunks that it has ` +
      `read. Crosses: ${plural(ends.length, "trial")} stopped early, with no result; ${
        (100 * saved).toFixed(0)
      }% of the chunks were not read.`,
    height: 380,
    data: ends.length === 0 ? lines : [...lines, crosses],
    xaxis: axis("chunks read", { range: [0, chunks + 1] }),
    yaxis: axis(`behind the best, ${unit}`),
    showlegend: false,
  });
}
