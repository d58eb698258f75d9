/** Random calls of `tkf_filter_step`. */
import { drawCache } from "../filtered_attention/cases.ts";
import { drawSpec, drawStates, drawTensors } from "../kv_filter_scan/cases.ts";
import { type Calls, FLOATS } from "../testing/fuzz/draw.ts";

export const CALLS: Calls = {
  tkf_filter_step(d) {
    const { layer, spec, queriesSize } = drawSpec(d, d.once(3)), batch = d.size(5);
    const tensors = drawTensors(d, layer, queriesSize, batch, "f32"), { numKvHeads, headDim } = layer;
    const kept_count = Int32Array.of(d.below(batch + 1), 0);
    return {
      spec,
      states: drawStates(d, layer, batch).states,
      cache: drawCache(d, batch, numKvHeads, headDim, d.pick(FLOATS)),
      decisions: {
        ...{ keep: d.flags(batch), kept: d.places(batch, batch), kept_count },
        columns: d.once(2) ? new Float64Array(7 * batch) : null,
      },
      filter_keys: d.once(2) ? tensors.keys : d.floats(batch * numKvHeads * headDim),
      ...tensors,
      positions: d.indices(batch, 40, -1),
      ...{ cache_skipped: d.below(2), filtered: d.once(8) ? 0 : 1 },
    };
  },
};
