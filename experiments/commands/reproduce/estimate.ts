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
import { countOf } from "../../../lib/tensor.ts";
import { exists, readText } from "../cli/files.ts";
import { type FlagValues, textOf } from "../cli/flags/parse.ts";
import { formatDuration } from "../cli/output/progress.ts";
import { formatBytes, readDType } from "../cli/machine/model.ts";
import type { Asked } from "../run.ts";
import { readMethods } from "../compare.ts";
import { describeText } from "./data.ts";
import { dataOf, flagsOfPart } from "./parts.ts";
import { findProtocol, listBatches, type Protocol, readKnownModels, type Recipe } from "./recipe.ts";
import { measureSpeed } from "./speed.ts";
import { countWork, flopsOf, type Sequences, type Workload } from "./workload.ts";

/** Sizes of unavailable data: tokens of WikiText-2's test text by LLaMA-2's tokenizer, of an item and of its answers; items. */
const TEXT_TOKENS = 341_469, ITEM_TOKENS = 256, ANSWER_TOKENS = 20, MADE_ITEMS = 50;
/** Bytes of the program; rows of logits that exist at a time. */
const PROGRAM_BYTES = 0.3e9, LOGIT_ROWS = 128;
/** How often a length is measured, the first time for nothing. */
const LENGTH_TURNS = 4;
/** Element type of the weights on the hub. */
const HUB_DTYPE: DType = "bf16";

/** A part of a recipe as it is planned. */
interface EstimatedPart {
  readonly protocol: string;
  readonly label: string;
  readonly data: string;
  readonly runs: number;
  readonly tokens: number;
  readonly hours: number;
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
  const backend = await open(),
    data = dataOf(values),
    cacheDType = (textOf(values, "cache-dtype") ?? "f32") as CacheDType;
  const speed = measure(backend, config, dtype, cacheDType);
  const secondsOf = ({ length, layers, logits }: Workload) =>
    layers * speed.layer(length) + logits * speed.logits;
  const parts: EstimatedPart[] = [], works: ReturnType<typeof countWork>[] = [];
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
      hours: secondsOf(work) / 3600,
    });
  }
  const known = await findKnown(name),
    longest = Math.max(...works.map(({ length }) => length), ...recipe.lengths);
  const layerFlops = works.reduce((sum, work) => sum + flopsOf(config, work), 0);
  const seconds = works.reduce((sum, work) => sum + secondsOf(work), 0);
  return {
    ...{ recipe: `${recipe.name}, version ${recipe.version}`, model: name, parts },
    hours: (seconds + lengths.reduce((sum, work) => sum + secondsOf(work), 0)) / 3600,
    weightBytes: weights !== undefined && asked === undefined ? weights.bytes : countBytes(config, dtype),
    cacheBytes: 2 * config.numLayers * config.numKvHeads * config.headDim * longest *
      DTYPES[cacheDType].blockBytes,
    /** Next to weights and cache. */
    workBytes: PROGRAM_BYTES + Math.max(...works.map(({ keptBytes }) => keptBytes)) +
      countActivations(config, longest),
    isGated: known?.gated === true,
    /** From which hours are estimated; measured on the backend. */
    flopsPerSecond: layerFlops / seconds,
    backend: backend.description,
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
  const [weights, cache, work] = [weightBytes, cacheBytes, workBytes].map(formatBytes);
  return [
    `Recipe ${recipe}, on ${model}: about ${
      shown(hours)
    } on this machine. An estimate from one layer of these sizes, ` +
    `timed just now at ${rate} (${backend}); methods that skip much take less, matching and calibration more.`,
    `Memory: about ${formatBytes(weightBytes + cacheBytes + workBytes)}: ${weights} of weights, ` +
    `${cache} of keys and values at the longest context, and ${work} to work with (--memory).`,
    ...(isGated
      ? [
        `The hub gives ${model} to accounts that have accepted its license: HF_TOKEN is the account's token.`,
      ]
      : []),
  ];
}
