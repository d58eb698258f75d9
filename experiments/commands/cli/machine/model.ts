/** A model's file, read and checked before anything is built. */
import process from "node:process";
import type { Backend } from "../../../../lib/backend.ts";
import { DTYPES, WEIGHT_DTYPES, type WeightDType } from "../../../../lib/dtype.ts";
import { UsageError } from "../../../../lib/errors.ts";
import type { ModelConfig } from "../../../../lib/model/config/config.ts";
import type { ModelProgress } from "../../../../lib/model/hub/hub.ts";
import { readModelFile } from "../../../../lib/model/load.ts";
import type { Model } from "../../../../lib/model/model.ts";
import { expectFinite, type ModelFile, type OpenOptions } from "../../../../lib/model/open.ts";
import { encodeCalibration } from "../flags/calibration.ts";
import { expectChoice, type FlagValues, textOf } from "../flags/parse.ts";
import type { Progress } from "../output/progress.ts";
import { writeLine } from "../task.ts";
import type { BackendRequest } from "./backend.ts";
import { mapShared } from "./mapped.ts";

/** Numbers of layers of models that are downloaded on demand, so that a plan can be checked before the download. */
export const REMOTE_LAYERS: ReadonlyMap<string, number> = new Map(
  Object.entries({ "smollm2-135m": 30, "gemma3-270m": 18 }),
);

/**
 * Reads the file of `--model` in the type of `--dtype`. A named model is downloaded first, with a progress bar.
 *
 * @param isShared Whether its bytes are to be shared with other processes that read it.
 * @throws {UsageError | ModelFormatError} As `loadModel`.
 */
export async function readModel(
  values: FlagValues,
  progress: Progress,
  isShared = false,
): Promise<ModelFile> {
  const dtype = readDType(textOf(values, "dtype"));
  const file = await readModelFile(modelName(values), {
    ...(dtype && { dtype }),
    onProgress: showProgress(progress),
    onNotice: (notice) => (progress.clear(), writeLine(Deno.stderr, notice)),
    ...(values.has("offline") && { offline: true }),
    ...(isShared && Deno.build.os !== "windows" && { mapFile: mapShared }),
  });
  progress.clear();
  encodeCalibration(file);
  return file;
}

/** The type of `--dtype`. @throws {UsageError} If there is no such type. */
export function readDType(text: string | undefined): WeightDType | undefined {
  return text === undefined ? undefined : expectChoice("dtype", text, WEIGHT_DTYPES);
}

export function modelName(values: FlagValues): string {
  return textOf(values, "model") ?? "tiny";
}

/**
 * Bytes of weights that fit into memory: on the machine, and in this process's container, if there is one.
 *
 * @param limit Bytes of the container, where it has a limit; 0 where that is not known.
 */
export function roomForWeights(
  { available } = Deno.systemMemoryInfo(),
  limit = process.constrainedMemory(),
  { rss } = Deno.memoryUsage(),
): number {
  // The resident size includes 30 MB of Deno's code, which a container's limit excludes. The work needs as much.
  return limit > 0 ? Math.max(0, Math.min(available, limit - rss)) : available;
}

export const formatBytes = (bytes: number): string =>
  bytes < 1e8 ? `${Math.round(bytes / 1e6)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;

/**
 * Checks that a model's weights fit into the memory that is free.
 *
 * @throws {UsageError} If they do not; the message names the type in which they would.
 */
export function expectMemory(
  { name, weights }: Pick<ModelFile, "name" | "weights">,
  freeBytes: number,
): void {
  if (weights.bytes <= freeBytes) return;
  const as = (dtype: WeightDType) => weights.values / DTYPES[dtype].blockSize * DTYPES[dtype].blockBytes;
  const fitting = WEIGHT_DTYPES.find((dtype) => as(dtype) <= freeBytes && as(dtype) < weights.bytes);
  const remedy = fitting === undefined
    ? "expected a smaller model"
    : `--dtype ${fitting} takes ${formatBytes(as(fitting))}`;
  const [needed, free] = [weights.bytes, freeBytes].map(formatBytes);
  throw new UsageError(`Cannot load "${name}": needs ${needed}, ${free} are free; ${remedy}`);
}

/** Number of tokens of a model's trial run. */
const TRIED = 16;

/**
 * Puts a model on its backend, with a bar, and runs it on the first tokens of its data.
 *
 * @throws {UsageError} If it needs more memory than is free, or a logit is not finite.
 */
export function openModel(
  file: ModelFile,
  backend: Backend,
  { cacheDType, cacheByDefault }: Pick<OpenOptions, "cacheDType"> & Pick<BackendRequest, "cacheByDefault">,
  ids: Int32Array<ArrayBuffer>,
  progress: Progress,
): Model {
  // A GPU has memory of its own, and takes tensor by tensor from here.
  if (backend.name !== "cuda") expectMemory(file, roomForWeights());
  const model = file.open(backend, { cacheDType, onProgress: showProgress(progress) });
  progress.clear();
  // The type of the cache is a condition of a study, which must not depend on where it runs.
  if (cacheByDefault && backend.name === "cuda" && file.weights.bytes < 4 * file.weights.values) {
    progress.line(
      "A KV cache of f32 takes twice the memory and no tensor cores: --cache-dtype bf16 is faster",
    );
  }
  expectFinite({ name: file.name, model }, ids.slice(0, TRIED));
  return model;
}

/** Warns on stderr about sequences that are longer than those that the model was trained on. */
export function warnOfLength(
  tokens: number,
  { contextLength }: Pick<ModelConfig, "contextLength">,
  what: string = `chunks of ${tokens} tokens`,
  stream: Parameters<typeof writeLine>[0] = Deno.stderr,
): void {
  if (tokens > contextLength) {
    writeLine(stream, `Warning: ${what}; the model was trained on ${contextLength}`);
  }
}

/** Reports downloads and long reads: by a bar on a terminal, elsewhere by a line at each tenth of a download. */
function showProgress(progress: Progress): (state: ModelProgress) => void {
  return ({ stage, source, doneBytes, totalBytes }) => {
    const fraction = totalBytes === 0 ? 1 : doneBytes / totalBytes;
    const size = `${(doneBytes / 1e6).toFixed(0)} of ${(totalBytes / 1e6).toFixed(0)} MB`;
    const what = stage === "download"
      ? `Downloading from ${source}`
      : `${stage === "read" ? "Reading" : "Loading"} ${source.split("/").at(-1)}`;
    const label = `${what}: ${size}`;
    if (stage === "download") progress.step(fraction, label);
    else progress.bar(fraction, label);
  };
}
