/** A filter's results for the tokens of a layer, in the form that the plots of the method take. */

import type { TokenColumns } from "../../../heads/report.ts";
import { quantile } from "../../../math/quantile.ts";

/** Numbers, one per token; null or NaN = undefined. */
export type Column = ArrayLike<number | null>;

/** @internal Tokens of one layer in order: `{ layer, ...rows }` with `rows` from a scan ({@linkcode ScanOutput}). */
export interface LayerTrace {
  /** 0-based index of the layer in the model. */
  readonly layer: number;
  /** Score S of each token. */
  readonly redundancy: Column;
  /** 1 = compute, 0 = skip. */
  readonly keep: ArrayLike<number>;
  readonly threshold: Column;
  /** Mean over heads of the keys' cosines with their anchors. */
  readonly muK: Column;
  /** Population variance over heads of the same. */
  readonly varK: Column;
  /** Like `muK`, of the values. */
  readonly muV: Column;
  /** Like `varK`, of the values. */
  readonly varV: Column;
  readonly wK: Column;
  /** Index of each token in its sequence. Default 0, 1, 2, … */
  readonly position?: ArrayLike<number>;
  /** True redundancy r of each token, where it was measured. */
  readonly r?: Column;
}

/** Columns of tokens of all layers, as a report of `deno task heads` holds them. */
export type TraceColumns = Omit<TokenColumns, "token">;

/** Cuts columns of all layers into one trace a layer. */
export function splitLayers(columns: TraceColumns): LayerTrace[] {
  const traces: LayerTrace[] = [];
  for (let start = 0, end; start < columns.layer.length; start = end) {
    const layer = columns.layer[start]!;
    for (end = start; columns.layer[end] === layer;) end++;
    const cut = <T>(column: ArrayLike<T>) => Array.prototype.slice.call(column, start, end) as T[];
    traces.push({
      layer,
      redundancy: cut(columns.S),
      keep: cut(columns.keep),
      threshold: cut(columns.theta),
      muK: cut(columns.muK),
      varK: cut(columns.varK),
      muV: cut(columns.muV),
      varV: cut(columns.varV),
      wK: cut(columns.wK),
      position: cut(columns.position),
      r: cut(columns.r),
    });
  }
  return traces;
}

/** @internal Gathers the decisions of a run, one trace a layer: hand `trace` to a pruner's context. */
export interface TraceRecorder {
  /** Is called with decisions as they are made ({@linkcode DecisionTrace}). */
  readonly trace: (rows: Omit<LayerTrace, "layer" | "position" | "r">, layer: number, chunk: number) => void;
  /** The decisions of one chunk, layers ascending; `chunk` is 0 by default. */
  layers(chunk?: number): LayerTrace[];
}

const RECORDED = ["redundancy", "keep", "threshold", "muK", "varK", "muV", "varV", "wK"] as const;

/**
 * Starts a record of decisions, for the plots that take traces.
 *
 * @example
 * ```ts
 * import { createPruner } from "@tokenfilter/tokenfilter";
 * import { recordTrace } from "@tokenfilter/tokenfilter/plot";
 * const record = recordTrace();
 * const shape = { numLayers: 2, numHeads: 2, numKvHeads: 2, headDim: 4, hiddenSize: 8 };
 * createPruner("token-filtering", shape, { pruneRatio: 0.3 }, { trace: record.trace });
 * console.assert(record.layers().length === 0); // nothing was decided yet
 * ```
 */
export function recordTrace(): TraceRecorder {
  type Recorded = Record<typeof RECORDED[number], (number | null)[]>;
  const chunks = new Map<number, Map<number, Recorded>>();
  return {
    trace(rows, layer, chunk) {
      const layers = chunks.get(chunk) ?? new Map<number, Recorded>();
      const columns = layers.get(layer) ??
        Object.fromEntries(RECORDED.map((name) => [name, []])) as unknown as Recorded;
      chunks.set(chunk, layers.set(layer, columns));
      for (const name of RECORDED) for (const value of numbersOf(rows[name])) columns[name].push(value);
    },
    layers(chunk = 0) {
      return [...chunks.get(chunk) ?? []].sort(([a], [b]) => a - b)
        .map(([layer, columns]) => ({ layer, ...columns, keep: columns.keep as number[] }));
    },
  };
}

/** A column as an array, undefined numbers as null. */
export function numbersOf(column: Column): (number | null)[] {
  return Array.from(column, (x) => x === null || !Number.isFinite(x) ? null : x);
}

export function definedOf(column: Column): number[] {
  return numbersOf(column).filter((x) => x !== null);
}

export function positionsOf(trace: Pick<LayerTrace, "keep" | "position">): number[] {
  return Array.from(trace.position ?? trace.keep, (x, t) => trace.position === undefined ? t : x);
}

/** The quantile of numbers in ascending order; null of nothing. */
export function quantileOf(sorted: readonly number[], q: number): number | null {
  return sorted.length === 0 ? null : quantile(sorted, q);
}

export function medianOf(values: readonly number[]): number | null {
  return quantileOf([...values].sort((a, b) => a - b), 0.5);
}
