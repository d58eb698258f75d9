/** Random calls of `tkf_memory_advise`, and only bad ones of `tkf_machine_measure`: a good one takes a second. */
import type { Calls } from "../testing/fuzz/draw.ts";

export const CALLS: Calls = {
  tkf_memory_advise(d) {
    const size = d.size(10_000);
    return { memory: new Uint8Array(size), size };
  },
  tkf_machine_measure: (d) => ({ out: d.pick([null, new Float64Array(1), new Uint8Array(0)]) }),
};
