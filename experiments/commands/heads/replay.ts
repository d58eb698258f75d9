/** Replays the decisions of a trace. */
import { UsageError } from "../../../lib/errors.ts";
import { replayTable } from "../../../lib/heads/trace.ts";
import { createReplay } from "../../../lib/methods/bind/replay.ts";
import type { Pruner } from "../../../lib/methods/protocol/pruner.ts";
import type { ModelFile } from "../../../lib/model/open.ts";
import type { readTrace, TraceInfo } from "./trace_file.ts";

export interface ScoreRun {
  readonly ids: Int32Array<ArrayBuffer>;
  /** The full model where left out. */
  readonly pruner: Pruner | undefined;
}

/**
 * The sequences of a trace, each with its decisions.
 *
 * @throws {UsageError} If the trace is another model's, or does not fit it.
 */
export function readReplay(
  path: string,
  { table, info }: Awaited<ReturnType<typeof readTrace>>,
  { name, sha256, config }: ModelFile,
): { readonly runs: readonly ScoreRun[]; readonly info: TraceInfo } {
  if (info.modelSha256 !== sha256) {
    const found = `${info.model} (${info.modelSha256.slice(0, 12)})`;
    const expected = `${name} (${sha256.slice(0, 12)})`;
    throw new UsageError(
      `Cannot replay "${path}": found decisions of ${found}, expected those of ${expected}`,
    );
  }
  const { warmup, recent, cacheSkipped, whole, queries, keySide, substitute, warmsUpFirst } = info;
  try {
    const runs = replayTable(table).map(({ ids, keep, cuts, kvKeep }) => {
      const wrong = ids.find((id) => id < 0 || id >= config.vocabSize);
      if (wrong !== undefined) {
        throw new RangeError(`Cannot replay: found id ${wrong}, expected ids below ${config.vocabSize}`);
      }
      if (ids.length < 2) throw new RangeError("Cannot replay: found a sequence of one token, expected two");
      return {
        ids,
        pruner: createReplay(config, {
          ...{ keep, cuts, whole, queries, warmup, recent, cacheSkipped, kvKeep },
          ...{ ...keySide, substitute, warmsUpFirst },
          heads: new Map(
            Object.entries(keySide?.heads ?? {}).map(([layer, parts]) => [Number(layer), parts]),
          ),
        }),
      };
    });
    return { runs, info };
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new UsageError(`${error.message} (in "${path}")`);
  }
}
