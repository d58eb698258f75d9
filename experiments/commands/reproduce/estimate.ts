/** Estimates of a recipe: runs, tokens, memory and hours, only from sizes and a short measurement. */
import type { Backend } from "../../../lib/backend.ts";
import { type CacheDType, type DType, type DTypeInfo, DTYPES } from "../../../lib/dtype.ts";
import { UsageError } from "../../../lib/errors.ts";
import { findTask } from "../../../lib/eval/tasks/mod.ts";
import type { ModelConfig } from "../../../lib/model/config/config.ts";
import { readConfigText } from "../../../lib/model/config/read_config.ts";
import { MODEL_NAMES } from "../../../lib/model/hub/hub.ts";
import { readModelFile } from "../../../lib/model/load.ts";
import { createWeights } from "../../../lib/model/load_weights.ts";
import type { ModelFile } from "../../../lib/model/open.ts";
import { tabulate, type TextTable } from "../../../lib/plot/figure/page.ts";
import type { NamedMethod } from "../../../lib/sweep/compare/compared_methods.ts";
import { plural } from "../../../lib/plural.ts";
import { showFraction } from "../../../lib/sweep/budgets.ts";
import { countOf } from "../../../lib/tensor.ts";
import { exists, readText } from "../cli/files.ts";
import { type FlagValues, textOf } from "../cli/flags/parse.ts";
import { formatBytes, readDType } from "../cli/machine/model.ts";
import type { Asked } from "../run.ts";
import { readMethods } from "../compare.ts";
import { describeText } from "./data.ts";
import { dataOf, flagsOfPart } from "./parts.ts";
import { findProtocol, listBatches, type Protocol, readKnownModels, type Recipe } from "./recipe.ts";
import cards from "./cards.json" with { type: "json" };
import { measureSpeed, type Speed, speedAt } from "./speed.ts";
import { countWork, flopsOf, type Sequences, type Workload } from "./workload.ts";

/** Sizes of unavailable data: tokens of WikiText-2's test text by LLaMA-2's tokenizer, of an item and of its answers; items. */
const TEXT_TOKENS = 341_469, ITEM_TOKENS = 256, ANSWER_TOKENS = 20, MADE_ITEMS = 50;
/** Bytes of the program; rows of logits that exist at a time. */
const PROGRAM_BYTES = 0.3e9, LOGIT_ROWS = 128;
/** How often a length is measured, the first time for nothing. */
const LENGTH_TURNS = 4;
/** Element type of the weights on the hub. */
const HUB_DTYPE: DType = "bf16";

/** Parts that a plan names as those that take most of the time. */
const DEAREST = 3;
/** How often the speed is measured. */
const TIMINGS = 3;
/** Fractions of a card's peak: an assumption, since no card has been timed. */
const OF_PEAK = [0.05, 0.4] as const;

/** The least and the most of several estimates. */
type Range = readonly [least: number, most: number];

const rangeOf = (values: readonly number[]): Range => [Math.min(...values), Math.max(...values)];

/** A part of a recipe as it is planned. */
interface EstimatedPart {
  readonly protocol: string;
  readonly label: string;
  readonly data: string;
  readonly runs: number;
  readonly tokens: number;
  readonly hours: Range;
  /** Fraction of the time of all parts. */
  readonly share: number;
}

type Estimate = Awaited<ReturnType<typeof estimateRecipe>>;

/** The known model of a name, or of a name on the hub. */
const findKnown = async (name: string) =>
  Object.entries(await readKnownModels()).find(([title, { hub }]) => [title, hub].includes(name))?.[1];

/** A model's sizes; its weights' where its file is here. */
interface Sizes {
  readonly config: ModelConfig;
  readonly weights?: ModelFile["weights"];
}

/**
 * The sizes of a model without its weights: from config.json of a folder, from models.json, else from its
 * file.
 *
 * @throws {UsageError} If nothing is known of it here.
 */
export async function readSizes(name: string): Promise<Sizes> {
  const path = `${name.replace(/[/\\]+$/, "")}/config.json`;
  if (exists(path)) return { config: readConfigText(path, await readText(path)) };
  if (MODEL_NAMES.includes(name) || exists(name)) return await readModelFile(name);
  const known = await findKnown(name);
  if (known !== undefined) return { config: readConfigText(name, JSON.stringify(known.config)) };
  throw new UsageError(`Cannot plan for model "${name}": its sizes are not known here, expected its folder`);
}

/** Speeds that `--gflops` gives, and in words where they are from. @throws {UsageError} If it names none. */
function readRates(
  values: FlagValues,
): { readonly rates: readonly number[]; readonly from: string } | undefined {
  const given = textOf(values, "gflops");
  if (given === undefined) return undefined;
  const card = Object.entries(cards).find(([name]) => name === given.toLowerCase())?.[1];
  if (card !== undefined) {
    const { name, teraflops } = card, [low, high] = OF_PEAK.map((share) => `${100 * share}`);
    const from =
      `${low} to ${high}% of the peak of one ${name} in bf16: an assumption, these kernels were not timed on it`;
    return { rates: OF_PEAK.map((share) => share * teraflops * 1e12), from };
  }
  if (Number(given) > 0 && Number.isFinite(Number(given))) {
    return { rates: [Number(given) * 1e9], from: "as asked for" };
  }
  throw new UsageError(
    `Cannot use --gflops ${given}: expected a number of GFLOP/s, or one of ${Object.keys(cards).join(", ")}`,
  );
}

/** Plans a recipe. @throws {UsageError} If its methods or model are not known. */
export async function estimateRecipe(
  recipe: Recipe,
  { values, progress }: Pick<Asked, "values" | "progress">,
  open: () => Promise<Backend>,
  measure: typeof measureSpeed = measureSpeed,
) {
  const name = textOf(values, "model") ?? recipe.model, { config, weights } = await readSizes(name);
  const asked = readDType(textOf(values, "dtype")),
    dtype = asked ?? (weights && typeOf(weights)) ?? HUB_DTYPE;
  const given = readRates(values), data = dataOf(values);
  const cacheDType = (textOf(values, "cache-dtype") ?? "f32") as CacheDType;
  const backend = given === undefined ? await open() : undefined;
  const speeds: readonly Speed[] = backend === undefined
    ? given!.rates.map((rate) => speedAt(config, rate))
    : Array.from({ length: TIMINGS }, () => measure(backend, config, dtype, cacheDType));
  /** Seconds of works by each speed. */
  const secondsOf = (...works: readonly Workload[]) =>
    speeds.map((speed) =>
      works.reduce(
        (sum, { length, layers, logits }) => sum + layers * speed.layer(length) + logits * speed.logits,
        0,
      )
    );
  const hoursOf = (...works: readonly Workload[]) =>
    rangeOf(secondsOf(...works).map((seconds) => seconds / 3600));
  const parts: Omit<EstimatedPart, "share">[] = [], works: ReturnType<typeof countWork>[] = [];
  let lengths: Workload[] = [];
  for (const protocol of Object.keys(recipe.parts)) {
    const own = findProtocol(recipe.published, protocol)!, flags = flagsOfPart(recipe, protocol, own, values);
    const methods = await readMethods({ values: flags, progress }), sequences = countSequences(flags, own);
    const work = countWork(config, methods, sequences);
    works.push(work);
    if (own.context !== undefined && works.filter(({ keptBytes }) => keptBytes > 0).length === 1) {
      lengths = countLengths(config, methods, recipe);
    }
    parts.push({
      ...{ protocol, label: own.label, runs: 1 + methods.length, tokens: sequences.count * sequences.length },
      data: describeData(own.task!, own.data, data),
      hours: hoursOf(work),
    });
  }
  const known = await findKnown(name),
    longest = Math.max(...works.map(({ length }) => length), ...recipe.lengths);
  const layerFlops = works.reduce((sum, work) => sum + flopsOf(config, work), 0);
  const mostHours = parts.reduce((sum, { hours }) => sum + hours[1], 0);
  return {
    ...{ recipe: `${recipe.name}, version ${recipe.version}`, model: name },
    parts: parts.map((part): EstimatedPart => ({ ...part, share: part.hours[1] / mostHours })),
    hours: hoursOf(...works, ...lengths),
    weightBytes: weights !== undefined && asked === undefined ? weights.bytes : countBytes(config, dtype),
    cacheBytes: 2 * config.numLayers * config.numKvHeads * config.headDim * longest *
      DTYPES[cacheDType].blockBytes,
    /** Next to weights and cache. */
    workBytes: PROGRAM_BYTES + Math.max(...works.map(({ keptBytes }) => keptBytes)) +
      countActivations(config, longest),
    isGated: known?.gated === true,
    /** From which hours are estimated. */
    flopsPerSecond: rangeOf(secondsOf(...works).map((seconds) => layerFlops / seconds)),
    from: given?.from ?? `${TIMINGS} timings of one layer of these sizes (${backend!.description})`,
  };
}

/** The type whose blocks are nearest to the mean size of weights. */
function typeOf({ bytes, values }: ModelFile["weights"]): DType {
  const away = ({ blockBytes, blockSize }: DTypeInfo) => Math.abs(blockBytes / blockSize - bytes / values);
  const matrices = Object.entries(DTYPES).filter(([name]) => !/^(i32|u8|f64)$/.test(name)) as [
    DType,
    DTypeInfo,
  ][];
  return matrices.reduce((a, b) => away(b[1]) < away(a[1]) ? b : a)[0];
}

function countBytes(config: ModelConfig, dtype: DType): number {
  const { blockSize, blockBytes } = DTYPES[dtype];
  let count = 0;
  createWeights(config, (spec) => (count += countOf(spec.shape), spec as never));
  return count / blockSize * blockBytes;
}

/** Bytes of a layer's values of a sequence, and of the logits that exist at a time. */
function countActivations(config: ModelConfig, length: number): number {
  const { hiddenSize, intermediateSize, numHeads, numKvHeads, headDim, vocabSize } = config;
  const values = 4 * hiddenSize + 2 * intermediateSize + 2 * (numHeads + numKvHeads) * headDim;
  return 4 * (length * values + 2 * LOGIT_ROWS * vocabSize);
}

/** Time and memory against length: the full model and each method at the highest ratio, several times. */
function countLengths(
  config: ModelConfig,
  methods: readonly NamedMethod[],
  recipe: Recipe,
): Workload[] {
  const highest = Math.max(...methods.map(({ asked }) => asked ?? 0));
  const names = new Set(methods.filter(({ asked }) => (asked ?? 0) === highest).map(({ name }) => name));
  const layers = (1 + names.size) * LENGTH_TURNS * config.numLayers;
  return listBatches(recipe).flatMap(({ batch, lengths }) =>
    lengths.map((length) => ({ length, layers: batch * layers, logits: 0 }))
  );
}

/** Sequences of a part, whose data are not here. */
function countSequences(flags: FlagValues, { context, items, itemTokens }: Protocol): Sequences {
  const numberOf = (flag: string) => flags.get(flag)?.[0] as number | undefined;
  if (context !== undefined) {
    const count = Math.floor((numberOf("tokens") ?? TEXT_TOKENS) / context);
    return { count, length: context, scored: context - 1, isText: true };
  }
  const count = numberOf("items") ?? items ?? MADE_ITEMS,
    length = itemTokens ?? numberOf("length") ?? ITEM_TOKENS;
  return {
    count: Math.min(count, items ?? Infinity),
    length,
    scored: Math.min(length, ANSWER_TOKENS),
    isText: false,
  };
}

/** The source of a part's data, in words. */
function describeData(task: string, text: string | undefined, folder: string): string {
  if (text !== undefined) return describeText(text, folder);
  const { items } = findTask(task);
  if (items === undefined) return "built-in prose";
  if (!("file" in items)) return "made items";
  if (folder !== "hub") return `${folder}/${items.file}`;
  return items.hub === undefined ? items.file : `${items.hub.repository}@${items.hub.revision.slice(0, 7)}`;
}

const UNITS = [["years", 8766], ["days", 24], ["hours", 1], ["minutes", 1 / 60], [
  "seconds",
  1 / 3600,
]] as const;

/** A range in two digits, each divided by a unit. */
function showRange([least, most]: Range, unit: number): string {
  const [low, high] = [least, most].map((value) =>
    Number((value / unit).toPrecision(2)).toLocaleString("en")
  );
  return low === high ? high! : `${low} to ${high}`;
}

/** Hours in the largest unit that they have several of: `3.1 to 4.2 days`. */
export function showHours(hours: Range): string {
  const [name, unit] = UNITS.find(([, unit]) => hours[1] >= 2 * unit) ?? UNITS.at(-1)!;
  return `${showRange(hours, unit)} ${name}`;
}

export const tabulateEstimate = ({ parts }: Pick<Estimate, "parts">): TextTable =>
  tabulate(parts, [
    ["part", "its protocol", ({ label }) => label, true],
    ["data", "from where", ({ data }) => data, true],
    ["runs", "methods, ratios and seeds, and dense", ({ runs }) => String(runs)],
    [
      "tokens",
      "of a run, estimated where the data are not here",
      ({ tokens }) => tokens.toLocaleString("en"),
    ],
    ["time", "of all runs", ({ hours }) => showHours(hours)],
    ["share", "of the time of all parts", ({ share }) => showFraction(share)],
  ]);

/** An estimate as lines of text. */
export function describeEstimate(estimate: Estimate): string[] {
  const { parts, hours, weightBytes, cacheBytes, workBytes, flopsPerSecond, from, model, recipe, isGated } =
    estimate;
  const dearest = parts.toSorted((a, b) => b.share - a.share).slice(0, DEAREST)
    .map(({ label, share, runs }) => `${label} (${showFraction(share)}, ${plural(runs, "run")})`).join(", ");
  const [weights, cache, work] = [weightBytes, cacheBytes, workBytes].map(formatBytes);
  return [
    `Recipe ${recipe}, on ${model}: about ${showHours(hours)} at ${
      showRange(flopsPerSecond, 1e9)
    } GFLOP/s, by ` +
    `${from}. Methods that skip much take less, matching and calibration more.`,
    `Most of the time: ${dearest}. --items and --tokens shorten a part, --methods and --ratios leave runs out.`,
    `Memory: about ${formatBytes(weightBytes + cacheBytes + workBytes)}: ${weights} of weights, ` +
    `${cache} of keys and values at the longest context, and ${work} to work with (--memory).`,
    ...(isGated
      ? [
        `The hub gives ${model} to accounts that have accepted its license: HF_TOKEN is the account's token.`,
      ]
      : []),
  ];
}
