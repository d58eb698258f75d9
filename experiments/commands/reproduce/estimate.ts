/** Estimates of a recipe: runs, tokens, memory and hours, only from sizes and one short measurement. */
import type { Backend } from "../../../lib/backend.ts";
import { mlpFlops, outputFlops, projectionFlops, windowPairs } from "../../../lib/cost.ts";
import { type CacheDType, DTYPES, type WeightDType } from "../../../lib/dtype.ts";
import { UsageError } from "../../../lib/errors.ts";
import { findTask } from "../../../lib/eval/mod.ts";
import {
  createWeights,
  MODEL_NAMES,
  type ModelConfig,
  readConfigText,
  readModelFile,
} from "../../../lib/model/mod.ts";
import { tabulate, type TextTable } from "../../../lib/plot/mod.ts";
import { countOf, hostTensor } from "../../../lib/tensor.ts";
import { exists, readText } from "../cli/files.ts";
import { type FlagValues, textOf } from "../cli/flags/parse.ts";
import { formatDuration } from "../cli/output/progress.ts";
import { readDType } from "../cli/machine/model.ts";
import type { Asked } from "../run.ts";
import { readMethods } from "../compare.ts";
import { describeText } from "./data.ts";
import { dataOf, flagsOfPart } from "./parts.ts";
import { findProtocol, readKnownModels, type Recipe } from "./recipe.ts";

/** Sizes of unavailable data: tokens of WikiText-2's test text by LLaMA-2's tokenizer and of an item; number of items. */
const TEXT_TOKENS = 341_469, ITEM_TOKENS = 350, MADE_ITEMS = 50;
/** Tokens of a sequence of items. */
const ITEM_LENGTH = 100;
/** Bytes of the program, and most bytes of the full model's results. */
const PROGRAM_BYTES = 0.3e9, KEPT_BYTES = 2 ** 30;
/** Element type of the weights on the hub. */
const HUB_DTYPE: WeightDType = "bf16";

/** A part of a recipe as it is planned. */
export interface EstimatedPart {
  readonly protocol: string;
  readonly label: string;
  readonly data: string;
  readonly runs: number;
  readonly tokens: number;
  readonly hours: number;
}

export interface Estimate {
  readonly recipe: string;
  readonly model: string;
  readonly parts: readonly EstimatedPart[];
  readonly hours: number;
  readonly weightBytes: number;
  readonly cacheBytes: number;
  /** Bytes next to weights and cache. */
  readonly workBytes: number;
  /** Whether the hub asks for an account that has accepted the model's licence. */
  readonly isGated: boolean;
  /** Operations per second from which hours are estimated, and the backend that they were measured on. */
  readonly flopsPerSecond: number;
  readonly backend: string;
}

/** The known model of a name, or of a name on the hub. */
const findKnown = async (name: string) =>
  Object.entries(await readKnownModels()).find(([title, { hub }]) => [title, hub].includes(name))?.[1];

/**
 * The sizes of a model without its weights: from config.json of a folder, from models.json, else from its
 * file.
 *
 * @throws {UsageError} If nothing is known of it here.
 */
export async function readShape(name: string): Promise<ModelConfig> {
  const path = `${name.replace(/[/\\]+$/, "")}/config.json`;
  if (exists(path)) return readConfigText(path, await readText(path));
  const known = await findKnown(name);
  if (known !== undefined) return readConfigText(name, JSON.stringify(known.config));
  if (MODEL_NAMES.includes(name) || exists(name)) return (await readModelFile(name)).config;
  throw new UsageError(`Cannot plan for model "${name}": its sizes are not known here, expected its folder`);
}

/** Operations of a sequence of `tokens` tokens, with the logits of each. */
function flopsOf(config: ModelConfig, tokens: number): number {
  const layers = Array.from({ length: config.numLayers }, (_, layer) => {
    const pairs = windowPairs(tokens, config.layers?.[layer]?.window);
    return projectionFlops(config, { tokens, queried: tokens, kept: tokens }) + mlpFlops(config, tokens) +
      4 * config.numHeads * config.headDim * pairs;
  });
  return layers.reduce((a, b) => a + b) + outputFlops(config, tokens);
}

/** Tokens of the timed matrix multiplication, its largest sides, and its duration in milliseconds. */
const TIMED_TOKENS = 256, TIMED_SIDE = 2048, TIMED_MS = 500;

/** Operations per second of a matrix multiplication in f32, of the model's own sizes if they are not too large. */
function measureSpeed(backend: Backend, config: ModelConfig): number {
  const hiddenSize = Math.min(TIMED_SIDE, config.hiddenSize);
  const intermediateSize = Math.min(TIMED_SIDE, config.intermediateSize);
  const tensor = (rows: number, columns: number) =>
    backend.upload(hostTensor("f32", [rows, columns], new Float32Array(rows * columns).fill(0.5)));
  const x = tensor(TIMED_TOKENS, hiddenSize), weight = tensor(intermediateSize, hiddenSize);
  const out = tensor(TIMED_TOKENS, intermediateSize);
  const run = () => (backend.linear(x, weight, out), backend.read(out));
  run();
  const began = performance.now();
  let count = 0;
  do {
    run();
    count++;
  } while (performance.now() - began < TIMED_MS);
  const seconds = (performance.now() - began) / 1000;
  return 2 * TIMED_TOKENS * hiddenSize * intermediateSize * count / seconds;
}

/** Plans a recipe. @throws {UsageError} If its methods or model are not known. */
export async function estimateRecipe(
  recipe: Recipe,
  { values, progress }: Pick<Asked, "values" | "progress">,
  open: () => Promise<Backend>,
): Promise<Estimate> {
  const name = textOf(values, "model") ?? recipe.model, config = await readShape(name);
  const backend = await open(), data = dataOf(values), contexts: number[] = [];
  const flopsPerSecond = measureSpeed(backend, config);
  const parts: EstimatedPart[] = [];
  for (const protocol of Object.keys(recipe.parts)) {
    const own = findProtocol(recipe.published, protocol)!, flags = flagsOfPart(recipe, protocol, own, values);
    const runs = 1 + (await readMethods({ values: flags, progress })).length;
    const { tokens, length } = countTokens(flags, own.context, own.items);
    contexts.push(length);
    const flops = runs * tokens / length * flopsOf(config, length);
    parts.push({
      ...{ protocol, label: own.label, runs, tokens },
      data: describeData(own.task!, own.data, data),
      hours: flops / flopsPerSecond / 3600,
    });
  }
  let count = 0;
  createWeights(config, (spec) => (count += countOf(spec.shape), spec as never));
  const dtype = DTYPES[readDType(textOf(values, "dtype")) ?? HUB_DTYPE];
  const cache = DTYPES[(textOf(values, "cache-dtype") ?? "f32") as CacheDType];
  const most = Math.max(...parts.map(({ tokens }) => tokens)),
    valuesOfToken = 2 * config.hiddenSize + config.vocabSize;
  const known = await findKnown(name),
    longest = Math.max(...contexts);
  return {
    ...{ recipe: `${recipe.name}, version ${recipe.version}`, model: name, parts },
    hours: parts.reduce((sum, { hours }) => sum + hours, 0),
    weightBytes: count / dtype.blockSize * dtype.blockBytes,
    cacheBytes: 2 * config.numLayers * config.numKvHeads * config.headDim * longest * cache.blockBytes,
    workBytes: PROGRAM_BYTES + Math.min(KEPT_BYTES, 4 * most * valuesOfToken),
    isGated: known?.gated === true,
    flopsPerSecond,
    backend: backend.description,
  };
}

/** Tokens of a part, and of one sequence of it, if its data are unavailable. */
function countTokens(flags: FlagValues, context: number | undefined, whole: number | undefined) {
  const numberOf = (flag: string) => flags.get(flag)?.[0] as number | undefined;
  if (context !== undefined) return { tokens: numberOf("tokens") ?? TEXT_TOKENS, length: context };
  const length = numberOf("length"), items = numberOf("items") ?? whole ?? MADE_ITEMS;
  return { tokens: items * (length ?? ITEM_TOKENS), length: length ?? ITEM_LENGTH };
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

const gigabytes = (bytes: number) =>
  bytes < 1e8 ? `${Math.round(bytes / 1e6)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;
const shown = (hours: number) => formatDuration(3.6e6 * hours);

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
    ["time", "of all runs", ({ hours }) => shown(hours)],
  ]);

/** An estimate as lines of text. */
export function describeEstimate(estimate: Estimate): string[] {
  const { hours, weightBytes, cacheBytes, workBytes, flopsPerSecond, backend, model, recipe, isGated } =
    estimate;
  const rate = `${(flopsPerSecond / 1e9).toFixed(0)} GFLOP/s`;
  return [
    `Recipe ${recipe}, on ${model}: about ${
      shown(hours)
    } on this machine. An estimate: operations of runs of the full model, at ` +
    `${rate}, measured just now on one product (${backend}); filtered runs take less, matching and ` +
    "calibration more.",
    `Memory: about ${gigabytes(weightBytes + cacheBytes + workBytes)}: ${
      gigabytes(weightBytes)
    } of weights, ` +
    `${gigabytes(cacheBytes)} of keys and values at the longest context, and ${
      gigabytes(workBytes)
    } to work with ` +
    "(--memory).",
    ...(isGated
      ? [
        `The hub gives ${model} to accounts that have accepted its license: HF_TOKEN is the account's token.`,
      ]
      : []),
  ];
}
