/** A table and a figure of loss against cache, attention FLOPs and time, on 32,768 tokens. */
import { fileURLToPath } from "node:url";
import { axis, baseLayout, Figure, type JsonObject, withoutRatio } from "../../../lib/plot/mod.ts";
import type { LengthRow } from "../../../lib/eval/mod.ts";
import type { Interval } from "../../../lib/stats/mod.ts";
import { readJson } from "../../commands/cli/files.ts";
import { formatMarkdown, type PlainTable } from "../../commands/cli/output/table.ts";
import {
  chunkInterval,
  isBaseline,
  type Method,
  nameOf,
  readLosses,
  showDistances,
  showNats,
  showStandings,
  simultaneousInterval,
  standingOf,
} from "./losses.ts";
import { percent } from "./tables.ts";

/** The measured times. */
export interface Times {
  readonly environment: {
    readonly model: string;
    readonly text: string;
    readonly textSha256: string;
    readonly turns: number;
    readonly decodes: number;
    readonly backend: string;
    readonly deno: string;
    readonly platform: string;
    readonly startedAt: string;
  };
  /** The full model first, then each method at each ratio. */
  readonly rows: readonly LengthRow[];
}

/** The file of the committed times. */
export const TIMES_FILE = fileURLToPath(new URL("times.json", import.meta.url));

/** The committed times. */
export const readTimes = (): Promise<Times> => readJson(TIMES_FILE) as Promise<Times>;

/** A method at its ratios. */
export interface Curve {
  /** Its side and its rule. */
  readonly name: string;
  readonly isRandom: boolean;
  readonly isSkipping: boolean;
  readonly chunks: number;
  readonly dense: Method;
  /** Ascending by ratio. */
  readonly methods: readonly Method[];
}

/** The methods that ran at three ratios: those that evict first, and of each side the random baseline last. */
export async function readCurves(): Promise<Curve[]> {
  const curves = await Promise.all((["keys", "queries"] as const).map(async (side) => {
    const parts = await Promise.all(
      ["0.25_0.75", "0.5"].map((ratios) => readLosses(`wikitext2_${side}_2048_${ratios}`)),
    );
    const named = Map.groupBy(
      parts.flatMap(({ methods }) => methods.slice(1)),
      ({ name }) => withoutRatio(name),
    );
    const [{ chunks, methods: [dense] }] = parts as [typeof parts[0]];
    return [...named].filter(([, methods]) => methods.length === 3).map(([rule, methods]) => {
      const isRandom = isBaseline(methods[0]!), isSkipping = side === "queries";
      return {
        name: `${isSkipping ? "skipping" : "eviction"}: ${isRandom ? rule : nameOf(methods[0]!)}`,
        ...{ isRandom, isSkipping, chunks, dense: dense! },
        methods: methods.toSorted((a, b) => a.asked! - b.asked!),
      };
    });
  }));
  return curves.map((side) => side.toSorted((a, b) => Number(a.isRandom) - Number(b.isRandom))).flat();
}

/** The name of a method at a ratio in the measured times. */
export const timedName = ({ name }: Curve, { asked }: Method): string => `${name} at ${asked}`;

type Cost = "cache" | "flops" | "prefill" | "decode";

/** Costs, as fractions of the full model's. */
const COSTS: {
  readonly [cost in Cost]: {
    readonly label: string;
    readonly of: (curve: Curve, method: Method, times: Times) => number;
  };
} = {
  cache: { label: "KV cache", of: (_, { retained }) => retained.cache },
  flops: { label: "attention FLOPs", of: (_, { retained }) => retained.attentionFlops },
  prefill: { label: "prefill time", of: shareOf("prefillMs") },
  decode: { label: "decode time", of: shareOf("decodeMs") },
};

/** A method's time as a fraction of the full model's. */
function shareOf(field: "prefillMs" | "decodeMs") {
  return (curve: Curve, method: Method, { rows }: Times): number =>
    rows.find(({ name }) => name === timedName(curve, method))![field]! / rows[0]![field]!;
}

/**
 * A method's difference from the random baseline at each of its ratios. The intervals of all methods and ratios hold at
 * once.
 */
function curveOverRandom(
  curves: readonly Curve[],
  { chunks, methods, isSkipping }: Curve,
): Interval[] {
  const random = curves.find((curve) => curve.isRandom && curve.isSkipping === isSkipping)!;
  const count = curves.filter(({ isRandom }) => !isRandom).length * methods.length;
  return methods.map((method, i) => simultaneousInterval(chunks, method, random.methods[i]!, count));
}

/** A row per method and ratio: each cost, the loss increase, and its difference from random. */
export const tabulateCosts = (curves: readonly Curve[], times: Times): PlainTable => ({
  columns: [
    ...["method", "ratio", ...Object.values(COSTS).map(({ label }) => label)],
    ...["loss increase", "minus random", "KL", "top-1", "loss, KL, top-1 against random"],
  ],
  left: [true],
  rows: curves.flatMap((curve) => {
    const differences = curve.isRandom ? undefined : curveOverRandom(curves, curve);
    return curve.methods.map((method, i) => [
      ...[curve.name, String(method.asked)],
      ...Object.values(COSTS).map(({ of }) => percent(of(curve, method, times))),
      showNats(chunkInterval(curve.chunks, method, curve.dense)),
      differences === undefined ? "-" : showNats(differences[i]!),
      ...showDistances(method),
      differences === undefined
        ? "-"
        : showStandings({ ...method.blockTests, loss: standingOf(differences[i]!) }),
    ]);
  }),
});

/** The table of the study's page. */
export const makeCostTable = async (times: Times): Promise<string> =>
  formatMarkdown(tabulateCosts(await readCurves(), times));

/** The lowest value on the log axis. */
const FLOOR = 0.003;

const PANELS: readonly (readonly [panel: "" | "2" | "3", Cost])[] = [
  ["", "cache"],
  ["2", "flops"],
  ["3", "prefill"],
];
const MARKS = [
  { color: "@series0", symbol: "circle" },
  { color: "@series2", symbol: "square" },
  { color: "@series3", symbol: "diamond" },
  { color: "@series4", symbol: "triangle-up" },
] as const;

/** Loss against each cost, with a line per method; lines of random baselines are grey. */
export async function drawEqualCost(times: Times): Promise<Figure> {
  const curves = await readCurves();
  const draw = (panel: string, cost: Cost) =>
    curves.map((curve, i): JsonObject => {
      const { name, chunks, dense, methods, isRandom, isSkipping } = curve;
      const mark = isRandom
        ? { color: "@muted", symbol: isSkipping ? "x-thin-open" : "cross-thin-open" }
        : isSkipping
        ? { color: "@series1", symbol: "star" }
        : MARKS[i % MARKS.length]!;
      const { color } = mark;
      const found = methods.map((method) => chunkInterval(chunks, method, dense));
      return {
        ...{ type: "scatter", mode: "lines+markers", xaxis: `x${panel}`, yaxis: "y" },
        ...{ name, legendgroup: name, showlegend: panel === "" },
        x: methods.map((method) => 100 * COSTS[cost].of(curve, method, times)),
        y: found.map(({ estimate }) => estimate),
        error_y: {
          ...{ type: "data", symmetric: false, color, thickness: 1, width: 0 },
          array: found.map(({ high, estimate }) => high - estimate),
          arrayminus: found.map(({ low, estimate }) => estimate - Math.max(FLOOR, low)),
        },
        line: { color, width: 1.2, ...(isRandom && { dash: "dot" }) },
        marker: { ...mark, size: 7 },
      };
    });
  const ticks = [0.01, 0.03, 0.1, 0.3, 1, 3, 10];
  const place = (cost: Cost, more: JsonObject) =>
    axis("", {
      ...{ ticksuffix: "%", autorange: "reversed", ...more },
      title: { text: `${COSTS[cost].label}, of the full model's`, standoff: 8, font: { size: 13 } },
    });
  return new Figure({
    title: "",
    caption: "",
    height: 400,
    data: PANELS.flatMap(([panel, cost]) => draw(panel, cost)),
    layout: baseLayout({
      margin: { l: 64, r: 14, t: 16, b: 56 },
      xaxis: place("cache", { domain: [0, 0.31] }),
      xaxis2: place("flops", { domain: [0.345, 0.655], anchor: "y" }),
      xaxis3: place("prefill", { domain: [0.69, 1], anchor: "y" }),
      yaxis: axis("", {
        ...{ type: "log", tickvals: ticks, ticktext: ticks.map(String) },
        range: [Math.log10(FLOOR), 1.1],
        title: { text: "loss increase, nats per token", standoff: 8, font: { size: 13 } },
      }),
      legend: { orientation: "h", x: 0, y: -0.22, font: { size: 12 } },
    }),
  });
}
