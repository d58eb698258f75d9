/**
 * Makes the tables of docs/results/study.md and gemma.md from results/, and with a Chromium the study's figures,
 * `docs/images/{pareto,eviction}_{light,dark}.png`.
 *
 * usage: deno run -A $(deno run -A --no-config --no-lock .std/flags.ts) experiments/studies/comparison/paper.ts
 */
import {
  axis,
  baseLayout,
  DARK,
  Figure,
  formatInterval,
  type JsonObject,
  LIGHT,
  withoutRatio,
} from "../../../lib/plot/mod.ts";
import { formatMarkdown, type PlainTable } from "../../commands/cli/output/table.ts";
import { drawDifferences, makeLargeTables } from "./large.ts";
import { chunkInterval, isBaseline, type Losses, type Method, nameOf, readLosses } from "./losses.ts";
import { sideOf, SIDES } from "./lead.ts";

type Budget = "cache" | "attentionFlops";

const percent = (share: number) => `${(100 * share).toFixed(0)}%`;

/** A row per method at one ratio: loss increase, both seeds of its baseline, difference from it, retained fractions. */
export function tabulateLosses({ chunks, methods, controlOf }: Losses): PlainTable {
  const dense = methods[0]!;
  return {
    columns: [
      ...["method", "loss increase", "baseline, two seeds", "minus baseline"],
      ...["KV cache retained", "attention FLOPs retained"],
    ],
    left: [true],
    rows: methods.filter((method) => !isBaseline(method)).map((method) => {
      const control = controlOf(method);
      const [low, high] = control?.seedLosses.map((loss) => `+${(loss - dense.loss).toFixed(3)}`) ?? [];
      return [
        nameOf(method),
        formatInterval(chunkInterval(chunks, method, dense), 3),
        control === undefined ? "-" : `${low} to ${high}`,
        control === undefined ? "-" : formatInterval(chunkInterval(chunks, method, control), 3),
        percent(method.retained.cache),
        percent(method.retained.attentionFlops),
      ];
    }),
  };
}

/** A method at a ratio, with the losses that it belongs to. */
interface Point {
  readonly method: Method;
  readonly losses: Losses;
}

const listPoints = (all: readonly Losses[]): Point[] =>
  all.flatMap((losses) =>
    losses.methods.filter((method) => !isBaseline(method) && !method.missed && !method.nonCausal)
      .map((method) => ({ method, losses }))
  );

/** The Pareto front: points with a lower loss than all that retain no more of a budget, in whole percent, ascending. */
export function findFront(points: readonly Point[], budget: Budget): Point[] {
  const spent = ({ method }: Point) => Math.round(100 * method.retained[budget]);
  const sorted = points.toSorted((a, b) => spent(a) - spent(b) || a.method.loss - b.method.loss);
  let least = Infinity;
  return sorted.filter(({ method: { loss } }) => loss < least && (least = loss, true));
}

/** The Pareto front of a budget, a row per point. */
export function tabulateFront(all: readonly Losses[], budget: Budget): PlainTable {
  return {
    columns: [
      budget === "cache" ? "KV cache retained" : "attention FLOPs retained",
      "method",
      "ratio",
      "loss increase",
    ],
    left: [false, true],
    rows: findFront(listPoints(all), budget).map(({ method, losses }) => [
      percent(method.retained[budget]),
      nameOf(method),
      String(method.asked),
      formatInterval(chunkInterval(losses.chunks, method, losses.methods[0]!), 3),
    ]),
  };
}

/** Parts on the first 2,048 tokens of WikiText-2: the first two run the same methods at the ratios 0.2 to 0.4, and 0.5. */
export const TEXT_PARTS = ["text_0.2_0.4", "text_short_0.5", "text_more_0.5", "local_0.3_0.5"];

/** The lowest value on the log axis. */
const FLOOR = 0.005;

/** Traces of a panel: bands of the two seeds of random baselines, a line per method, and the front with its intervals. */
function drawPanel(all: readonly Losses[], budget: Budget, panel: "" | "2"): JsonObject[] {
  const place = { type: "scatter", xaxis: `x${panel}`, yaxis: "y" }, isFirst = panel === "";
  const grouped = Map.groupBy(
    all.slice(0, 2).flatMap((losses) => losses.methods.map((method) => ({ method, losses }))),
    ({ method }) => withoutRatio(method.name),
  );
  const left = ({ method }: Point) => 100 * method.retained[budget];
  const above = ({ method: { loss }, losses }: Point) => Math.max(FLOOR, loss - losses.methods[0]!.loss);
  const lines = [...grouped].flatMap(([name, found]): JsonObject[] => {
    const points = found.toSorted((a, b) => left(a) - left(b));
    const { method } = points[0]!;
    if (points.length < 3) return [];
    if (name.startsWith("random")) {
      const ends = (end: 0 | 1) =>
        points.map(({ method: { seedLosses }, losses }) =>
          Math.max(FLOOR, seedLosses[end] - losses.methods[0]!.loss)
        );
      return [{
        ...{
          ...place,
          mode: "lines",
          fill: "toself",
          fillcolor: "@band",
          name: "random baselines, both seeds",
        },
        ...{
          legendgroup: "random",
          line: { color: "@muted", width: 1 },
          showlegend: isFirst && name === "random-protected for paper",
        },
        x: [...points, ...points.toReversed()].map(left),
        y: [...ends(1), ...ends(0).reverse()],
      }];
    }
    if (isBaseline(method)) return [];
    const { label, color, symbol } = SIDES[sideOf(method)];
    return [{
      ...{ ...place, mode: "lines+markers", name: label, legendgroup: label },
      showlegend: isFirst && ["paper", "keydiff", "local"].includes(name),
      x: points.map(left),
      y: points.map(above),
      text: points.map(({ method }) => method.name),
      line: { color, width: 1.1 },
      marker: { color, symbol, size: 5 },
    }];
  });
  const front = findFront(listPoints(all), budget);
  const intervals = front.map(({ method, losses }) =>
    chunkInterval(losses.chunks, method, losses.methods[0]!)
  );
  return [
    ...lines.sort((a, b) => Number(b.legendgroup === "random") - Number(a.legendgroup === "random")),
    {
      ...{
        ...place,
        mode: "lines+markers",
        name: "Pareto front, 95% over whole chunks",
        legendgroup: "front",
        showlegend: isFirst,
      },
      x: front.map(left),
      y: front.map(above),
      error_y: {
        ...{ type: "data", symmetric: false, color: "@ink", thickness: 1, width: 3 },
        array: intervals.map(({ high }, i) => Math.max(0, high - above(front[i]!))),
        arrayminus: intervals.map(({ low }, i) => above(front[i]!) - Math.max(FLOOR, low)),
      },
      line: { color: "@ink", width: 1.6, dash: "dot" },
      marker: { color: "rgba(0,0,0,0)", size: 10, line: { color: "@ink", width: 1.6 } },
    },
  ];
}

/** The figure, from the committed comparisons. */
export async function drawPareto(): Promise<Figure> {
  const all = await Promise.all(TEXT_PARTS.map(readLosses));
  const small = (title: string, more: Parameters<typeof axis>[1]) =>
    axis("", { ...more, title: { text: title, standoff: 8, font: { size: 13 } } });
  const ticks = [0.01, 0.03, 0.1, 0.3, 1, 3], percents = { ticksuffix: "%", autorange: "reversed" };
  return new Figure({
    title: "",
    caption: "",
    height: 420,
    data: [...drawPanel(all, "cache", ""), ...drawPanel(all, "attentionFlops", "2")],
    layout: baseLayout({
      margin: { l: 64, r: 14, t: 16, b: 92 },
      xaxis: small("KV cache retained", { ...percents, domain: [0, 0.48] }),
      xaxis2: small("attention FLOPs retained", { ...percents, domain: [0.53, 1], anchor: "y" }),
      yaxis: small("loss increase, nats per token", {
        ...{ type: "log", range: [Math.log10(FLOOR), 0.75], tickvals: ticks, ticktext: ticks.map(String) },
      }),
      legend: { orientation: "h", x: 0, y: -0.17, font: { size: 12 } },
    }),
  });
}

/** The tables of the pages, by the names that their comments give them. */
export async function makeTables(): Promise<{ readonly [name: string]: string }> {
  const all = await Promise.all(TEXT_PARTS.map(readLosses));
  return {
    ...await makeLargeTables(),
    "front of cache": formatMarkdown(tabulateFront(all, "cache")),
    "front of FLOPs": formatMarkdown(tabulateFront(all, "attentionFlops")),
    "gemma wikitext2": formatMarkdown(tabulateLosses(await readLosses("gemma_wikitext2_0.5"))),
    "gemma book": formatMarkdown(tabulateLosses(await readLosses("gemma_book_0.5"))),
  };
}

export const PAGES = ["study", "gemma"].map((name) =>
  new URL(`../../../docs/results/${name}.md`, import.meta.url)
);

/** A page with its tables in place: each after a comment `<!-- table: NAME -->`, up to the next empty line. */
export const fillPage = (page: string, tables: { readonly [name: string]: string }): string =>
  page.replaceAll(
    /(<!-- table: ([\w ]+) -->\n\n).*?(?=\n\n)/gs,
    (_, head, name) => head + tables[name]!.trimEnd(),
  );

if (import.meta.main) {
  const tables = await makeTables();
  for (const page of PAGES) await Deno.writeTextFile(page, fillPage(await Deno.readTextFile(page), tables));
  for (
    const [file, figure] of [["pareto", await drawPareto()], ["eviction", await drawDifferences()]] as const
  ) {
    for (const [name, theme] of [["light", LIGHT], ["dark", DARK]] as const) {
      const path = new URL(`../../../docs/images/${file}_${name}.png`, import.meta.url);
      await figure.saveImage(path.pathname, { width: 1000, scale: 1.4, theme });
    }
  }
}
