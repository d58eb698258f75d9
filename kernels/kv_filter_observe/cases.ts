/** Random calls of `tkf_filter_observe` and its batch; its results are tested with the scan's and the step's. */
import { drawSpec, drawStates } from "../kv_filter_scan/cases.ts";
import type { Calls } from "../testing/fuzz/draw.ts";

export const CALLS: Calls = {
  tkf_filter_observe(d) {
    const { layer, spec } = drawSpec(d, true), { states, open } = drawStates(d, layer, 1);
    const count = d.below(open + 1);
    return { spec, states, y: d.doubles(count), count };
  },
  tkf_filter_observe_batch(d) {
    const { layer, spec } = drawSpec(d, true), batch = d.size(4), { states } = drawStates(d, layer, batch);
    const output = d.floats(batch * layer.hiddenSize), residual = d.floats(batch * layer.hiddenSize);
    return { spec, states, keep: d.flags(batch), output, residual, batch };
  },
};
