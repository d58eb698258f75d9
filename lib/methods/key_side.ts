/** The key side at work: whose key and value go, by a rule of its own. */
import { cloneLayerState, createLayerState, createScanOutput, type LayerSpec } from "../filter/layer.ts";
import { RowToken } from "../filter/rule.ts";
import type { FilterSequence, FilterShape } from "../filter/sequence.ts";
import { openDecisions, policyOf } from "../filter/threshold.ts";
import { createDense } from "./dense.ts";
import { methodOf } from "./list.ts";
import type { AnyRule } from "./method.ts";
import { readsOf, type ResolvedOptions, type TokenFilterOptions } from "./options.ts";
import type { DecisionTrace, KeySequence, KeySide, Pruner, PrunerContext } from "./pruner.ts";
import { filtersQueries, keyRuleOf } from "./sides.ts";
import { substituteOf } from "./substitute.ts";
import { TokenFilter } from "./token_filter.ts";

/**
 * Adds the key side that options ask for to what decides queries.
 *
 * @param queries Binds the query side; not called where no query is to be skipped.
 * @throws {RangeError} If the schedule is unreachable on the key side.
 */
export function withKeySide(
  queries: () => Pruner,
  shape: FilterShape,
  options: ResolvedOptions,
  context: PrunerContext,
): Pruner {
  const name = keyRuleOf(options), { warmup, keyState } = options;
  const replaced = () => ({ ...queries(), substitute: substituteOf(options) });
  if (name === undefined) return { ...replaced(), cacheSkipped: options.kvFusion === "none" };
  const keySide = createKeySide(methodOf(name) as AnyRule, shape, options, context);
  const query = filtersQueries(options)
    ? replaced()
    : { ...createDense(), name: "token-filtering", warmup, keyState };
  const ahead = keySide.looksAhead ? "scores" : "nothing";
  return {
    ...query,
    cacheSkipped: true,
    looksAhead: query.looksAhead === "nothing" ? ahead : query.looksAhead,
    keySide,
  };
}

function createKeySide(
  rule: AnyRule,
  shape: FilterShape,
  options: ResolvedOptions,
  { backend, keyTrace: trace }: PrunerContext,
): KeySide {
  // A filter of no queries is one of keys and values.
  const filter = new TokenFilter(shape, { ...options, pruneRatio: 0 } as TokenFilterOptions, backend);
  const { warmup, recent, block } = options, wantsAttention = readsOf(rule, options).includes("attention");
  return {
    layers: filter.layers,
    warmup,
    recent,
    block,
    wantsAttention,
    looksAhead: policyOf(options).whole === true,
    start: (chunk = 0) =>
      wantsAttention
        ? openReceived(filter.specs.map((spec) => ({ ...spec, chunk })), chunk, trace)
        : openScan(filter.start({ chunk }), chunk, trace),
  };
}

/** Rules of keys and values: the recurrence itself, which knows what becomes of a token when it comes. */
function openScan(sequence: FilterSequence, chunk: number, trace?: DecisionTrace): KeySequence {
  return {
    decide({ layer, keys, values }) {
      const decisions = sequence.scan(layer, keys!, values!);
      trace?.(decisions, layer, chunk);
      return decisions.keep;
    },
    fork: () => openScan(sequence.fork(), chunk, trace),
  };
}

/** Rules of the attention received: thresholds alone, over scores that come when tokens are judged. */
function openReceived(
  specs: readonly LayerSpec[],
  chunk: number,
  trace?: DecisionTrace,
  states = specs.map(createLayerState),
): KeySequence {
  return {
    decide({ layer, count, attention }) {
      const index = specs.findIndex((spec) => spec.layer === layer), spec = specs[index]!;
      const decisions = openDecisions(spec, states[index]!), rows = createScanOutput(count);
      for (let row = 0; row < count; row++) {
        const token = Object.assign(new RowToken(spec, decisions.seen), { attention: attention![row]! });
        const raw = spec.rule.score!(token, spec as never);
        const { skip, theta } = decisions.decide(spec.invert ? -raw : raw);
        rows.redundancy[row] = spec.invert ? -raw : raw;
        rows.threshold[row] = theta;
        rows.keep[row] = skip ? 0 : 1;
      }
      trace?.(rows, layer, chunk);
      return rows.keep;
    },
    fork: () => openReceived(specs, chunk, trace, states.map(cloneLayerState)),
  };
}
