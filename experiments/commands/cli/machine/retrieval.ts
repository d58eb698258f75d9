/** The layers that a model retrieves with, for `--whole auto`: probed once by each backend, and kept by the model's digest. */
import { cacheDir, prepareCacheDir, writeAtomically } from "../../../../lib/cache.ts";
import type { FilterShape } from "../../../../lib/filter/layer.ts";
import { wholeParts } from "../../../../lib/filter/schedule.ts";
import { createPruner } from "../../../../lib/methods/bind/create_pruner.ts";
import type { ResolvedOptions } from "../../../../lib/methods/bind/options.ts";
import type { Pruner, PrunerContext } from "../../../../lib/methods/protocol/pruner.ts";
import type { ModelConfig } from "../../../../lib/model/config/config.ts";
import type { LoadedModel } from "../../../../lib/model/open.ts";
import { type RetrievalLayers, retrievalOf } from "../../../../lib/model/retrieval.ts";
import { sha256 } from "../../../../lib/sha256.ts";
import { parseJson } from "../files.ts";
import type { Progress } from "../output/progress.ts";

/** Scores for checking a plan before the model exists: any values will do. */
export const unprobed = (
  { numLayers, numKvHeads }: Pick<ModelConfig, "numLayers" | "numKvHeads">,
): Pick<PrunerContext, "retrieval"> => ({
  retrieval: (whole) => new Array<number>(numLayers * (whole === "auto" ? 1 : numKvHeads)).fill(1),
});

/** Binds a method to a shape, to check that the method can run on such a model. */
export const tryMethod = (shape: FilterShape, method: ResolvedOptions): Pruner =>
  createPruner("token-filtering", shape, method, unprobed(shape));

type Probed = Pick<LoadedModel, "sha256" | "dtype" | "model" | "tokenizer">;

/** File in the cache folder for the scores of a model. Backends round in their own ways, so that each has its file. */
async function scoresPath({ sha256: model, dtype, model: { backend } }: Probed): Promise<string> {
  const { name, description, products } = backend;
  const computed = await sha256([dtype, name, description, products].join("\n"));
  return `${cacheDir()}/retrieval/${model}-${computed.slice(0, 16)}.json`;
}

/** Retrieval scores of a model: from the cache folder, else by a pass, whose result is kept there, with its seconds. */
export async function probeRetrieval(
  loaded: Probed,
): Promise<{ readonly found: RetrievalLayers; readonly seconds?: number }> {
  const path = await scoresPath(loaded);
  const kept = parseJson(await Deno.readTextFile(path).catch(() => "")); // else the probe is run again
  const began = performance.now(), found = retrievalOf(loaded, kept);
  if (found === kept) return { found };
  const seconds = (performance.now() - began) / 1000;
  await prepareCacheDir(path.replace(/\/[^/]*$/, ""));
  await writeAtomically(path, JSON.stringify(found));
  return { found, seconds };
}

/** Probes the model where methods keep the layers whole that it names itself, and names which these are. */
export async function tellRetrieval(
  progress: Progress,
  loaded: Probed & Pick<LoadedModel, "name">,
  methods: readonly ResolvedOptions[],
): Promise<void> {
  const own = methods.filter(({ whole }) => whole === "auto" || whole === "heads");
  if (own.length === 0) return;
  const { found, seconds } = await probeRetrieval(loaded);
  const { losses, copies } = found;
  const sets = new Set(own.map((options) => {
    const { heads } = found, perLayer = heads[0]!.length, isHeads = options.whole === "heads";
    const scores = isHeads ? heads.flat() : found.scores;
    const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
    const whole = wholeParts(heads.length, options, scores),
      share = sum(whole.map((part) => scores[part]!)) / sum(scores);
    const names = isHeads ? whole.map((part) => `${Math.floor(part / perLayer)}.${part % perLayer}`) : whole;
    const what = isHeads ? "score of KV heads" : "score";
    return `${names.join(", ") || "none"} (${(100 * share).toFixed(0)}% of the ${what})`;
  }));
  const how = seconds === undefined
    ? "as probed before"
    : `by one forward pass over random tokens in ${seconds.toFixed(1)} s`;
  progress.line(`Retrieval layers of ${loaded.name}, ${how}: ${[...sets].join("; or ")}`);
  if (copies) return;
  const [first, again] = losses.map((loss) => loss.toFixed(1));
  progress.line(
    `Warning: ${loaded.name} does not copy (${first} nats per token at first, ${again} again): its layers are a guess`,
  );
}
