/**
 * Makes the first figure of the repository's README, `docs/images/lead_{light,dark}.png`, from results/. Needs a Chromium.
 *
 * usage: deno run -A experiments/studies/comparison/lead.ts
 */
import { axis, baseLayout, DARK, Figure, LIGHT, withoutRatio } from "../../../lib/plot/mod.ts";
import type { Comparison } from "../../../lib/sweep/mod.ts";
import { listTasks, type Part, readPart } from "./tables.ts";

type Method = Comparison["methods"][number];
/** A budget that loss is drawn against. */
type Budget = "cache" | "attentionFlops";

/** The resources that a method can save. */
const SIDES = {
  queries: { label: "query skipping", color: "@series1", symbol: "diamond" },
  keys: { label: "KV-cache eviction", color: "@series0", symbol: "circle" },
  both: { label: "both", color: "@series2", symbol: "square" },
} as const;
type Side = keyof typeof SIDES;

/** A method's loss increase at each ratio, the least first. */
export interface LossLine {
  readonly method: string;
  readonly side: Side;
  readonly isRandom: boolean;
  readonly points: readonly { readonly nats: number; readonly left: Readonly<Record<Budget, number>> }[];
}

const sideOf = ({ achievedRatio, kvAchievedRatio }: Method): Side =>
  !achievedRatio ? "keys" : kvAchievedRatio ? "both" : "queries";

/** The methods of some parts that were run at several ratios of the same text. */
export function collectLines(parts: readonly Part[]): LossLine[] {
  const own = parts.flatMap(({ methods }) => methods).filter(({ lossIncrease, missed }) =>
    lossIncrease !== null && !missed
  );
  return [...Map.groupBy(own, ({ name }) => withoutRatio(name))].flatMap(([method, found]) =>
    found.length < 2 ? [] : [{
      ...{ method, side: sideOf(found[0]!), isRandom: method.startsWith("random") },
      points: found.sort((a, b) => a.asked! - b.asked!).map(({ lossIncrease, retained }) => ({
        nats: lossIncrease!.estimate,
        left: { cache: retained.cache, attentionFlops: retained.attentionFlops },
      })),
    }]
  );
}

/** The fraction of needles that each method finds. */
export function collectNeedles(part: Part): Map<string, number> {
  const { task, metric } = listTasks(part)[0]!;
  const rows = part.results!.filter((row) => row.task === task && row.metric === metric);
  return new Map(rows.map(({ method, value }) => [withoutRatio(method), value]));
}

/** The lines of a panel; of a random baseline the marks are left out. */
function drawLines(lines: readonly LossLine[], budget: Budget, panel: "" | "2") {
  const named = new Set<string>();
  return lines.map(({ method, side, isRandom, points }) => {
    const { label, color, symbol } = SIDES[side], name = isRandom ? "random baseline" : label;
    const isFirst = panel === "" && !named.has(name);
    named.add(name);
    return {
      ...{ type: "scatter", mode: isRandom ? "lines" : "lines+markers", name, legendgroup: name },
      ...{ showlegend: isFirst, xaxis: `x${panel}`, yaxis: "y" },
      x: points.map(({ left }) => 100 * left[budget]),
      y: points.map(({ nats }) => nats),
      text: points.map(() => method),
      line: isRandom ? { color: "@band", width: 7 } : { color, width: 1.3 },
      marker: { color, symbol, size: 6 },
    };
  });
}

/** The needles of methods with all layers alike, and with some layers whole. */
function drawNeedles(alike: ReadonlyMap<string, number>, whole: ReadonlyMap<string, number>) {
  const methods = [...whole.keys()].filter((method) => method !== "dense")
    .sort((a, b) => whole.get(a)! - whole.get(b)!);
  const bars = (name: string, found: ReadonlyMap<string, number>, color: string) => ({
    ...{ type: "bar", orientation: "h", name, xaxis: "x3", yaxis: "y3" },
    x: methods.map((method) => 100 * found.get(method)!),
    y: methods.map((method) => method.replace("random-protected", "random")),
    text: methods.map((method) => `${(100 * found.get(method)!).toFixed(0)}%`),
    ...{ textposition: "outside", cliponaxis: false, textfont: { color: "@ink", size: 11 } },
    marker: { color },
  });
  return [bars("all layers alike", alike, "@muted"), bars("4 retrieval layers whole", whole, "@series3")];
}

/** A panel's axis. */
const small = (title: string, more: Parameters<typeof axis>[1]) =>
  axis("", { ...more, title: { text: title, standoff: 8, font: { size: 13 } } });

/** A panel's title. */
const heading = (text: string, x: number) => ({
  ...{ text, x, xref: "paper", xanchor: "left", y: 1.03, yref: "paper", yanchor: "bottom", showarrow: false },
  font: { size: 13, color: "@ink" },
});

/** The figure, from the committed comparisons. */
export async function drawLead(): Promise<Figure> {
  const lines = collectLines([await readPart("text_0.2_0.4"), await readPart("text_short_0.5")]);
  // Baselines first, so that the lines of methods lie over them.
  lines.sort((a, b) => Number(b.isRandom) - Number(a.isRandom));
  const loss = {
    ...{ type: "log", range: [-2.2, 0.75], tickvals: [0.01, 0.03, 0.1, 0.3, 1, 3] },
    ticktext: ["0.01", "0.03", "0.1", "0.3", "1", "3"],
  };
  const percent = { ticksuffix: "%", autorange: "reversed" };
  return new Figure({
    title: "",
    caption: "",
    height: 380,
    data: [
      ...drawLines(lines, "cache", ""),
      ...drawLines(lines, "attentionFlops", "2"),
      ...drawNeedles(
        collectNeedles(await readPart("needle_all_0.75")),
        collectNeedles(await readPart("needle_recall_0.75")),
      ),
    ],
    layout: baseLayout({
      margin: { l: 64, r: 14, t: 40, b: 84 },
      ...{ barmode: "group", bargap: 0.25 },
      xaxis: small("KV cache retained", { ...percent, domain: [0, 0.3] }),
      yaxis: small("loss increase, nats per token", loss),
      xaxis2: small("attention FLOPs retained", { ...percent, domain: [0.34, 0.64], anchor: "y" }),
      xaxis3: small("needles found", {
        ...{ ticksuffix: "%", range: [0, 112], tickvals: [0, 50, 100], domain: [0.77, 1], anchor: "y3" },
      }),
      yaxis3: axis("", { anchor: "x3" }),
      annotations: [
        heading("loss, by KV cache (WikiText-2)", 0),
        heading("loss, by attention work", 0.34),
        heading("75% evicted, 512 tokens", 0.77),
      ],
      legend: { orientation: "h", x: 0, y: -0.19, font: { size: 12 } },
    }),
  });
}

if (import.meta.main) {
  const figure = await drawLead();
  for (const [name, theme] of [["light", LIGHT], ["dark", DARK]] as const) {
    const path = new URL(`../../../docs/images/lead_${name}.png`, import.meta.url);
    await figure.saveImage(path.pathname, { width: 1000, scale: 1.4, theme });
  }
}
