/** Replays the decisions of a file: of a trace, or of `--decisions`. */
import { UsageError } from "../../../lib/errors.ts";
import { replayDecisions } from "../../../lib/heads/replay_decisions.ts";
import { replayTable } from "../../../lib/heads/trace.ts";
import { createReplay, type ReplayOptions } from "../../../lib/methods/bind/replay.ts";
import type { Pruner } from "../../../lib/methods/protocol/pruner.ts";
import type { ModelFile } from "../../../lib/model/open.ts";
import { isOfDecisions, readDecisions } from "./decisions_file.ts";
import { readTrace, type TraceInfo } from "./trace_file.ts";

export interface ScoreRun {
  readonly ids: Int32Array<ArrayBuffer>;
  /** The full model where left out. */
  readonly pruner: Pruner | undefined;
}

type Feeding = Pick<
  TraceInfo,
  "model" | "modelSha256" | "phase" | "piece" | "cacheDType" | "dtype" | "products"
>;

/** Decisions of a file, and how their run was fed. */
export interface ReplayedFile {
  readonly info: Feeding;
  /** Its sequences, for a model of a shape. @throws {RangeError} If the decisions do not fit it. */
  sequences(
    shape: ModelFile["config"],
  ): { readonly ids: Int32Array<ArrayBuffer>; readonly options: ReplayOptions }[];
}

/**
 * Reads a trace, or a file of decisions.
 *
 * @param method Of a file of decisions with several methods, the one to replay.
 * @throws {UsageError} If the file cannot be read, or is neither.
 */
export async function readReplayedFile(path: string, method: string | undefined): Promise<ReplayedFile> {
  if (await isOfDecisions(path)) {
    const { info, decisions, plan } = await readDecisions(path, method);
    const { phase = "prefill", piece = null } = info;
    return { info: { ...info, phase, piece }, sequences: (shape) => replayDecisions(shape, decisions, plan) };
  }
  if (method !== undefined) {
    throw new UsageError(
      `Cannot use --replay-method ${method}: "${path}" is a trace, of one method (leave it out)`,
    );
  }
  const { table, info } = await readTrace(path);
  return { info, sequences: () => replayTable(table).map((sequence) => replayTrace(sequence, info)) };
}

function replayTrace({ ids, ...masks }: ReturnType<typeof replayTable>[0], info: TraceInfo) {
  const { warmup, recent, cacheSkipped, whole, queries, keySide, substitute, warmsUpFirst } = info;
  const heads = new Map(
    Object.entries(keySide?.heads ?? {}).map(([layer, parts]) => [Number(layer), parts]),
  );
  const options: ReplayOptions = {
    ...{ ...masks, whole, queries, warmup, recent, cacheSkipped, heads },
    ...(substitute && { substitute }),
    ...(warmsUpFirst !== undefined && { warmsUpFirst }),
    ...(keySide && { block: keySide.block, keysAt: keySide.wantsAttention ? "block" : "arrival" }),
  };
  return { ids, options };
}

/**
 * The sequences of a file, each with its decisions.
 *
 * @throws {UsageError} If they are another model's, or do not fit it.
 */
export function readReplay(
  path: string,
  { info, sequences }: ReplayedFile,
  { name, sha256, config }: ModelFile,
): readonly ScoreRun[] {
  if (info.modelSha256 !== sha256) {
    const found = `${info.model} (${info.modelSha256.slice(0, 12)})`;
    const expected = `${name} (${sha256.slice(0, 12)})`;
    throw new UsageError(
      `Cannot replay "${path}": found decisions of ${found}, expected those of ${expected}`,
    );
  }
  try {
    return sequences(config).map(({ ids, options }) => {
      const wrong = ids.find((id) => id < 0 || id >= config.vocabSize);
      if (wrong !== undefined) {
        throw new RangeError(`Cannot replay: found id ${wrong}, expected ids below ${config.vocabSize}`);
      }
      if (ids.length < 2) throw new RangeError("Cannot replay: found a sequence of one token, expected two");
      return { ids, pruner: createReplay(config, options) };
    });
  } catch (error) {
    if (error instanceof TypeError) {
      throw new UsageError(
        `Cannot replay "${path}": its description of the run is damaged (write the file again)`,
      );
    }
    if (!(error instanceof RangeError)) throw error;
    throw new UsageError(`${error.message} (in "${path}")`);
  }
}
