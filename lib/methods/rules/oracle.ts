/**
 * The oracle: skips the tokens whose attention adds least, r = norm(o) / norm(x), as many as the policy `topk`
 * would. It is non-causal at the attention's own output, so it is an upper bound for tables, not a method to use.
 */
import { createScanOutput } from "../../filter/layer.ts";
import type { FilterOptions } from "../../filter/options.ts";
import { planLayers, unplannedLayer } from "../../filter/schedule.ts";
import type { FilterShape } from "../../filter/sequence.ts";
import { chooseHighest } from "../../filter/threshold.ts";
import type { PrunerMethod } from "../protocol/method.ts";
import { definePruner, type Pruner, type PrunerContext, type SideSequence } from "../protocol/pruner.ts";

/** The redundancy in its trace is -r. */
export const oracle: PrunerMethod<"oracle"> = {
  name: "oracle",
  help: "output of the attention itself, computed beforehand: a non-causal upper bound",
  nonCausal: true,
  labels: { phase: "prefill" },
  looks: { place: 2 },
  create,
};

function create(shape: FilterShape, options: FilterOptions, { trace }: PrunerContext): Pruner {
  const planned = planLayers(shape.numLayers, { ...options, threshold: "topk" });
  const plan = new Map(planned.map(({ layer, skipRatio }) => [layer, skipRatio]));
  const { warmup, block, invert, recent } = options;

  const wrap = (seen: Set<number>, chunk: number): SideSequence => ({
    decide({ layer, count, futureOutputs }, start) {
      const skipRatio = plan.get(layer);
      if (skipRatio === undefined) throw unplannedLayer(layer, plan.keys());
      if (start !== 0 || seen.has(layer)) {
        throw new RangeError(
          `Cannot decide layer ${layer}: found tokens decided before, expected a whole sequence as one prefill, since ` +
            `the oracle is non-causal`,
        );
      }
      if (futureOutputs === undefined || futureOutputs.length !== count) {
        const found = futureOutputs?.length ?? "no";
        throw new TypeError(
          `Cannot decide layer ${layer}: found ${found} attention outputs, expected ${count}`,
        );
      }
      const undefinedAt = futureOutputs.findIndex(Number.isNaN);
      if (undefinedAt >= 0) {
        throw new RangeError(
          `Cannot decide layer ${layer}: found NaN for token ${undefinedAt}, expected norm(o) / norm(x)`,
        );
      }
      const rows = createScanOutput(count);
      rows.redundancy.set(futureOutputs.map((r) => invert ? r : -r));
      rows.keep.set(chooseHighest(rows.redundancy, skipRatio, warmup));
      seen.add(layer);
      trace?.(rows, layer, chunk);
      return { keep: rows.keep };
    },
    fork: () => wrap(new Set(seen), chunk),
  });

  return definePruner({
    name: "oracle",
    layers: [...plan.keys()],
    needs: ["future outputs"],
    at: "prefill",
    spans: { warmup, block, recent },
    start: (chunk = 0) => wrap(new Set(), chunk),
  });
}
