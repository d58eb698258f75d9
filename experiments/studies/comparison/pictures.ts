/**
 * Makes the pictures of README.md and items.md, images/, from results/. Needs a Chromium.
 *
 * usage: deno run -A $(deno run -A --no-config --no-lock .std/flags.ts) experiments/studies/comparison/pictures.ts
 */
import { axis, baseLayout, Figure, LEGEND, styleRule, withoutShare } from "../../../lib/plot/mod.ts";
import type { Interval } from "../../../lib/stats/mod.ts";
import { collectItems, groupShares, listTasks, type Part, readPart } from "./tables.ts";

/** A method at several shares. */
export interface LossCurve {
  readonly method: string;
  readonly side: "queries" | "keys";
  readonly points: readonly (Interval & { readonly asked: number })[];
}

/** Nats above dense of every method that came out at the share that it was asked for. */
export function collectLosses(part: Part): LossCurve[] {
  return [...groupShares(part)].map(([method, own]) => ({
    method,
    side: [...own.values()].some(({ achievedRatio }) => achievedRatio) ? "queries" : "keys",
    points: [...own].filter(([, { missed }]) => !missed).map(([asked, { toDense }]) => ({
      ...{ estimate: toDense!.estimate, low: toDense!.low, high: toDense!.high, asked },
    })).sort((a, b) => a.asked - b.asked),
  }));
}

const bars = (points: readonly Interval[], color: string) => ({
  ...{ type: "data", symmetric: false, color, thickness: 1.2, width: 3 },
  array: points.map(({ estimate, high }) => high - estimate),
  arrayminus: points.map(({ estimate, low }) => estimate - low),
});

/** Draws losses: points of a share stand beside each other, so that their bars can be seen. */
export function plotLosses(own: readonly LossCurve[], what: string): Figure {
  const spread = 0.06 / own.length;
  return new Figure({
    title: `WikiText-2, ${what}: nats a token above dense`,
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
      xaxis: axis("share asked for, %", { tickvals: [20, 30, 40, 50] }),
      yaxis: axis("nats above dense", { rangemode: "tozero" }),
      showlegend: true,
      legend: LEGEND,
    }),
  });
}

/** Draws the mean change of accuracy of methods of some parts, a row each. */
export function plotItems(
  parts: readonly { readonly side: string; readonly part: Part }[],
  title: string,
): Figure {
  const rows = parts.flatMap(({ side, part }) =>
    collectItems(part).filter(({ method }) => method !== "dense").map(({ method, change }) => ({
      name: `${withoutShare(method)} (${side})`,
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
      xaxis: axis("points of accuracy beside dense", {
        zeroline: true,
        zerolinecolor: "@muted",
      }),
      yaxis: axis("", { categoryorder: "array", categoryarray: rows.map(({ name }) => name) }),
      showlegend: false,
    }),
  });
}

/** The methods of some parts on the same text at different shares, those that are named. */
export const joinShares = (parts: readonly Part[], names: ReadonlySet<string>): Part => ({
  methods: parts.flatMap(({ methods }) => methods.filter(({ name }) => names.has(withoutShare(name)))),
  results: [],
});

const namesOf = (...parts: readonly Part[]) =>
  new Set(parts.flatMap(({ methods }) => methods.map(({ name }) => withoutShare(name))));

/** A part without the tasks that another one does not have. */
export function shareTasks(part: Part, other: Part): Part {
  const names = new Set(listTasks(other).map(({ task }) => task));
  return { ...part, results: part.results!.filter(({ task }) => names.has(task)) };
}

/** What methods that alter the model are drawn beside. */
const BESIDE = ["paper", "learned"];

/** The pictures by the names of their files. */
export async function drawPictures(): Promise<{ readonly [name: string]: Figure }> {
  const lower = await readPart("text_0.2_0.4"), half = await readPart("text_short_0.5");
  const altered = [await readPart("fitted_0.2_0.5"), await readPart("in_style_0.2_0.5")];
  const losses = collectLosses(joinShares([lower, half], namesOf(lower)));
  const ofSide = (side: LossCurve["side"]) => losses.filter((curve) => curve.side === side);
  const queries = await readPart("items_queries_0.5"), keys = await readPart("items_keys_0.5");
  return {
    loss_queries: plotLosses(ofSide("queries"), "queries skipped"),
    loss_keys: plotLosses(ofSide("keys"), "keys and values dropped"),
    loss_altered: plotLosses(
      collectLosses(joinShares([...altered, lower, half], new Set([...namesOf(...altered), ...BESIDE]))),
      "methods that alter the model",
    ),
    items: plotItems(
      [{ side: "queries", part: shareTasks(queries, keys) }, { side: "keys", part: keys }],
      `Accuracy beside dense at share 0.5, mean over ${listTasks(keys).length} tasks`,
    ),
    needles: plotItems(
      [
        { side: "all layers alike", part: await readPart("needle_all_0.5") },
        { side: "7, 18, 20, 23 whole", part: await readPart("needle_recall_0.5") },
        { side: "2, 3, 8, 24 whole", part: await readPart("needle_text_0.5") },
      ],
      "Needles found in 512 tokens beside dense, half of the keys dropped",
    ),
  };
}

if (import.meta.main) {
  await Deno.mkdir(new URL("images/", import.meta.url), { recursive: true });
  for (const [name, figure] of Object.entries(await drawPictures())) {
    await figure.saveImage(new URL(`images/${name}.png`, import.meta.url).pathname, {
      width: 860,
      scale: 1.2,
    });
  }
}
