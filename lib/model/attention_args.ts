/** What the attention op is asked for: queries of a layer over what it has cached. */
import type { AttentionArgs } from "../backend.ts";
import type { Tensor } from "../tensor.ts";
import { layerConfig, type ModelConfig } from "./config.ts";
import type { ForwardPass } from "./forward_pass.ts";
import { type EndingRow, endsOf } from "./key_judge.ts";
import type { CachedRows } from "./kv_cache.ts";

/** What queries of a layer see. */
export interface SeenRows {
  /** Cached rows. */
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
 * Some of the queries alone, all of them full or all of them local.
 *
 * @param rows Which, ascending, and their positions.
 * @param local How far back they see, and the sinks; full where it is left out.
 */
export function narrowArgs(
  pass: ForwardPass,
  args: AttentionArgs,
  { rows, positions }: {
    readonly rows: Int32Array<ArrayBuffer>;
    readonly positions: Int32Array<ArrayBuffer>;
  },
  local?: { readonly recent: number; readonly sinks: number },
): Omit<AttentionArgs, "out"> {
  const { out: _, windows: __, sinks: ___, ...rest } = args;
  return {
    ...rest,
    queries: pass.byHead(pass.gather("someQueries", args.queries, rows)),
    queryPositions: pass.i32(positions),
    ...(local && { windows: windowsOf(pass, new Uint8Array(rows.length), local.recent), sinks: local.sinks }),
  };
}

/** Windows of queries: full where `keep` is 1, else local. */
export function windowsOf(pass: ForwardPass, keep: Uint8Array, recent: number): Tensor {
  const windows = new Int32Array(keep.length);
  for (let i = 0; i < keep.length; i++) windows[i] = keep[i] === 1 ? -1 : recent;
  return pass.i32(windows);
}
