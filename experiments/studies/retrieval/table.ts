/**
 * The tables of retrieval layers, from results/: loss increase with and without whole layers, paired by whole chunk.
 *
 * usage: deno run -A experiments/studies/retrieval/table.ts
 */
import { formatInterval } from "../../../lib/plot/mod.ts";
import { pairedBootstrap } from "../../../lib/stats/mod.ts";
import { formatMarkdown, type PlainTable } from "../../commands/cli/output/table.ts";
import { judge, readNeedles, tabulateNeedles } from "./needles.ts";

interface LossBlocks {
  readonly sums: readonly number[];
  readonly sizes: readonly number[];
}

export interface Trial {
  readonly kvFusion: string;
  readonly kvRatio: number;
  readonly whole: string;
  readonly wholeFraction: number;
  readonly wholeLayers?: readonly number[];
  readonly wholeHeads?: readonly string[];
  readonly schedule?: string;
  readonly kvBytesHeld: number;
  readonly kvBytesAvoided: number;
  readonly lossBlocks: LossBlocks;
}

export interface RetrievalResults {
  readonly environment: { readonly context: number; readonly textTokens: number };
  readonly dense: { readonly lossBlocks: LossBlocks };
  readonly trials: readonly Trial[];
}

/** Reads committed results. */
export async function readResults(name = "wikitext2_32768"): Promise<RetrievalResults> {
  return JSON.parse(await Deno.readTextFile(new URL(`results/${name}.json`, import.meta.url)));
}

/** Chunks that a trial has read: the first ones. */
export const countChunks = ({ environment, dense }: RetrievalResults, { sums }: LossBlocks) =>
  sums.length / dense.lossBlocks.sums.length * environment.textTokens / environment.context;

/**
 * Mean difference of losses and its 95% interval; a chunk is the unit, since one eviction acts on all that follows it. Where
 * a trial has read fewer chunks, it is of those.
 */
export function chunkInterval(results: RetrievalResults, own: LossBlocks, other: LossBlocks) {
  const { environment, dense } = results;
  const blocks = dense.lossBlocks.sums.length * environment.context / environment.textTokens;
  const chunks = Math.min(countChunks(results, own), countChunks(results, other));
  const differences = Float64Array.from({ length: chunks }, (_, chunk) => {
    const at = Array.from({ length: blocks }, (_, i) => chunk * blocks + i);
    const sum = (of: readonly number[]) => at.reduce((total, i) => total + of[i]!, 0);
    return (sum(own.sums) - sum(other.sums)) / sum(own.sizes);
  });
  return pairedBootstrap([differences], { blockSize: 1 });
}

export const retained = ({ kvBytesHeld, kvBytesAvoided }: Trial) =>
  `${(100 * kvBytesHeld / (kvBytesHeld + kvBytesAvoided)).toFixed(1)}%`;

/** Rules of the preset, and chance; all others are methods of the literature. */
const OWN = ["key", "leave-one-out", "random"];
/** Methods of the literature, as their papers call them. */
const METHODS: { readonly [rule: string]: string } = {
  streaming: "StreamingLLM",
  snapkv: "SnapKV",
  h2o: "H2O",
  tova: "TOVA",
  "keydiff-cache": "KeyDiff",
  knorm: "Knorm",
  lagkv: "LagKV",
  "expected-attention": "ExpectedAttention",
  adakv: "AdaKV",
  "duo-attention": "DuoAttention",
  "razor-attention": "RazorAttention",
};
export const nameOf = ({ kvFusion, schedule }: Trial) =>
  schedule === "ramp" ? "PyramidKV" : METHODS[kvFusion] ?? `\`${kvFusion}\``;

/** The preset's fraction of the summed score of layers or heads. */
const FRACTION = 0.75;
/** KV heads of a layer of SmolLM2-135M, and its retrieval layers, which older records leave out. */
const KV_HEADS = 3, LAYERS = [17, 18, 20, 23];

/** The trial with these options, of the preset's fraction. */
const findTrial = ({ trials }: RetrievalResults, options: Partial<Trial>) =>
  trials.find((trial) =>
    Object.entries({ wholeFraction: FRACTION, ...options }).every(([name, value]) =>
      trial[name as keyof Trial] === value
    )
  );

/** A difference of losses with its interval, where both were measured. */
const shown = (results: RetrievalResults, own: LossBlocks | undefined, other: LossBlocks | undefined) =>
  own && other ? formatInterval(chunkInterval(results, own, other), 3) : "-";

const isRival = ({ kvFusion, whole }: Trial) => !OWN.includes(kvFusion) && whole === "none";

/** Rules of the preset that are compared with methods of the literature. */
const COMPARED = [
  { kvFusion: "key", whole: "auto" },
  { kvFusion: "key", whole: "heads" },
  { kvFusion: "leave-one-out", whole: "heads" },
];
const describeWhole = ({ kvFusion, whole }: Pick<Trial, "kvFusion" | "whole">) =>
  `\`${kvFusion}\` with whole ${whole === "auto" ? "layers" : "heads"}`;

/** A row per method: as it is, and how far the preset's rules are from it. */
function tabulateMethods(results: RetrievalResults): PlainTable {
  const { dense, trials } = results;
  const rows = trials.filter(isRival).map((asIs) => {
    const { lossBlocks, kvRatio } = asIs;
    return {
      loss: chunkInterval(results, lossBlocks, dense.lossBlocks).estimate,
      cells: [
        ...[nameOf(asIs), String(countChunks(results, lossBlocks)), retained(asIs)],
        shown(results, lossBlocks, dense.lossBlocks),
        ...COMPARED.map((own) =>
          shown(results, findTrial(results, { ...own, kvRatio })?.lossBlocks, lossBlocks)
        ),
      ],
    };
  });
  return {
    columns: [
      ...["method", "chunks", "cache retained", "as is"],
      ...COMPARED.map((own) => `${describeWhole(own)} less as is`),
    ],
    left: [true],
    rows: rows.sort((a, b) => a.loss - b.loss).map(({ cells }) => cells),
  };
}

const countHeads = ({ wholeLayers = [], wholeHeads = [] }: Trial) =>
  KV_HEADS * wholeLayers.length + wholeHeads.length;

/** The layers or heads that a trial keeps whole. */
export const nameWhole = (trial: Trial): string =>
  ({
    none: "none",
    auto: `layers ${(trial.wholeLayers ?? LAYERS).join(", ")}`,
    heads: `${countHeads(trial)} KV heads`,
  })[trial.whole]!;

/** A row per rule, ratio and whole layers or heads: loss increase, and how far the same rule with less that is whole is from it. */
export function tabulateRules(results: RetrievalResults): PlainTable {
  const { dense, trials } = results;
  const names = ["none", "auto", "heads"];
  const own = trials.filter((trial) => !isRival(trial))
    .sort((a, b) =>
      a.kvRatio - b.kvRatio || a.kvFusion.localeCompare(b.kvFusion) ||
      names.indexOf(a.whole) - names.indexOf(b.whole) || a.wholeFraction - b.wholeFraction
    );
  const rows = own.map((trial) => {
    const { kvFusion, kvRatio, whole, lossBlocks } = trial;
    const less = (other: string) =>
      shown(results, lossBlocks, findTrial(results, { kvFusion, kvRatio, whole: other })?.lossBlocks);
    return [
      `\`${kvFusion}\``,
      nameWhole(trial),
      ...[String(countChunks(results, lossBlocks)), retained(trial)],
      shown(results, lossBlocks, dense.lossBlocks),
      ...[whole === "none" ? "-" : less("none"), whole === "heads" ? less("auto") : "-"],
    ];
  });
  return {
    columns: [
      ...["rule", "whole", "chunks", "cache retained", "loss increase"],
      ...["difference from none whole", "from whole layers"],
    ],
    left: [true, true],
    rows,
  };
}

/** The largest loss increase that is to be reached, by ratio. */
const LIMITS = [
  { whole: "auto", kvRatio: 0.789, most: 0.045 },
  { whole: "heads", kvRatio: 0.789, most: 0.035 },
  { whole: "auto", kvRatio: 0.526, most: 0.03 },
  { whole: "heads", kvRatio: 0.526, most: 0.03 },
];

/** A row per target and rule: the measurement, and whether it is met. */
function tabulateTargets(results: RetrievalResults): PlainTable {
  const { dense, trials } = results, rivals = trials.filter(isRival), rules = ["key", "leave-one-out"];
  const limits = LIMITS.flatMap(({ most, ...options }) =>
    rules.map((kvFusion) => findTrial(results, { kvFusion, ...options })).filter((trial) =>
      trial !== undefined
    )
      .map((trial) => {
        const found = chunkInterval(results, trial.lossBlocks, dense.lossBlocks);
        const cells = [describeWhole(trial), retained(trial), formatInterval(found, 3), judge(found, most)];
        return [`loss increase of at most ${most}`, ...cells];
      })
  );
  const better = COMPARED.flatMap((options) => {
    const own = findTrial(results, { ...options, kvRatio: 0.789 });
    if (own === undefined) return [];
    const found = rivals.map((rival) => ({
      name: nameOf(rival),
      ...chunkInterval(results, own.lossBlocks, rival.lossBlocks),
    })).sort((a, b) => b.estimate - a.estimate);
    const missed = found.filter(({ high }) => high >= 0).map(({ name }) => name), [nearest] = found;
    return [[
      ...[`better than ${rivals.length} methods as they are`, describeWhole(own), retained(own)],
      `${nearest!.name}: ${formatInterval(nearest!, 3)}`,
      missed.length === 0 ? "met" : `missed: not significantly better than ${missed.join(" and ")}`,
    ]];
  });
  return {
    columns: ["target", "rule", "cache retained", "measured", "result"],
    left: [true, true, false, false, true],
    rows: [...limits, ...better],
  };
}

/** The tables of losses, in the order of the page. */
export const LOSS_TABLES = [tabulateTargets, tabulateRules, tabulateMethods] as const;

if (import.meta.main) {
  const results = await readResults();
  for (const tabulate of LOSS_TABLES) console.log(formatMarkdown(tabulate(results)) + "\n");
  console.log(formatMarkdown(tabulateNeedles(await readNeedles())));
}
