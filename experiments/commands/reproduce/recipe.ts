/** Recipes as data: protocols, texts, methods, and the published numbers of each protocol. */
import { fileURLToPath } from "node:url";
import { UsageError } from "../../../lib/errors.ts";
import { sayNearest } from "../../../lib/nearest.ts";
import type { ModelConfig } from "../../../lib/model/config/config.ts";
import { readConfigText } from "../../../lib/model/config/read_config.ts";
import type { PublishedNumber } from "../../../lib/plot/reports/reproduction.ts";
import { readJson } from "../cli/files.ts";

/** The measurement of a number. A protocol without a task has only numbers of others. */
export interface Protocol {
  readonly label: string;
  readonly says: string;
  readonly task?: string;
  /** The text, as data.json names it; left out: the built-in one, or the task's items. */
  readonly data?: string;
  /** Tokens per chunk. */
  readonly context?: number;
  /** Only the first tokens of the text. */
  readonly tokens?: number;
  /** Number of items in the whole data set. */
  readonly items?: number;
  /** Tokens that one of them is fed as, by SmolLM2's tokenizer, in the mean. */
  readonly itemTokens?: number;
  /** SHA-256 of the file of items in a folder. */
  readonly sha256?: string;
}

/** Flags of a comparison by name, as on its command line. */
type FlagTexts = { readonly [flag: string]: string };

export interface Recipe {
  readonly name: string;
  /** Its JSON. */
  readonly content: string;
  readonly version: number;
  readonly about: string;
  /** The model where none is named. */
  readonly model: string;
  readonly methods: string;
  readonly ratios: string;
  /** Flags of deno task compare for all parts. */
  readonly flags: FlagTexts;
  /** The text for fitting methods that alter the model. */
  readonly calibration?: { readonly data: string; readonly domain: string; readonly tokens: number };
  /** Lengths at which time and memory are measured. */
  readonly lengths: readonly number[];
  /** Numbers of sequences with which they are measured; left out: one. */
  readonly batches?: readonly number[];
  /** Protocols in their order, each with flags of its own; `PROTOCOL (words)` is an ablation, of which nothing is published. */
  readonly parts: { readonly [part: string]: FlagTexts };
  /** Protocols and published numbers: those of published.json and of the recipe's own file. */
  readonly published: PublishedFile;
}

/** Numbers of one source, model and protocol: the full model's, and those of methods by ratio in percent. */
interface PublishedGroup {
  readonly source: string;
  readonly protocol: string;
  readonly model: string;
  /** False for a number that its source does not vouch for. */
  readonly isTarget?: boolean;
  readonly values: { readonly [method: string]: number | { readonly [percent: string]: number } };
}

interface PublishedFile {
  readonly protocols: { readonly [name: string]: Protocol };
  readonly sources: { readonly [name: string]: string };
  readonly numbers: readonly PublishedGroup[];
}

interface KnownModel {
  readonly hub: string;
  /** Whether the hub asks for an account that has accepted its licence. */
  readonly gated?: boolean;
  /** Its config.json. */
  readonly config: { readonly [key: string]: unknown };
}

const read = async <T>(name: string) => await readJson(fileURLToPath(new URL(name, import.meta.url))) as T;

/** The recipes that come with the project. */
export const RECIPES = ["quick", "study", "paper"] as const;

export const readKnownModels = (): Promise<{ readonly [name: string]: KnownModel }> => read("models.json");

const KEYS = ["version", "about", "model", "methods", "ratios", "flags", "lengths", "parts"] as const;

/** Flags of the task and its data, which only a protocol sets. */
const OF_PROTOCOLS = ["task", "task-file", "context", "text", "data"] as const;

/**
 * Reads a recipe by its name, or from a file.
 *
 * @param content Its JSON, instead of the file's.
 * @throws {UsageError} If there is none, or it is not complete.
 */
export async function readRecipe(named: string, content?: string): Promise<Recipe> {
  const isOwn = /\.json$/.test(named);
  if (!isOwn && !(RECIPES as readonly string[]).includes(named)) {
    const expected = `${RECIPES.join(", ")} or a .json file${sayNearest(named, RECIPES, "; ")}`;
    throw new UsageError(`Cannot use recipe "${named}": expected ${expected}`);
  }
  const path = isOwn ? named : fileURLToPath(new URL(`recipes/${named}.json`, import.meta.url));
  const found = content === undefined ? await readJson(path) : JSON.parse(content);
  const recipe = found as Omit<Recipe, "name" | "published"> & Partial<PublishedFile> | null;
  const known = await read<PublishedFile>("published.json"), { numbers = [] } = recipe ?? {};
  const sources = { ...known.sources, ...recipe?.sources };
  const protocols = { ...known.protocols, ...recipe?.protocols };
  const missing = KEYS.find((key) => recipe?.[key] === undefined);
  const refuse = (found: string) => new UsageError(`Cannot use recipe "${named}": found ${found}`);
  if (missing !== undefined) throw refuse(`no "${missing}"`);
  const parts = Object.keys(recipe!.parts);
  if (parts.length === 0) throw refuse('no part in "parts"');
  const unknown = parts.find((name) => findProtocol({ protocols }, name)?.task === undefined);
  if (unknown !== undefined) {
    const names = Object.keys(protocols).filter((name) => protocols[name]!.task !== undefined);
    throw refuse(`part "${unknown}", expected some of ${names.join(", ")}`);
  }
  const again = Object.keys(recipe!.protocols ?? {}).find((name) => Object.hasOwn(known.protocols, name));
  if (again !== undefined) {
    throw refuse(`another protocol "${again}", expected a name of its own: published numbers have that one`);
  }
  const labels = Object.values(protocols).map(({ label }) => label);
  const twice = labels.find((label, i) => labels.indexOf(label) !== i);
  if (twice !== undefined) throw refuse(`two protocols with the label "${twice}", expected one of each`);
  for (const [place, flags] of [["flags", recipe!.flags], ...Object.entries(recipe!.parts)] as const) {
    const own = OF_PROTOCOLS.find((flag) => Object.hasOwn(flags, flag));
    if (own !== undefined) {
      throw refuse(`"${own}" in "${place}", expected it only in a protocol: the numbers are of another one`);
    }
  }
  const lost = numbers.find(({ source, protocol }) => !sources[source] || !protocols[protocol]);
  if (lost !== undefined) {
    throw refuse(
      `numbers of "${lost.source}" by "${lost.protocol}", expected both in sources and protocols`,
    );
  }
  return {
    ...recipe!,
    content: content ?? JSON.stringify(found),
    name: named.replace(/^.*[/\\]|\.json$/g, ""),
    published: { protocols, sources, numbers: [...known.numbers, ...numbers] },
  };
}

/** The lengths that numbers of sequences are measured at: all of them together are no longer than the longest one. */
export const listBatches = ({ lengths, batches = [1] }: Pick<Recipe, "lengths" | "batches">) =>
  batches.map((batch) => ({
    batch,
    lengths: lengths.filter((length) => batch * length <= Math.max(...lengths)),
  }));

/** The protocol of a part, whose label names the change of an ablation; undefined where there is none. */
export function findProtocol(
  { protocols }: Pick<PublishedFile, "protocols">,
  part: string,
): Protocol | undefined {
  const [, name = part, change] = part.match(/^(.*?) (\(.*\))$/) ?? [], found = protocols[name];
  return found && change !== undefined ? { ...found, label: `${found.label} ${change}` } : found;
}

/** Published numbers of a model under a protocol. */
export function findPublished(
  { numbers, sources }: PublishedFile,
  model: string | undefined,
  protocol: string,
): (PublishedNumber & { readonly isTarget: boolean })[] {
  return numbers.filter((group) => group.model === model && group.protocol === protocol).flatMap(
    ({ source, values, isTarget = true }) =>
      Object.entries(values).flatMap(([method, value]) =>
        (typeof value === "number" ? [["", value] as const] : Object.entries(value)).map((
          [percent, value],
        ) => ({
          ...{ row: percent === "" ? method : `${method} ${percent}%`, value, isTarget },
          source: sources[source]!,
        }))
      ),
  );
}

/** Sizes that identify a model. */
const SHAPE = [
  "architecture",
  "numLayers",
  "hiddenSize",
  "intermediateSize",
  "numHeads",
  "numKvHeads",
  "vocabSize",
  "contextLength",
] as const;

/** The known model of a config's shape; undefined where there is none. */
export async function findModel(config: ModelConfig): Promise<string | undefined> {
  const known = Object.entries(await readKnownModels());
  return known.find(([name, { config: own }]) => {
    const its = readConfigText(name, JSON.stringify(own));
    return SHAPE.every((size) => its[size] === config[size]);
  })?.[0];
}

/**
 * The model whose published numbers are next to the results: the one that was named, else that of the config's shape.
 *
 * @throws {UsageError} If nothing is published of the one that was named.
 */
export async function choosePublished(
  { published }: Pick<Recipe, "published">,
  named: string | undefined,
  config: ModelConfig,
): Promise<string | undefined> {
  if (named === "none") return undefined;
  if (named === undefined) return await findModel(config);
  const models = [...new Set(published.numbers.map(({ model }) => model))];
  if (models.includes(named)) return named;
  const expected = `none or one of ${models.join(", ")}${sayNearest(named, models, "; ")}`;
  throw new UsageError(`Cannot use --published ${named}: expected ${expected}`);
}
