/** A rule as a pruner: the filter's recurrence decides by it. */
import type { FilterSequence, FilterShape } from "../../filter/sequence.ts";
import { policyOf } from "../../filter/threshold.ts";
import type { AnyRule } from "../protocol/method.ts";
import { readsOf, type ResolvedOptions } from "./options.ts";
import type { Need, Pruner, PrunerContext, SideSequence } from "../protocol/pruner.ts";
import { bindRule } from "./substitute.ts";
import { bindFilter } from "./token_filter.ts";

/** Binds a rule to a model's shape. @throws {TypeError | RangeError} If a size is wrong, or the schedule unreachable. */
export function createRulePruner(
  name: string,
  rule: AnyRule,
  shape: FilterShape,
  options: ResolvedOptions,
  { backend, trace }: PrunerContext,
): Pruner {
  const filter = bindFilter(shape, options, "queries", backend, rule);
  const { warmup, block, recent } = options, reads = readsOf(rule, options);
  const allocates = options.schedule === "allocated", { native } = bindRule(rule, options, backend);

  function wrap(sequence: FilterSequence, chunk: number): SideSequence {
    return {
      decide({ layer, keys, values, residual, normed, queries, tokens }, start) {
        const withIds = native === undefined && tokens ? { tokens } : {};
        const extra = { residual: residual!, normed: normed!, ...(queries && { queries }), ...withIds };
        if (trace === undefined) return { keep: sequence.keep(layer, keys, values, extra, start) };
        const decisions = sequence.scan(layer, keys, values, extra, start);
        trace(decisions, layer, chunk);
        return { keep: decisions.keep.subarray(0, decisions.taken) };
      },
      observe: (layer, { outputNorms, residualNorms }) => sequence.observe(layer, outputNorms, residualNorms),
      states: sequence.states,
      fork: () => wrap(sequence.fork(), chunk),
    };
  }

  const needs: Need[] = [];
  if (options.keyState === "pre-rope") needs.push("pre-rope keys");
  if (reads.includes("queries")) needs.push("queries");
  if (reads.includes("outputs")) needs.push("outputs");
  else if (allocates) needs.push("warm-up outputs");
  return {
    name,
    layers: filter.layers,
    needs,
    at: policyOf(options).whole ? "prefill" : allocates ? "warm-up" : "arrival",
    spans: { warmup, block, recent },
    skipped: { cached: false },
    // A device decides by itself where it has the rule, and then no trace receives its decisions.
    ...(trace === undefined && native !== undefined && { specs: filter.specs }),
    start: (chunk = 0) => wrap(filter.start({ chunk }), chunk),
  };
}
