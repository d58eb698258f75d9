/** The key side at work: it selects keys and values to evict, by a rule of its own. */
import type { LayerSpec } from "../../filter/layer.ts";
import type { HeadParts } from "../../filter/option.ts";
import type { KeyState } from "../../filter/options.ts";
import { wholeLayers } from "../../filter/schedule.ts";
import type { FilterSequence, FilterShape } from "../../filter/sequence.ts";
import { policyOf } from "../../filter/threshold.ts";
import { keyMethodOf } from "../list.ts";
import { type AnyRule, isRule } from "../protocol/method.ts";
import {
  checkWindows,
  createDense,
  type DecisionTrace,
  type KeySequence,
  type KeySide,
  type Pruner,
  type PrunerContext,
} from "../protocol/pruner.ts";
import { createEviction } from "./eviction.ts";
import { readsOf, type ResolvedOptions } from "./options.ts";
import { filtersQueries, keyRuleOf } from "./sides.ts";
import { asksOf, sourcesOf } from "./signal_store.ts";
import { openJudgement, readingsOf } from "./signal_rule.ts";
import { substituteOf } from "./substitute.ts";
import { bindFilter } from "./token_filter.ts";

/**
 * Adds the substitute and the key side of the options to the pruner of queries.
 *
 * @param queries Not called where no query is to be skipped.
 * @throws {RangeError} If the schedule is unreachable on the key side, or a layer cannot have the substitute.
 */
export function withKeySide(
  queries: () => Pruner,
  shape: FilterShape,
  options: ResolvedOptions,
  context: PrunerContext,
): Pruner {
  const name = keyRuleOf(options), { warmup, block, recent } = options;
  const replaced = (cached: boolean) => {
    const pruner = { ...queries(), skipped: { cached, substitute: substituteOf(options) } };
    checkWindows(pruner, shape);
    return pruner;
  };
  if (name === undefined) return replaced(options.kvFusion === "none");
  const query = filtersQueries(options) ? replaced(true) : {
    ...createDense(),
    name: "token-filtering",
    needs: options.keyState === "pre-rope" ? ["pre-rope keys" as const] : [],
    spans: { warmup, block, recent },
    skipped: { cached: true },
  };
  const method = keyMethodOf(name),
    ofQueries = query.needs.includes("pre-rope keys") ? "pre-rope" : "post-rope";
  const keySide = isRule(method)
    ? createKeySide(method, shape, options, ofQueries, context)
    : createEviction(method, shape, options, ofQueries, context);
  // Queries that the key side looks at are computed of all tokens.
  const all = filtersQueries(options) && keySide.needs.includes("queries") ? ["queries" as const] : [];
  const whole = wholeLayers(shape.numLayers, options, shape.retrieval);
  return {
    ...query,
    needs: [...query.needs, ...all],
    keySide: { ...keySide, ...(whole.length > 0 && { whole }) },
  };
}

function createKeySide(
  rule: AnyRule,
  shape: FilterShape,
  options: ResolvedOptions,
  keyState: KeyState,
  { backend, keyTrace: trace }: PrunerContext,
): KeySide {
  const filter = bindFilter(shape, options, "keys", backend), heads = headsOf(filter.specs);
  const isDense = !filtersQueries(options);
  const reads = readsOf(rule, options), readings = readingsOf(reads, options.recent, isDense);
  const waits = readings.length > 0,
    isOfChanges = isDense && waits && reads.every((name) => name === "change");
  return {
    layers: filter.layers,
    needs: keyState === "pre-rope" ? ["pre-rope keys"] : [],
    ...(waits && { asks: asksOf(sourcesOf(readings, filter.layers, shape.numLayers), true) }),
    at: waits ? "block" : policyOf(options).whole ? "prefill" : "arrival",
    ...(heads && { heads }),
    ...(isOfChanges && trace === undefined && { readsChangesOnly: true }),
    // Where heads have rows of their own, a device decides keys alone.
    ...(trace === undefined && (isDense || heads === undefined) && rule.native !== undefined &&
      { specs: filter.specs }),
    start: (chunk = 0) =>
      waits
        ? openJudgement(filter.specs.map((spec) => ({ ...spec, chunk })), trace, backend, isDense)
        : openScan(filter.start({ chunk }), chunk, { trace, readsIds: rule.native === undefined }),
  };
}

/** By layer its KV heads, of layers of which some keep everything; undefined where there is none. */
function headsOf(specs: readonly LayerSpec[]): ReadonlyMap<number, HeadParts> | undefined {
  const own = specs.flatMap(({ layer, headParts: parts }): [number, HeadParts][] =>
    parts ? [[layer, parts]] : []
  );
  return own.length === 0 ? undefined : new Map(own);
}

/** Rules of keys and values that are the recurrence itself: a token is decided when it arrives. */
function openScan(
  sequence: FilterSequence,
  chunk: number,
  reading: { readonly trace: DecisionTrace | undefined; readonly readsIds: boolean },
): KeySequence {
  const { trace, readsIds } = reading;
  return {
    decide({ layer, keys, values, tokens }) {
      const decisions = sequence.scan(layer, keys, values, readsIds && tokens ? { tokens } : {});
      trace?.(decisions, layer, chunk);
      return { keep: decisions.keep };
    },
    states: sequence.states,
    fork: () => openScan(sequence.fork(), chunk, reading),
  };
}
