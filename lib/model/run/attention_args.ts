/** What the attention op is asked for: queries of a layer over what it has cached. */
import type { AttentionArgs } from "../../backend.ts";
import type { Tensor } from "../../tensor.ts";
import { layerConfig, type ModelConfig } from "../config.ts";
import type { ForwardPass } from "./forward_pass.ts";
import { type EndingRow, endsOf } from "./key_judge.ts";
import type { CachedRows } from "./kv_cache.ts";

export interface SeenRows {
  readonly kept: CachedRows;
  /** Rows of the recent window, and for how many tokens they are seen. */
  readonly skipped: CachedRows;
  readonly recent: number;
  /** Which cached rows end before the last query. */
  readonly ending: readonly EndingRow[];
}

/** The op's arguments, in a layer with its own window; all queries are full. */
export function attentionArgs(
  pass: ForwardPass,
  config: ModelConfig,
  layer: number,
  { kept, skipped, recent, ending }: SeenRows,
  asked: Pick<AttentionArgs, "queries" | "queryPositions" | "out" | "scale">,
): AttentionArgs {
  const { window } = layerConfig(config, layer), reach = window === undefined ? Infinity : window - 1;
  return {
    ...asked,
    ...(window !== undefined && {
      windows: pass.i32(new Int32Array(asked.queries.shape[0]!).fill(reach)),
    }),
    keys: pass.byHead(kept.keys),
    values: pass.byHead(kept.values),
    keyPositions: pass.i32(kept.positions),
    numKeys: kept.count,
    ...(ending.length > 0 && { keyEnds: pass.i32(endsOf(kept.positions, ending)) }),
    recentKeys: pass.byHead(skipped.keys),
    recentValues: pass.byHead(skipped.values),
    recentPositions: pass.i32(skipped.positions),
    numRecent: skipped.count,
    recent: Math.min(recent, reach),
  };
}

/**
 * Some of the queries alone, all of them full.
 *
 * @param rows Which, ascending, and their positions.
 */
export function narrowArgs(
  pass: ForwardPass,
  args: AttentionArgs,
  { rows, positions }: {
    readonly rows: Int32Array<ArrayBuffer>;
    readonly positions: Int32Array<ArrayBuffer>;
  },
): Omit<AttentionArgs, "out"> {
  const { out: _, windows: __, sinks: ___, ...rest } = args;
  return {
    ...rest,
    queries: pass.byHead(pass.gather("someQueries", args.queries, rows)),
    queryPositions: pass.i32(positions),
  };
}

/** Windows of so many queries: those that are full see everything, the others are local. */
export function windowsOf(pass: ForwardPass, count: number, full: Int32Array, recent: number): Tensor {
  const windows = new Int32Array(count).fill(recent);
  for (const query of full) windows[query] = -1;
  return pass.i32(windows);
}
