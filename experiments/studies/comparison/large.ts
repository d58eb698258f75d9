/** Tables and a figure of the parts at a ratio of 0.5 on 32,768 tokens: both sides, two texts, and chunks of two lengths. */
import { axis, baseLayout, Figure, formatInterval, withoutRatio } from "../../../lib/plot/mod.ts";
import type { Interval } from "../../../lib/stats/mod.ts";
import { formatMarkdown, type PlainTable } from "../../commands/cli/output/table.ts";
import {
  chunkInterval,
  isBaseline,
  type Losses,
  type Method,
  type Metric,
  nameOf,
  readLosses,
  showDistances,
  showNats,
  showStandings,
  simultaneousInterval,
  type Standing,
  standingOf,
} from "./losses.ts";

/** Settings: text and tokens per chunk, as parts are named, the title, and the mark in the figure. */
const SETTINGS = [
  ["wikitext2", 2048, "WikiText-2, chunks of 2,048", { color: "@series0", symbol: "circle" }],
  ["wikitext2", 512, "WikiText-2, chunks of 512", { color: "@series0", symbol: "circle-open" }],
  ["messages", 2048, "messages, chunks of 2,048", { color: "@series1", symbol: "square" }],
  ["messages", 512, "messages, chunks of 512", { color: "@series1", symbol: "square-open" }],
] as const;

/** The losses of a setting. */
interface Setting extends Losses {
  readonly title: string;
  readonly marker: { readonly color: string; readonly symbol: string };
}

/** The losses of one side, by setting; `gemma_` = of Gemma 3 270M. */
export const readSettings = (side: "queries" | "keys", model: "" | "gemma_" = ""): Promise<Setting[]> =>
  Promise.all(
    SETTINGS.map(async ([text, context, title, marker]) => ({
      ...{ title, marker },
      ...await readLosses(`${model}${text}_${side}_${context}_0.5`),
    })),
  );

/** A method by its name: each setting has all of them. */
const find = ({ methods }: Losses, name: string) => methods.find((method) => method.name === name)!;

const randomOf = ({ methods }: Losses) => methods.find(({ name }) => name.startsWith("random"))!;
const rulesOf = ({ methods }: Losses) => methods.filter((method) => !isBaseline(method));

/** A method's loss minus that of random, which all methods of a side share. The intervals of a side and model hold all at once. */
export function intervalOverRandom(setting: Losses, method: Method): Interval {
  const count = SETTINGS.length * rulesOf(setting).length;
  return simultaneousInterval(setting.chunks, method, randomOf(setting), count);
}

/** How a method compares with random by each metric: the loss over chunks, the others by the committed tests over blocks. */
export const standings = (setting: Losses, method: Method): Readonly<Record<Metric, Standing>> => ({
  ...method.blockTests,
  loss: standingOf(intervalOverRandom(setting, method)),
});

/** A row per method, which has a cell in each setting. */
function tabulate(
  settings: readonly Setting[],
  isShown: (method: Method) => boolean,
  cell: (setting: Setting, method: Method) => string,
): PlainTable {
  return {
    columns: ["method", ...settings.map(({ title }) => title)],
    left: [true],
    rows: settings[0]!.methods.filter(isShown).map((method) => [
      isBaseline(method) ? withoutRatio(method.name) : nameOf(method),
      ...settings.map((setting) => cell(setting, find(setting, method.name))),
    ]),
  };
}

const isRun = ({ name }: Method) => name !== "dense";
const isRule = (method: Method) => !isBaseline(method);

/** The verdict of each metric, loss first. */
const tabulateVerdicts = (settings: readonly Setting[]): PlainTable =>
  tabulate(settings, isRule, (setting, method) => showStandings(standings(setting, method)));

/** Loss increase of each method; of the random baseline also that of its best and its worst seed. */
const tabulateLosses = (settings: readonly Setting[]): PlainTable =>
  tabulate(settings, isRun, ({ chunks, methods }, method) => {
    const dense = methods[0]!, found = showNats(chunkInterval(chunks, method, dense));
    if (method.seeds === 1) return found;
    return `${found}, seeds ${method.seedLosses.map((loss) => (loss - dense.loss).toFixed(3)).join(" to ")}`;
  });

/** Difference of each method from the random baseline. */
const tabulateDifferences = (settings: readonly Setting[]): PlainTable =>
  tabulate(
    settings,
    isRule,
    (setting, method) => showNats(intervalOverRandom(setting, method)),
  );

/** KL divergence and top-1 agreement of each method. */
const tabulateDistances = (settings: readonly Setting[]): PlainTable =>
  tabulate(settings, isRun, (_, method) => showDistances(method).join(", "));

/** Ranks that a method can have by loss: behind all that are better, before all that are worse, of all pairs at once. */
export function rankOf(setting: Losses, method: Method): readonly [first: number, last: number] {
  const rules = rulesOf(setting), pairs = SETTINGS.length * rules.length * (rules.length - 1) / 2;
  const found = rules.filter((other) => other !== method).map((other) =>
    standingOf(simultaneousInterval(setting.chunks, method, other, pairs))
  );
  const count = (own: Standing) => found.filter((standing) => standing === own).length;
  return [1 + count("worse"), rules.length - count("better")];
}

/** The rank by loss of each method, and between which ranks it lies. */
const tabulateRanks = (settings: readonly Setting[]): PlainTable =>
  tabulate(settings, isRule, (setting, method) => {
    const rank = 1 + rulesOf(setting).filter(({ loss }) => loss < method.loss).length;
    return `${rank} (${rankOf(setting, method).join(" to ")})`;
  });

/** `variance` minus `key` by each metric: the fusion with the values, which the paper proposes. The loss intervals hold at once. */
export const fusionOf = (setting: Setting) => {
  const own = find(setting, "variance at 0.5"), keys = find(setting, "key at 0.5");
  return {
    loss: simultaneousInterval(setting.chunks, own, keys, SETTINGS.length),
    KL: own.values.KL - keys.values.KL,
    "top-1": own.values["top-1"] - keys.values["top-1"],
  };
};

const signed = (value: number, digits: number) => (value < 0 ? "" : "+") + value.toFixed(digits);

function tabulateFusion(settings: readonly Setting[]): PlainTable {
  return {
    columns: ["setting", "loss, nats per token", "KL, nats per token", "top-1 agreement, points"],
    left: [true],
    rows: settings.map((setting) => {
      const { loss, KL, "top-1": top1 } = fusionOf(setting);
      return [setting.title, formatInterval(loss, 4), signed(KL, 4), signed(100 * top1, 2)];
    }),
  };
}

/** The tables of the pages. */
export async function makeLargeTables(): Promise<{ readonly [name: string]: string }> {
  const tables: { [name: string]: string } = {};
  for (const [model, prefix] of [["", ""], ["gemma_", "gemma "]] as const) {
    for (const [side, title] of [["keys", "eviction"], ["queries", "skipping"]] as const) {
      const settings = await readSettings(side, model);
      const kinds = {
        ...{ verdicts: tabulateVerdicts, losses: tabulateLosses, differences: tabulateDifferences },
        ...{ distances: tabulateDistances, ...(side === "keys" && { ranks: tabulateRanks }) },
        ...(side === "keys" && model === "" && { fusion: tabulateFusion }),
      };
      for (const [kind, tabulated] of Object.entries(kinds)) {
        tables[`${prefix}${title} ${kind}`] = formatMarkdown(tabulated(settings));
      }
    }
  }
  return tables;
}

/** Differences of evicting methods from the random baseline, with their intervals: a row per method, the best on top. */
export async function drawDifferences(): Promise<Figure> {
  const settings = await readSettings("keys");
  const names = rulesOf(settings[0]!).map(({ name }) => name);
  return new Figure({
    title: "",
    caption: "",
    height: 90 + 34 * names.length,
    data: settings.map((setting, s) => {
      const found = names.map((name) => intervalOverRandom(setting, find(setting, name)));
      return {
        ...{ type: "scatter", mode: "markers", name: setting.title },
        x: found.map(({ estimate }) => estimate),
        y: names.map((_, i) => i + 0.2 * (s - (settings.length - 1) / 2)),
        error_x: {
          ...{ type: "data", symmetric: false, color: setting.marker.color, thickness: 1.2, width: 0 },
          array: found.map(({ high, estimate }) => high - estimate),
          arrayminus: found.map(({ low, estimate }) => estimate - low),
        },
        marker: { ...setting.marker, size: 7 },
      };
    }),
    layout: baseLayout({
      margin: { l: 190, r: 14, t: 10, b: 50 },
      xaxis: axis("", {
        zeroline: true,
        title: {
          text: "loss minus that of random eviction, nats per token",
          standoff: 8,
          font: { size: 13 },
        },
      }),
      yaxis: axis("", {
        tickvals: names.map((_, i) => i),
        ticktext: names.map((name) => nameOf(find(settings[0]!, name))),
        range: [names.length - 0.4, -0.6],
      }),
      showlegend: true,
      legend: { orientation: "h", x: 0, y: -0.1, font: { size: 12 } },
    }),
  });
}
