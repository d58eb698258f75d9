/** The study's parts on a text: methods by name, their baselines, three metrics, and intervals over whole chunks. */
import { fileURLToPath } from "node:url";
import { formatInterval, withoutRatio } from "../../../lib/plot/mod.ts";
import { type Interval, pairedInterval } from "../../../lib/stats/mod.ts";
import type { Comparison } from "../../../lib/sweep/mod.ts";
import { readJson } from "../../commands/cli/files.ts";
import { readPart } from "./tables.ts";

/** Metrics by their names on the pages, each with its name in the results. */
export const METRICS = { loss: "perplexity", KL: "kl", "top-1": "top1Agreement" } as const;
export type Metric = keyof typeof METRICS;
/** How a method compares with random by a metric. */
export type Standing = "better" | "worse" | "even";

/** A method with its values of the metrics but the loss, and its committed tests against random, which take blocks of 64 tokens. */
export type Method = Comparison["methods"][number] & {
  readonly values: Readonly<Record<Exclude<Metric, "loss">, number>>;
  readonly blockTests: Readonly<Record<Metric, Standing>>;
};

/** Sources of the methods. */
const SOURCES = await readJson(
  fileURLToPath(new URL("../../tools/docs/method_sources.json", import.meta.url)),
) as {
  readonly [method: string]: { readonly paper?: string; readonly adapted: string } | undefined;
};

/** A method's name, with `(adapted)` if it differs from its paper. */
export function nameOf({ name, options }: Pick<Method, "name" | "options">): string {
  const rule = withoutRatio(name), { paper, adapted } = SOURCES[rule] ?? { adapted: "none" };
  if (rule === "local" && options!.recent === 64) return "local (older preset)";
  return paper !== undefined && adapted !== "none" && rule !== "variance" ? `${rule} (adapted)` : rule;
}

/** A part's methods on its text. */
export interface Losses {
  readonly chunks: number;
  readonly methods: readonly Method[];
}

/** The losses of a part that was run on a text. */
export const readLosses = async (part: string): Promise<Losses> => lossesOf(await readPart(part));

/** The losses of a comparison on a text. */
export function lossesOf({ methods, environment, results }: Comparison): Losses {
  const find = (name: string, metric: string) =>
    results!.find((row) => row.method === name && row.metric === metric && row.task.startsWith("perplexity"));
  const standing = (verdict: string | undefined): Standing =>
    verdict === "better" || verdict === "worse" ? verdict : "even";
  const each = <T>(of: (metric: string) => T) =>
    Object.fromEntries(Object.entries(METRICS).map(([name, metric]) => [name, of(metric)]));
  return {
    chunks: environment.textTokens / environment.context,
    methods: methods.map((method) => ({
      ...method,
      values: each((metric) => find(method.name, metric)?.value) as Record<Metric, number>,
      blockTests: each((metric) => standing(find(method.name, metric)?.against.random?.verdict)) as Method[
        "blockTests"
      ],
    })),
  };
}

/** The least number of chunks that an interval is given for. */
export const LEAST_CHUNKS = 6;

/** Difference of mean losses, its interval by Student's t over whole chunks, since evictions affect the rest of one. */
export function chunkInterval(
  chunks: number,
  { lossBlocks: own }: Pick<Method, "lossBlocks">,
  { lossBlocks: other }: Pick<Method, "lossBlocks">,
  confidence = 0.95,
): Interval {
  const perChunk = own.sums.length / chunks;
  const join = ({ sums, sizes }: Method["lossBlocks"]) => {
    const add = (values: readonly number[]) =>
      Array.from(
        { length: chunks },
        (_, i) => values.slice(i * perChunk, (i + 1) * perChunk).reduce((sum, value) => sum + value, 0),
      );
    return { sums: add(sums), sizes: add(sizes) };
  };
  return pairedInterval(join(other), join(own), confidence)!;
}

/** The same for one of `count` differences, whose intervals hold all at once with 95% (Bonferroni). */
export const simultaneousInterval = (chunks: number, own: Method, other: Method, count: number): Interval =>
  chunkInterval(chunks, own, other, 1 - 0.05 / count);

/** An interval in nats, with as many digits as show on which side of 0 its ends are. */
export function showNats(interval: Interval): string {
  const { low, high } = interval, least = Math.min(Math.abs(low), Math.abs(high));
  return formatInterval(interval, least >= 0.0005 || least === 0 ? 3 : least >= 0.00005 ? 4 : 5);
}

/** The side of 0 that an interval of a difference is on; a smaller loss is better. */
export const standingOf = ({ low, high }: Interval): Standing =>
  high < 0 ? "better" : low > 0 ? "worse" : "even";

const SIGNS = { better: "▲", worse: "▼", even: "=", unknown: "?" } as const;

/** The verdict of each metric as a sign, loss first; `?` where there is no test. */
export const showStandings = (standings: Readonly<Record<Metric, Standing | "unknown">>): string =>
  Object.keys(METRICS).map((metric) => SIGNS[standings[metric as Metric]]).join(" ");

/** KL divergence and top-1 agreement of a method. */
export const showDistances = ({ values }: Method): readonly [KL: string, top1: string] => [
  values.KL.toFixed(3),
  `${(100 * values["top-1"]).toFixed(1)}%`,
];

export const isBaseline = ({ name }: Pick<Method, "name">) => /^(dense|random|periodic)/.test(name);
