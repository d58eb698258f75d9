/**
 * Makes the pictures of README.md and items.md, images/, from results/. Needs a Chromium.
 *
 * usage: deno run -A experiments/studies/comparison/pictures.ts
 */
import { fileURLToPath } from "node:url";
import { axis, baseLayout, Figure, LEGEND, styleRule, withoutRatio } from "../../../lib/plot/mod.ts";
import type { Interval } from "../../../lib/stats/mod.ts";
import { collectItems, groupRatios, listTasks, type Part, readPart } from "./tables.ts";

/** A method at several ratios. */
export interface LossCurve {
  readonly method: string;
  readonly side: "queries" | "keys";
  readonly points: readonly (Interval & { readonly asked: number })[];
}

/** Loss increase of every method that reached the requested ratio. */
export function collectLosses(part: Part): LossCurve[] {
  return [...groupRatios(part)].map(([method, own]) => ({
    method,
    side: [...own.values()].some(({ achievedRatio }) => achievedRatio) ? "queries" : "keys",
    points: [...own].filter(([, { missed }]) => !missed).map(([asked, { lossIncrease }]) => ({
      ...{ estimate: lossIncrease!.estimate, low: lossIncrease!.low, high: lossIncrease!.high, asked },
    })).sort((a, b) => a.asked - b.asked),
  }));
}

const bars = (points: readonly Interval[], color: string) => ({
  ...{ type: "data", symmetric: false, color, thickness: 1.2, width: 3 },
  array: points.map(({ estimate, high }) => high - estimate),
  arrayminus: points.map(({ estimate, low }) => estimate - low),
});

/** Draws losses: points of one ratio are next to each other, so that their bars can be seen. */
export function plotLosses(own: readonly LossCurve[], what: string): Figure {
  const spread = 0.06 / own.length;
  return new Figure({
    title: `WikiText-2, ${what}: loss increase in nats per token`,
    caption: "Bars are 95% intervals over blocks of 64 tokens.",
    height: 400,
    data: own.map(({ method, points }, i) => {
      const { color, symbol, dash } = styleRule(method);
      return {
        ...{ type: "scatter", mode: "lines+markers", name: method },
        x: points.map(({ asked }) => 100 * (asked + (i - (own.length - 1) / 2) * spread)),
        y: points.map(({ estimate }) => estimate),
        error_y: bars(points, color),
        line: { color, dash, width: 1.2 },
        marker: { color, symbol, size: 8 },
      };
    }),
    layout: baseLayout({
      xaxis: axis("requested ratio, %", { tickvals: [20, 30, 40, 50] }),
      yaxis: axis("loss increase", { rangemode: "tozero" }),
      showlegend: true,
      legend: LEGEND,
    }),
  });
}

/** Draws the mean change of accuracy of methods of some parts, one row per method. */
export function plotItems(
  parts: readonly { readonly side: string; readonly part: Part }[],
  title: string,
): Figure {
  const rows = parts.flatMap(({ side, part }) =>
    collectItems(part).filter(({ method }) => method !== "dense").map(({ method, change }) => ({
      name: `${withoutRatio(method)} (${side})`,
      side,
      change,
    }))
  ).sort((a, b) => a.change.estimate - b.change.estimate);
  return new Figure({
    title,
    caption: "Bars are 95% intervals, paired by items.",
    height: 90 + 22 * rows.length,
    data: parts.map(({ side }, i) => {
      const own = rows.filter((row) => row.side === side), color = `@series${i}`;
      return {
        ...{ type: "scatter", mode: "markers", name: side },
        x: own.map(({ change }) => change.estimate),
        y: own.map(({ name }) => name),
        error_x: bars(own.map(({ change }) => change), color),
        marker: { color, size: 9, symbol: ["circle", "square", "diamond"][i % 3]! },
      };
    }),
    layout: baseLayout({
      margin: { l: 200, r: 14, t: 34, b: 52 },
      xaxis: axis("points of accuracy compared with the full model", {
        zeroline: true,
        zerolinecolor: "@muted",
      }),
      yaxis: axis("", { categoryorder: "array", categoryarray: rows.map(({ name }) => name) }),
      showlegend: false,
    }),
  });
}

/** The named methods of some parts on the same text at different ratios. */
export const joinRatios = (parts: readonly Part[], names: ReadonlySet<string>): Part => ({
  methods: parts.flatMap(({ methods }) => methods.filter(({ name }) => names.has(withoutRatio(name)))),
  results: [],
});

const namesOf = (...parts: readonly Part[]) =>
  new Set(parts.flatMap(({ methods }) => methods.map(({ name }) => withoutRatio(name))));

/** Methods that are drawn next to those that alter the model. */
const BESIDE = ["paper", "learned"];

/** The pictures by the names of their files. */
export async function drawPictures(): Promise<{ readonly [name: string]: Figure }> {
  const lower = await readPart("text_0.2_0.4"), half = await readPart("text_short_0.5");
  const altered = [await readPart("fitted_0.2_0.5"), await readPart("in_style_0.2_0.5")];
  const losses = collectLosses(joinRatios([lower, half], namesOf(lower)));
  const ofSide = (side: LossCurve["side"]) => losses.filter((curve) => curve.side === side);
  const queries = await readPart("items_500_queries_0.5"), keys = await readPart("items_500_keys_0.5");
  return {
    loss_queries: plotLosses(ofSide("queries"), "queries skipped"),
    loss_keys: plotLosses(ofSide("keys"), "keys and values evicted"),
    loss_altered: plotLosses(
      collectLosses(joinRatios([...altered, lower, half], new Set([...namesOf(...altered), ...BESIDE]))),
      "methods that alter the model",
    ),
    items: plotItems(
      [{ side: "queries", part: queries }, { side: "keys", part: keys }],
      `Accuracy compared with the full model at a ratio of 0.5, mean over ${listTasks(keys).length} tasks`,
    ),
    needles: plotItems(
      [
        { side: "all layers alike", part: await readPart("needle_all_0.5") },
        { side: "7, 18, 20, 23 whole", part: await readPart("needle_recall_0.5") },
        { side: "2, 3, 8, 24 whole", part: await readPart("needle_text_0.5") },
      ],
      "Needles found in 512 tokens compared with the full model, half of the keys evicted",
    ),
  };
}

if (import.meta.main) {
  await Deno.mkdir(new URL("images/", import.meta.url), { recursive: true });
  for (const [name, figure] of Object.entries(await drawPictures())) {
    await figure.saveImage(fileURLToPath(new URL(`images/${name}.png`, import.meta.url)), {
      width: 860,
      scale: 1.2,
    });
  }
}
