/** Random calls of `tkf_machine_measure`: bad ones alone, since a good one takes a second. */
import type { Calls } from "../testing/fuzz/draw.ts";

export const CALLS: Calls = {
  tkf_machine_measure: (d) => ({ out: d.pick([null, new Float64Array(1), new Uint8Array(0)]) }),
};
