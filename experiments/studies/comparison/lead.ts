/**
 * Makes the table of the repository's README and its first figure, `docs/images/lead_{light,dark}.png`, and the same with its panels
 * one below the other for narrow pages, `lead_narrow_{light,dark}.png`. Needs a Chromium.
 *
 * usage: deno run -A experiments/studies/comparison/lead.ts
 */
import { fileURLToPath } from "node:url";
import { axis, baseLayout, DARK, Figure, type JsonObject, LIGHT } from "../../../lib/plot/mod.ts";
import { type Interval, shareInterval } from "../../../lib/stats/mod.ts";
import { readNeedles } from "../retrieval/needles.ts";
import { controlOf, findTrial, intervalOf, meanOf, readWikitext, type Trial } from "../retrieval/read.ts";
import { formatMarkdown, type PlainTable } from "../../commands/cli/output/table.ts";
import { chunkInterval, type Method, readLosses, showDistances, showNats } from "./losses.ts";
import { fillPage } from "./paper.ts";
import { percent } from "./tables.ts";

/** A bar: its name, its value with an interval, and its colour. */
export interface Bar {
  readonly name: string;
  readonly value: Interval;
  readonly color: string;
}

const RATIO = 0.789, RANDOM = "@muted", RULE = "@series0";
/** Whole parts, from the worst to the best, in words. */
const WHOLE = { none: "all alike", auto: "4 layers whole", heads: "7 heads whole" } as const;

/** Loss increases at 30% of the cache: of random eviction in grey, and of rules, by whole parts. */
export async function collectLosses(): Promise<Bar[]> {
  const trials = await readWikitext();
  return Object.entries(WHOLE).flatMap(([whole, words]) =>
    ["random", "key", ...whole === "heads" ? ["leave-one-out"] : []].map((rule) => ({
      name: `${rule}, ${words}`,
      value: intervalOf("loss", findTrial(trials, { rule, whole, ratio: RATIO })!)!,
      color: rule === "random" ? RANDOM : RULE,
    }))
  );
}

/** Needles that are found in 100 texts of 2,048 tokens, by whole parts; first the full model. */
export async function collectNeedles(): Promise<Bar[]> {
  const { items, full, rows } = await readNeedles(2048);
  const bar = (name: string, found: number, color: string): Bar => {
    const { low, high } = shareInterval(found / items, items);
    return { name, value: { estimate: found, low: items * low, high: items * high }, color };
  };
  return [
    ...Object.entries(WHOLE).flatMap(([whole, words]) =>
      ["random", "key", "leave-one-out"].flatMap((rule) => {
        const found = rows.find((row) => row.rule === rule && row.whole === whole)?.found;
        return found === undefined
          ? []
          : [bar(`${rule}, ${words}`, found, rule === "random" ? RANDOM : RULE)];
      })
    ),
    bar("full cache", full, "@ink"),
  ];
}

/** Half of the queries skipped, and half of the cache evicted, from the study. */
async function listHalves(): Promise<string[][]> {
  const halves = [
    ["queries", "paper", "half of the queries skipped (`paper`)"],
    ["keys", "variance", "half of the cache evicted (`variance`)"],
  ] as const;
  return await Promise.all(halves.map(async ([side, rule, words]) => {
    const { chunks, methods } = await readLosses(`wikitext2_${side}_2048_0.5`);
    const own = methods.find(({ name }) => name.startsWith(`${rule} `))!;
    const random = methods.find(({ name }) => name.startsWith("random"))!, dense = methods[0]!;
    const lossOf = (method: Method) => chunkInterval(chunks, method, dense);
    return [
      ...[words, percent(own.retained.cache), showNats(lossOf(own)), showDistances(own).join(", ")],
      `+${lossOf(random).estimate.toFixed(3)}; ${showDistances(random).join(", ")}`,
    ];
  }));
}

/** The table of README: a row per way to save memory, with random choice in the same settings. */
export async function tabulateReadme(): Promise<PlainTable> {
  const trials = await readWikitext();
  const distances = (trial: Trial) =>
    `${meanOf("kl", trial)!.toFixed(3)}, ${(100 * meanOf("top1", trial)!).toFixed(1)}%`;
  const rows = [
    ["key", "none", "70% evicted (`key`)"],
    ["key", "auto", "the same, 4 retrieval layers whole"],
    ["key", "heads", "the same, 7 retrieval heads whole"],
    ["leave-one-out", "heads", "the same heads, rule `leave-one-out`"],
  ].map(([rule, whole, words]) => {
    const own = findTrial(trials, { rule: rule!, whole: whole!, ratio: RATIO })!;
    const random = controlOf(trials, own)!;
    return [
      ...[words!, percent(own.retained), showNats(intervalOf("loss", own)!), distances(own)],
      `+${meanOf("loss", random)!.toFixed(3)}; ${distances(random)}`,
    ];
  });
  return {
    columns: [
      ...["SmolLM2-135M", "KV cache left", "added loss, nats per token", "KL, top-1"],
      "random: loss; KL, top-1",
    ],
    left: [true],
    rows: [...await listHalves(), ...rows],
  };
}

/** The traces of a panel: bars with their intervals, and each value behind its interval. */
function drawBars(bars: readonly Bar[], panel: "" | "2", digits: number): JsonObject[] {
  const place = { xaxis: `x${panel}`, yaxis: `y${panel}`, showlegend: false }, y = bars.map((_, i) => i);
  return [
    {
      ...{ type: "bar", orientation: "h", ...place, y },
      x: bars.map(({ value }) => value.estimate),
      marker: { color: bars.map(({ color }) => color) },
      error_x: {
        ...{ type: "data", symmetric: false, color: "@ink", thickness: 1.2, width: 0 },
        array: bars.map(({ value }) => value.high - value.estimate),
        arrayminus: bars.map(({ value }) => value.estimate - value.low),
      },
    },
    {
      ...{ type: "scatter", mode: "text", ...place, y, textposition: "middle right" },
      x: bars.map(({ value }) => value.high),
      text: bars.map(({ value }) => ` <b>${value.estimate.toFixed(digits)}</b>`),
      ...{ cliponaxis: false, textfont: { color: "@ink", size: 14 } },
    },
  ];
}

/** The figure; narrow, its panels are one below the other. */
export async function drawLead(isNarrow = false): Promise<Figure> {
  const losses = await collectLosses(), needles = await collectNeedles();
  const most = Math.max(...losses.map(({ value }) => value.high));
  const fraction = losses.length / (losses.length + needles.length + 3);
  const titles = [
    `30% of the KV cache left:${isNarrow ? "<br>" : " "}how much worse is the model?`,
    "… and does it still find a number?",
  ];
  const heading = (text: string, x: number, y: number): JsonObject => ({
    ...{ text: `<b>${text}</b>`, x, xref: "paper", xanchor: "left", y, yref: "paper", yanchor: "bottom" },
    ...{ showarrow: false, font: { size: isNarrow ? 14 : 15, color: "@ink" } },
  });
  const names = (bars: readonly Bar[], more: JsonObject) =>
    axis("", {
      ...{
        tickvals: bars.map((_, i) => i),
        ticktext: bars.map(({ name }) => name),
        tickfont: { size: isNarrow ? 13 : 14 },
      },
      ...{ range: [bars.length - 0.4, -0.6], showgrid: false, ...more },
    });
  const values = (title: string, range: readonly number[], more: JsonObject) =>
    axis("", {
      ...{ range, tickfont: { size: 13 }, nticks: 5, ...more },
      title: { text: title, standoff: 8, font: { size: 13 } },
    });
  const left = isNarrow ? { domain: [0, 1] } : { domain: [0, 0.43] };
  const right = isNarrow ? { domain: [0, 1] } : { domain: [0.7, 1] };
  return new Figure({
    title: "",
    caption: "",
    height: isNarrow ? 760 : 360,
    data: [...drawBars(losses, "", 3), ...drawBars(needles, "2", 0)],
    layout: baseLayout({
      margin: { l: isNarrow ? 200 : 215, r: 24, t: isNarrow ? 48 : 36, b: 56 },
      bargap: 0.28,
      xaxis: values(
        `added loss, nats${isNarrow ? "" : " per token"} (less is better)`,
        [0, 1.16 * most],
        left,
      ),
      yaxis: names(losses, isNarrow ? { domain: [1 - fraction, 1] } : {}),
      xaxis2: values("found in 100 texts (more is better)", [0, 112], {
        ...right,
        anchor: "y2",
      }),
      yaxis2: names(needles, { anchor: "x2", ...(isNarrow && { domain: [0, 0.82 - fraction] }) }),
      annotations: isNarrow
        ? [heading(titles[0]!, -0.92, 1.005), heading(titles[1]!, -0.92, 0.825 - fraction)]
        : [heading(titles[0]!, -0.2, 1.02), heading(titles[1]!, 0.58, 1.02)],
    }),
  });
}

export const README = new URL("../../../README.md", import.meta.url);
export const makeReadmeTables = async () => ({ results: formatMarkdown(await tabulateReadme()) });

if (import.meta.main) {
  await Deno.writeTextFile(README, fillPage(await Deno.readTextFile(README), await makeReadmeTables()));
  for (const [form, width] of [["", 1080], ["_narrow", 440]] as const) {
    const figure = await drawLead(form !== "");
    for (const [name, theme] of [["light", LIGHT], ["dark", DARK]] as const) {
      const path = new URL(`../../../docs/images/lead${form}_${name}.png`, import.meta.url);
      await figure.saveImage(fileURLToPath(path), { width, scale: 1.4, theme });
    }
  }
}
