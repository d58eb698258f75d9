/** The committed results: of each trial the loss, KL and top-1 agreement by chunk, and their intervals over chunks. */
import { fileURLToPath } from "node:url";
import { mean } from "../../../lib/math/mean.ts";
import { type Interval, pairedInterval } from "../../../lib/stats/mod.ts";
import { exists } from "../../commands/cli/files.ts";
import { LEAST_CHUNKS, type Standing, standingOf } from "../comparison/losses.ts";

/** A rule with its whole parts on a text: a value per chunk, of random the mean over seeds. Values that were not recorded are left out. */
export interface Trial {
  readonly rule: string;
  /** `none`, layers (`auto`) or `heads`. */
  readonly whole: string;
  /** Fraction of the summed score of heads that are whole. */
  readonly fraction: number;
  readonly ratio: number;
  readonly seeds: number;
  /** Fraction of the cache that is left. */
  readonly retained: number;
  /** Increase over the full model, nats per token. */
  readonly loss: readonly number[];
  readonly kl?: readonly number[];
  readonly top1?: readonly number[];
  /** Means over all chunks of what was not recorded by chunk. */
  readonly means?: { readonly kl: number; readonly top1: number };
}
export type Measure = "loss" | "kl" | "top1";
export const MEASURES = ["loss", "kl", "top1"] as const;

const readFile = (name: string) => Deno.readTextFile(new URL(`results/${name}`, import.meta.url));

/** A trial of a sweep, whose losses are sums over blocks of 64 tokens. */
interface SweepTrial {
  readonly kvFusion: string;
  readonly kvRatio: number;
  readonly whole: string;
  readonly wholeFraction: number;
  readonly seed: number;
  readonly kvBytesHeld: number;
  readonly kvBytesAvoided: number;
  readonly kl?: number;
  readonly top1Agreement?: number;
  readonly lossBlocks: Blocks;
}
interface Blocks {
  readonly sums: readonly number[];
  readonly sizes: readonly number[];
}

/** The trials of a sweep. */
export async function readSweep(name: string): Promise<Trial[]> {
  const { environment: { context, textTokens }, dense, trials } = JSON.parse(
    await readFile(`${name}.json`),
  ) as {
    readonly environment: { readonly context: number; readonly textTokens: number };
    readonly dense: { readonly lossBlocks: Blocks };
    readonly trials: readonly SweepTrial[];
  };
  const perChunk = dense.lossBlocks.sums.length * context / textTokens;
  const byChunk = ({ sums, sizes }: Blocks) =>
    Array.from({ length: sums.length / perChunk }, (_, chunk) => {
      const add = (values: readonly number[]) =>
        values.slice(chunk * perChunk, (chunk + 1) * perChunk).reduce((a, b) => a + b, 0);
      return add(sums) / add(sizes);
    });
  const full = byChunk(dense.lossBlocks);
  return trials.map((trial) => ({
    ...{
      rule: trial.kvFusion,
      whole: trial.whole,
      fraction: trial.wholeFraction,
      ratio: trial.kvRatio,
      seeds: 1,
    },
    retained: trial.kvBytesHeld / (trial.kvBytesHeld + trial.kvBytesAvoided),
    loss: byChunk(trial.lossBlocks).map((loss, chunk) => loss - full[chunk]!),
    ...(trial.kl !== undefined && { means: { kl: trial.kl, top1: trial.top1Agreement! } }),
  }));
}

/** Whether a set of measure.ts has results. */
export const hasLines = (name: string): boolean =>
  exists(fileURLToPath(new URL(`results/trials/${name}.jsonl`, import.meta.url)));

/** Lines of a set of measure.ts: its conditions, then its trials. */
export async function readLines<T>(name: string): Promise<[{ readonly [name: string]: unknown }, ...T[]]> {
  return (await readFile(`trials/${name}.jsonl`)).trimEnd().split("\n").map((line) =>
    JSON.parse(line)
  ) as never;
}

/** The trials of a set of measure.ts on a text; those that differ in the seed alone are one. */
export async function readText(name: string): Promise<Trial[]> {
  type Line = Required<Pick<Trial, Measure | "retained">> & { readonly trial: string };
  const [head, ...lines] = await readLines<Line>(name), dense = head["dense"] as readonly number[];
  const groups = Map.groupBy(lines, ({ trial }) => trial.replace(/ \d+$/, ""));
  return [...groups].map(([trial, own]) => {
    const [rule, whole] = trial.split(" ") as [string, string];
    const fold = (measure: Measure) =>
      dense.map((_, chunk) => mean(own.map((line) => line[measure][chunk]!)));
    return {
      ...{ rule, whole, fraction: 0.75, ratio: head["ratio"] as number, seeds: own.length },
      retained: mean(own.map(({ retained }) => retained)),
      ...{ loss: fold("loss").map((loss, i) => loss - dense[i]!), kl: fold("kl"), top1: fold("top1") },
    };
  });
}

/** All trials on WikiText-2 in chunks of 2,048. */
export const readWikitext = (): Promise<Trial[]> => readText("controls_wikitext2");

export const findTrial = (
  trials: readonly Trial[],
  { rule, whole, ratio, fraction = 0.75 }: Pick<Trial, "rule" | "whole" | "ratio"> & Partial<Trial>,
): Trial | undefined =>
  trials.find((own) =>
    own.rule === rule && own.whole === whole && own.ratio === ratio && own.fraction === fraction
  );

/** The mean over chunks of a measure, if it was recorded. */
export function meanOf(measure: Measure, trial: Trial): number | undefined {
  const values = trial[measure];
  return values !== undefined ? mean(values) : measure === "loss" ? undefined : trial.means?.[measure];
}

/** Random eviction with the same settings. */
export const controlOf = (trials: readonly Trial[], { whole, ratio, fraction }: Trial): Trial | undefined =>
  findTrial(trials, { rule: "random", whole, ratio, fraction });

/** The mean by chunk, or its difference from another trial, with Student's t over the chunks that both have; undefined below six. */
export function intervalOf(
  measure: Measure,
  own: Trial,
  other?: Trial,
  confidence = 0.95,
): Interval | undefined {
  const a = own[measure], b = other === undefined ? a?.map(() => 0) : other[measure];
  const chunks = Math.min(a?.length ?? 0, b?.length ?? 0);
  if (chunks < LEAST_CHUNKS) return undefined;
  const blocks = (values: readonly number[]) => ({
    sums: values.slice(0, chunks),
    sizes: Array<number>(chunks).fill(1),
  });
  return pairedInterval(blocks(b!), blocks(a!), confidence);
}

/** How a trial compares with another by a measure; more agreement is better, less of the others. */
export function compareBy(
  measure: Measure,
  own: Trial,
  other: Trial,
  confidence?: number,
): Standing | undefined {
  const [first, second] = measure === "top1" ? [other, own] : [own, other];
  const interval = intervalOf(measure, first, second, confidence);
  return interval && standingOf(interval);
}
