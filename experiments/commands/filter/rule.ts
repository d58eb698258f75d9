/** Rules of the filter's recurrence on a dump. */
import type { Backend } from "../../../lib/backend.ts";
import { judgedAt, NEVER } from "../../../lib/filter/blocks.ts";
import {
  createLayerState,
  createScanOutput,
  type LayerSpec,
  type ScanOutput,
} from "../../../lib/filter/layer.ts";
import { filterOps } from "../../../lib/filter/sequence.ts";
import type { ResolvedOptions, TokenFilterOptions } from "../../../lib/methods/bind/options.ts";
import { openJudgement, readingsOf } from "../../../lib/methods/bind/signal_rule.ts";
import { asksOf, sourcesOf } from "../../../lib/methods/bind/signal_store.ts";
import { TokenFilter } from "../../../lib/methods/bind/token_filter.ts";
import { judgeDump } from "../../../lib/model/run/judge_dump.ts";
import type { Dump } from "./dump.ts";
import { type Decided, type PlannedLayer, uploadDump, type Values } from "./layer.ts";

/** Columns of numbers per token, in their order, and their meaning. */
export const COLUMNS = {
  redundancy: "score S of the rule, high = like the past",
  threshold: "score above which a token is skipped, before this token",
  keep: "1 = attention is computed, 0 = skipped",
  muK: "mean over heads of the keys' cosines with their anchors",
  varK: "variance over heads of the same",
  muV: "as muK, of the values",
  varV: "as varK, of the values",
  wK: "weight of the keys in the score, 0 to 1",
};

const { keep: _, ...OF_SCORES } = COLUMNS;
/** The same of keys and values. */
export const KEY_COLUMNS = {
  ...OF_SCORES,
  threshold: "score above which key and value are evicted, before this token; of decided tokens",
  kvKeep: "1 = key and value are kept, or not decided yet, 0 = evicted",
  decidedAt:
    "position from which on no query attends to an evicted key: the block start at which the token is decided",
};

/** A dump's layer as an input of the filter. @param ofKeys Whether keys and values are decided, not queries. */
export function planRule(
  dump: Dump,
  method: ResolvedOptions,
  { skipRatio, layer, ofKeys }: {
    readonly skipRatio: number;
    readonly layer: number;
    readonly ofKeys: boolean;
  },
): PlannedLayer {
  const [, numKvHeads, headDim] = dump.keys.shape as [number, number, number];
  const numHeads = dump.queries?.shape[1] ?? numKvHeads;
  const shape = { numLayers: 1, numHeads, numKvHeads, headDim, hiddenSize: numHeads * headDim };
  const options = { ...method, schedule: "explicit", skipRatios: [1] } as TokenFilterOptions;
  const spec = { ...new TokenFilter(shape, options).specs[0]!, skipRatio, layer };
  return { ...spec, decide: (count, backend) => decide(dump, spec, count, backend, ofKeys) };
}

/** Fills the rows of decided tokens, from signals of the dump's queries about them. */
function decideKeys(dump: Dump, spec: LayerSpec, count: number, backend: Backend, output: ScanOutput): void {
  let done = 0;
  const keyTrace = ({ redundancy, threshold, keep }: ScanOutput) => {
    output.redundancy.set(redundancy, done);
    output.threshold.set(threshold, done);
    output.keep.set(keep, done);
    done += keep.length;
  };
  const { layer, warmup, recent, block } = spec, tokens = uploadDump(dump, count, backend);
  const sequence = openJudgement([spec], keyTrace, backend, true);
  const ask = asksOf(sourcesOf(readingsOf(spec.reads, recent, true), [layer], Infinity), true).get(layer);
  judgeDump(backend, { layer, spans: { warmup, recent, block }, sequence, ask }, tokens);
  tokens.free();
}

function decide(dump: Dump, spec: LayerSpec, count: number, backend: Backend, ofKeys: boolean): Decided {
  const output = createScanOutput(count);
  if (readingsOf(spec.reads, spec.recent, true).length > 0) decideKeys(dump, spec, count, backend, output);
  else {
    const input = { keys: backend.upload(dump.keys), values: backend.upload(dump.values) };
    const state = createLayerState(spec), { scan } = filterOps(spec.rule, backend);
    for (let start = 0; start < count;) {
      start += scan(spec, state, input, start, count - start, output);
    }
    backend.free(input.keys);
    backend.free(input.values);
  }
  const orNull = (x: number) => Number.isNaN(x) ? null : x;
  const { keep, ...scores } = Object.fromEntries(
    Object.keys(COLUMNS).map((name) => [name, Array.from(output[name as "keep"], orNull)]),
  ) as unknown as { readonly keep: number[]; readonly threshold: Values; readonly [name: string]: Values };
  const { layer } = spec, first = Math.max(spec.warmup, 1);
  if (!ofKeys) {
    const { redundancy, threshold, ...rest } = scores;
    const columns = { redundancy: redundancy!, threshold, keep, ...rest };
    return { layer, keep, decided: Math.max(count - first, 0), columns };
  }
  const starts = keep.map((_, t) => judgedAt(t, spec)), judged = starts.map((start) => start < count);
  const kvKeep = keep.map((kept, t) => judged[t] ? kept : 1);
  const columns = {
    ...scores,
    threshold: scores.threshold.map((theta, t) => judged[t] ? theta : null),
    kvKeep,
    decidedAt: starts.map((start, t) => judged[t] ? start : null),
  };
  const kvEnds = [Int32Array.from(kvKeep, (kept, t) => kept === 0 ? starts[t]! : NEVER)];
  return { layer, keep: kvKeep, decided: judged.slice(first).filter(Boolean).length, columns, kvEnds };
}
